"""Reads what `linchpin compress` wrote by NumPy alone: none of the product's code, nor of a consumer's.

    stored(directory)             {name: Stored} of all safetensors files
    decoded(tensors, name)        the Decoded that stands in place of a weight in compressed-tensors
    blocks_of(path)               {name: Blocks} of a GGUF file, whose values and ends are gguf-py's
    grid_misses(weight, decoded)  elements that are not on their nearest code
"""

import dataclasses
import json

import gguf
import numpy

KINDS = {"F32": "<f4", "F16": "<f2", "BF16": "<u2", "I8": "i1", "U8": "u1", "F8_E4M3": "u1", "I32": "<u4",
         "I64": "<i8"}


@dataclasses.dataclass
class Stored:
    """One tensor as its bytes lie in the file: BF16 and F8_E4M3 as their bits."""
    kind: str
    bits: numpy.ndarray

    def floats(self):
        if self.kind == "BF16":
            return (self.bits.astype("u4") << 16).view("f4")
        if self.kind == "F8_E4M3":
            return FLOAT8[self.bits]
        return self.bits.astype("f4")

    def __eq__(self, other):
        return (self.kind == other.kind and self.bits.shape == other.bits.shape
                and self.bits.tobytes() == other.bits.tobytes())


def float8(code):
    """E4M3 without infinities: a sign, four bits of exponent, three of fraction."""
    exponent, fraction = code >> 3 & 15, code & 7
    if code & 127 == 127:
        return numpy.nan
    size = fraction / 512 if exponent == 0 else (1 + fraction / 8) * 2.0 ** (exponent - 7)
    return -size if code & 128 else size


FLOAT8 = numpy.array([float8(code) for code in range(256)], "f4")
GRIDS = {"pack4": numpy.arange(-8.0, 8), "pack8": numpy.arange(-128.0, 128),
         "int8": numpy.arange(-128.0, 128), "float8": numpy.unique(FLOAT8[numpy.isfinite(FLOAT8)])}


def stored_in(path):
    content = path.read_bytes()
    length = int.from_bytes(content[:8], "little")
    tensors = {}
    for name, entry in json.loads(content[8:8 + length]).items():
        if name != "__metadata__":
            begin, end = (8 + length + offset for offset in entry["data_offsets"])
            values = numpy.frombuffer(content[begin:end], KINDS[entry["dtype"]])
            tensors[name] = Stored(entry["dtype"], values.reshape(entry["shape"]))
    return tensors


def stored(directory):
    tensors = {}
    for path in sorted(directory.glob("*.safetensors")):
        tensors |= stored_in(path)
    return tensors


@dataclasses.dataclass
class Decoded:
    """(code - zero) scale, groups side by side in a row."""
    grid: str  # of GRIDS
    codes: numpy.ndarray   # [rows, columns]: what is multiplied, before the zero is taken off
    scales: numpy.ndarray  # [rows, groups]
    zeros: numpy.ndarray   # likewise

    def per_element(self, of_groups):
        return numpy.repeat(of_groups, self.codes.shape[1] // of_groups.shape[1], 1)

    def values(self):
        return (self.codes - self.per_element(self.zeros)) * self.per_element(self.scales)


def unpacked(words, bits, count, axis):
    """Words of 32 bits to signed codes along `axis`, the first in the lowest bits; so many there are."""
    parts = numpy.stack([words >> bits * i & (1 << bits) - 1 for i in range(32 // bits)], axis + 1)
    shape = list(words.shape)
    shape[axis] *= 32 // bits
    codes = parts.reshape(shape).astype("f4") - (1 << bits - 1)
    return codes.take(range(count), axis)


def decoded(tensors, name):
    scales = tensors[name + "_scale"].floats()
    zeros = numpy.zeros_like(scales)
    if name in tensors:
        grid = {"I8": "int8", "F8_E4M3": "float8"}[tensors[name].kind]
        return Decoded(grid, tensors[name].floats(), scales, zeros)
    rows, columns = tensors[name + "_shape"].bits.tolist()
    words = tensors[name + "_packed"].bits
    bits = 32 * words.shape[1] // columns
    if name + "_zero_point" in tensors:
        zeros = unpacked(tensors[name + "_zero_point"].bits, bits, rows, 0)
    return Decoded(f"pack{bits}", unpacked(words, bits, columns, 1), scales, zeros)


def grid_misses(weight, found):
    """How many elements are further from their code than from another: within half a step each is but where
    it is beyond an end of the codes, and then on that end."""
    grid = GRIDS[found.grid]
    places = weight.astype("f8") / found.per_element(found.scales) + found.per_element(found.zeros)
    least = numpy.abs(places - grid[numpy.searchsorted((grid[1:] + grid[:-1]) / 2, places)])
    off = numpy.abs(places - found.codes)
    return int(numpy.count_nonzero(~(off <= least + 1e-5 * numpy.maximum(1, numpy.abs(places)))))


@dataclasses.dataclass
class Blocks:
    """A tensor of a GGUF file."""
    kind: gguf.GGMLQuantizationType
    data: numpy.ndarray  # of bytes, the last axis a row's

    def values(self):
        return gguf.dequantize(self.data, self.kind)

    def with_codes(self, byte):
        """The same scales, every byte of the codes another."""
        size = gguf.GGML_QUANT_SIZES[self.kind][1]
        blocks = self.data.reshape(-1, size).copy()
        for first, last in CODES[self.kind.name]:
            blocks[:, first:last] = byte
        return Blocks(self.kind, blocks.reshape(self.data.shape))

    def misses(self, weight):
        """As grid_misses: between the ends of a block a weight is within half a step of what is read.  A little
        more, as ggml rounds by scales and least values that it then narrows to F16."""
        ends = [self.with_codes(byte).values() for byte in ENDS.get(self.kind.name, (0, 255))]
        low, high = numpy.minimum(*ends), numpy.maximum(*ends)
        steps = (high - low) / STEPS[self.kind.name]
        slack = 0.501 * steps + 2.0 ** -11 * (numpy.abs(weight) + 2 * numpy.maximum(-low, high))
        nearest = numpy.clip(weight, low, high)
        return int(numpy.count_nonzero(~(numpy.abs(self.values() - nearest) <= slack)))


# Where the codes lie in a block, and how many steps lie between their ends.
CODES = {"Q4_0": [(2, 18)], "Q4_1": [(4, 20)], "Q5_0": [(2, 22)], "Q5_1": [(4, 24)], "Q8_0": [(2, 34)],
         "Q4_K": [(16, 144)], "Q5_K": [(16, 176)], "Q6_K": [(0, 192)]}
ENDS = {"Q8_0": (0x81, 0x7f)}
STEPS = {"Q4_0": 15, "Q4_1": 15, "Q5_0": 31, "Q5_1": 31, "Q8_0": 254, "Q4_K": 15, "Q5_K": 31, "Q6_K": 63}


def blocks_of(path):
    return {tensor.name: Blocks(tensor.tensor_type, numpy.array(tensor.data))
            for tensor in gguf.GGUFReader(path).tensors}
