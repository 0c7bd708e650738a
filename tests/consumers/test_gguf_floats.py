"""What a GGUF file that we wrote holds, bit for bit: dequantized by ggml itself, by gguf-py and by our own decoder.

A loss in llama.cpp proves little of that: it rounds what goes into a layer to 8 bits, 32 at a time, and a super
activation leaves its neighbours few of them, so that SmolLM2's loss is hundredths off, on each processor others."""

import json
import subprocess

import gguf
import numpy
import pytest

from support.build import tool
from support.ggml_floats import assert_same_bits, ggml_floats
from support.gguf_models import ARCHITECTURES, converted
from support.smollm2 import smollm2_gguf
from support.wide_models import wide_model

SCHEMES = ["q4_0", "q4_1", "q5_0", "q5_1", "q8_0", "q4_k", "q5_k", "q6_k", "f16", "bf16"]


def ours_of(path, tmp_path):
    """{the file's name: float32 array} of our decoder, which gives tensors as Hugging Face has them."""
    values = tmp_path / "values"
    done = subprocess.run([tool("dump_checkpoint"), path, values], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    document, flat = json.loads(done.stdout), numpy.fromfile(values, numpy.float32)
    values.unlink()
    ends = numpy.cumsum([numpy.prod(shape) for _, shape in document["tensors"]])
    tensors = {name: part.reshape(shape)
               for (name, shape), part in zip(document["tensors"], numpy.split(flat, ends[:-1]))}
    config = document["config"]
    return converted(config, ARCHITECTURES[config["model_type"]], tensors)


def check_floats(path, tmp_path, by_gguf_py=True):
    """The names of the types that the file holds."""
    ours, kinds = ours_of(path, tmp_path), set()
    for tensor in gguf.GGUFReader(path).tensors:
        values = ggml_floats(tensor.data, tensor.tensor_type)
        assert_same_bits(numpy.ascontiguousarray(ours.pop(tensor.name)).reshape(values.shape), values, tensor.name)
        if by_gguf_py:
            theirs = gguf.dequantize(tensor.data, tensor.tensor_type).astype(numpy.float32, copy=False)
            assert_same_bits(theirs, values, tensor.name)
        kinds.add(tensor.tensor_type.name)
    assert not ours
    return kinds


@pytest.mark.parametrize("family, scheme", [
    *(("llama", scheme) for scheme in SCHEMES),
    *((family, scheme) for family in ("phi3", "mixtral", "qwen2_moe") for scheme in ("q5_1", "q4_k", "q6_k"))])
def test_every_type_means_the_same_to_ggml(compressed, tmp_path, family, scheme):
    out = compressed(wide_model(family), "--format", "gguf", "--scheme", scheme)
    assert scheme.upper() in check_floats(out / "model.gguf", tmp_path)


@pytest.mark.parametrize("scheme", ["q4_k", "q5_1"])
def test_a_trained_model_means_the_same_to_ggml(compressed, tmp_path, scheme):
    """Without gguf-py, which takes long for so much."""
    out = compressed(smollm2_gguf(), "--format", "gguf", "--scheme", scheme)
    assert scheme.upper() in check_floats(out / "model.gguf", tmp_path, by_gguf_py=False)


def test_a_block_with_another_scale_is_refused(compressed, tmp_path):
    """The file is not what was decoded: one bit of one block."""
    out = compressed(wide_model("llama"), "--format", "gguf", "--scheme", "q4_k")
    path = tmp_path / "model.gguf"
    path.write_bytes((out / "model.gguf").read_bytes())
    ours = ours_of(path, tmp_path)
    tensor = next(each for each in gguf.GGUFReader(path, "r+").tensors
                  if each.tensor_type == gguf.GGMLQuantizationType.Q4_K)
    tensor.data[3, 5] ^= 1
    with pytest.raises(AssertionError):
        assert_same_bits(ours[tensor.name], ggml_floats(tensor.data, tensor.tensor_type))
