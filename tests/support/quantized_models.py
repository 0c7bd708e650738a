"""Reads compressed-tensors models by this file's own code, and runs them in transformers."""

import os
import shutil

os.environ["TQDM_DISABLE"] = "1"  # before the libraries below read it

import torch
from safetensors import safe_open
from safetensors.torch import save_file
from transformers import AutoModelForCausalLM
from transformers.utils.quantization_config import CompressedTensorsConfig


def tensors_of(directory):
    tensors = {}
    for shard in sorted(directory.glob("*.safetensors")):
        with safe_open(shard, "pt") as file:
            tensors |= {name: file.get_tensor(name) for name in file.keys()}
    return tensors


def unpacked(words, bits, count, dim):
    """I32 words to signed codes, `count` of them along `dim`, the first in the lowest bits."""
    parts = [(words >> bits * i) & ((1 << bits) - 1) for i in range(32 // bits)]
    codes = torch.stack(parts, dim + 1).flatten(dim, dim + 1) - (1 << bits - 1)
    return codes.narrow(dim, 0, count)


def restored(tensors, name):
    """One weight in float32, from what stands in its place."""
    scale = tensors[name + "_scale"].float()
    if name in tensors:
        codes = tensors[name].float()
    else:
        rows, columns = tensors[name + "_shape"].tolist()
        bits = 32 * tensors[name + "_packed"].shape[1] // columns
        codes = unpacked(tensors[name + "_packed"], bits, columns, 1).float()
        if name + "_zero_point" in tensors:
            zeros = unpacked(tensors[name + "_zero_point"], bits, rows, 0).float()
            codes = codes - zeros.repeat_interleave(columns // zeros.shape[1], 1)
    return codes * scale.repeat_interleave(codes.shape[1] // scale.shape[1], 1)


def dense(source, compressed, out):
    """The source with every weight as the compressed model has it, as a checkpoint."""
    tensors = tensors_of(compressed)
    out.mkdir()
    shutil.copy(source / "config.json", out)
    weights = {}
    for name in tensors_of(source):
        plain = name in tensors and name + "_scale" not in tensors
        weights[name] = tensors[name].float() if plain else restored(tensors, name)
    save_file(weights, out / "model.safetensors", metadata={"format": "pt"})
    return out


def load_in_transformers(directory, unpack):
    """In float32, every tensor used and none missing."""
    options = {"quantization_config": CompressedTensorsConfig(dequantize=True)} if unpack else {}
    model, info = AutoModelForCausalLM.from_pretrained(
        directory, dtype=torch.float32, output_loading_info=True, **options)
    for kind in ("missing_keys", "unexpected_keys", "mismatched_keys", "error_msgs"):
        assert not info.get(kind), (kind, info[kind])
    return model.eval()


def loss_of(model, ids):
    tokens = torch.tensor([ids])
    with torch.no_grad():
        logits = model(tokens, use_cache=False).logits[0, :-1]
    return torch.nn.functional.cross_entropy(logits, tokens[0, 1:]).item()


def loss_in_transformers(directory, ids, unpack):
    return loss_of(load_in_transformers(directory, unpack), ids)


def check_loss(directory, ids, ours, unpack=False):
    """`ours` is the loss in transformers within 1e-3.

    Not of a model whose activations are rounded, whose loss is partly chance: consumer_codes.py has its oracle."""
    model = load_in_transformers(directory, unpack)
    rounded = [name for name, module in model.named_modules()
               if getattr(getattr(module, "quantization_scheme", None), "input_activations", None)]
    assert not rounded or unpack, rounded
    theirs = loss_of(model, ids)
    print(f"ours {ours:.5f}, transformers {theirs:.5f}")
    assert abs(theirs - ours) <= 1e-3
