"""Our blocks against those of ggml itself: the bytes where we round, the error where we search.

ggml's own quantizer is called in the library that the npm package node-llama-cpp brings.
"""

import ctypes
import subprocess

import gguf
import numpy
import pytest

from support.build import tool
from support.llama_cpp import ggml_library
from support.smollm2 import smollm2_gguf

ROUNDED = ["Q8_0", "Q4_0", "Q4_1", "Q5_0", "Q5_1"]
SUPER = ["Q4_K", "Q5_K", "Q6_K"]
TENSORS = ["blk.11.ffn_down.weight", "blk.0.attn_q.weight", "blk.17.ffn_up.weight",
           "blk.29.attn_output.weight"]


@pytest.fixture(scope="module", name="ggml")
def ggml_quantizer():
    """(values, type, importance or None) -> blocks, by ggml."""
    quantize = ctypes.CDLL(str(ggml_library())).ggml_quantize_chunk
    quantize.restype = ctypes.c_size_t
    quantize.argtypes = [ctypes.c_int, ctypes.c_void_p, ctypes.c_void_p, ctypes.c_int64,
                         ctypes.c_int64, ctypes.c_int64, ctypes.c_void_p]

    def call(values, name, importance=None):
        kind = gguf.GGMLQuantizationType[name]
        elements, size = gguf.GGML_QUANT_SIZES[kind]
        rows, columns = values.shape
        blocks = numpy.zeros((rows, columns // elements * size), numpy.uint8)
        weights = None if importance is None else importance.ctypes.data
        quantize(int(kind), values.ctypes.data, blocks.ctypes.data, 0, rows, columns, weights)
        return blocks

    return call


def encode(values, name, tmp_path, importance=None):
    values.tofile(tmp_path / "values")
    command = [tool("encode_blocks"), name, str(values.shape[1]), tmp_path / "values",
               tmp_path / "blocks"]
    if importance is not None:
        importance.tofile(tmp_path / "importance")
        command.append(tmp_path / "importance")
    result = subprocess.run(command, capture_output=True, check=True)
    blocks = numpy.fromfile(tmp_path / "blocks", numpy.uint8).reshape(len(values), -1)
    return blocks, float(result.stdout)


def rms_error(values, blocks, name, weights=1.0):
    read = gguf.dequantize(blocks, gguf.GGMLQuantizationType[name])
    assert read.shape == values.shape
    return float(numpy.sqrt(numpy.mean(weights * (read.astype(numpy.float64) - values) ** 2)))


def real_weights(name):
    """256 rows of a matrix of SmolLM2, moved off the grid that the file has them on."""
    tensor, = (each for each in gguf.GGUFReader(smollm2_gguf()).tensors if each.name == name)
    values = gguf.dequantize(tensor.data, tensor.tensor_type)
    steps = numpy.abs(values).mean(axis=1, keepdims=True) * 0.1
    values = values + numpy.random.default_rng(7).uniform(-1, 1, values.shape) * steps
    columns = values.shape[1] // 256 * 256
    return numpy.ascontiguousarray(values[:256, :columns], numpy.float32)


def random_weights(seed):
    """As models have them, a few far out."""
    random = numpy.random.default_rng(seed)
    values = random.normal(0, 0.02, (64, 1024))
    values[random.random(values.shape) < 0.002] *= 30
    return values.astype(numpy.float32)


def importance_of(columns):
    return numpy.exp(numpy.random.default_rng(3).normal(0, 1.5, columns)).astype(numpy.float32)


@pytest.mark.parametrize("name", ROUNDED)
def test_rounding_gives_the_bytes_of_ggml(name, ggml, tmp_path):
    for values in [random_weights(1), real_weights(TENSORS[0])]:
        blocks, error = encode(values, name, tmp_path)
        numpy.testing.assert_array_equal(blocks, ggml(values, name))
        assert error == pytest.approx(rms_error(values, blocks, name), rel=1e-4)


@pytest.mark.parametrize("name", ["Q4_0", "Q4_1", "Q5_0", "Q5_1"] + SUPER)
def test_the_search_by_importance_is_no_worse_than_that_of_ggml(name, ggml, tmp_path):
    for values in [random_weights(2)] + [real_weights(tensor) for tensor in TENSORS]:
        importance = importance_of(values.shape[1])
        blocks, error = encode(values, name, tmp_path, importance)
        theirs = rms_error(values, ggml(values, name, importance), name, importance)
        assert rms_error(values, blocks, name, importance) <= theirs
        assert error == pytest.approx(rms_error(values, blocks, name), rel=1e-4)


@pytest.mark.parametrize("name", SUPER)
def test_the_search_without_importance_is_no_worse_than_that_of_ggml(name, ggml, tmp_path):
    for values in [random_weights(2)] + [real_weights(tensor) for tensor in TENSORS]:
        blocks, error = encode(values, name, tmp_path)
        assert error == pytest.approx(rms_error(values, blocks, name), rel=1e-4)
        assert rms_error(values, blocks, name) <= rms_error(values, ggml(values, name), name)
