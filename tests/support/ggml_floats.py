"""What the blocks of a GGUF file are as float32, by ggml itself: its own functions, called in the library that the
npm package node-llama-cpp brings."""

import ctypes
import functools

import gguf
import numpy

from support.llama_cpp import ggml_library


class TypeTraits(ctypes.Structure):
    """The first fields of ggml_type_traits (ggml.h)."""
    _fields_ = [("name", ctypes.c_char_p), ("elements", ctypes.c_int64),
                ("interleaved", ctypes.c_int64), ("bytes", ctypes.c_size_t),
                ("quantized", ctypes.c_bool),
                ("to_float", ctypes.CFUNCTYPE(None, ctypes.c_void_p, ctypes.c_void_p,
                                              ctypes.c_int64))]


@functools.cache
def traits_of(kind):
    find = ctypes.CDLL(str(ggml_library())).ggml_get_type_traits
    find.restype, find.argtypes = ctypes.POINTER(TypeTraits), [ctypes.c_int]
    traits = find(int(kind)).contents
    assert traits.name.decode().lower() == kind.name.lower()
    assert (traits.elements, traits.bytes) == gguf.GGML_QUANT_SIZES[kind]
    return traits


def ggml_floats(data, kind):
    """`data`, rows of blocks of any shape, as rows of float32."""
    if kind == gguf.GGMLQuantizationType.F32:
        return numpy.asarray(data)
    elements, size = gguf.GGML_QUANT_SIZES[kind]
    data = numpy.ascontiguousarray(data)
    values = numpy.empty((*data.shape[:-1], data.shape[-1] * data.itemsize // size * elements), numpy.float32)
    traits_of(kind).to_float(data.ctypes.data, values.ctypes.data, values.size)
    return values


def assert_same_bits(ours, theirs, where=""):
    """Bit for bit, but that any NaN is as good as another."""
    assert ours.shape == theirs.shape, where
    same = ours.view(numpy.uint32) == theirs.view(numpy.uint32)
    assert numpy.all(same | (numpy.isnan(ours) & numpy.isnan(theirs))), where
