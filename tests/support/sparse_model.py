#!/usr/bin/env python3
"""Writes a llama checkpoint in bf16 whose weights are all zero and take no room on the disk: shards are
sparse files, each with its header and nothing else.  For what depends on a checkpoint's size alone.

    sparse_model.py OUT [--layers N] [--hidden N] [--intermediate N] [--vocab N] [--layers-per-shard N]
"""

import argparse
import json
import pathlib
import struct


def layer_tensors(layer, hidden, intermediate):
    prefix = f"model.layers.{layer}."
    shapes = {"input_layernorm": [hidden], "post_attention_layernorm": [hidden]}
    shapes |= {f"self_attn.{name}_proj": [hidden, hidden] for name in "qkvo"}
    shapes |= {"mlp.gate_proj": [intermediate, hidden], "mlp.up_proj": [intermediate, hidden],
               "mlp.down_proj": [hidden, intermediate]}
    return {f"{prefix}{name}.weight": shape for name, shape in shapes.items()}


def write_shard(path, tensors):
    """Returns the bytes of all tensors."""
    header, offset = {}, 0
    for name, shape in tensors.items():
        end = offset + 2 * shape[0] * (shape[1] if len(shape) > 1 else 1)
        header[name] = {"dtype": "BF16", "shape": shape, "data_offsets": [offset, end]}
        offset = end
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    with open(path, "wb") as file:
        file.write(struct.pack("<Q", len(text)) + text)
        file.truncate(8 + len(text) + offset)
    return offset


def write_sparse_model(directory, layers, hidden=512, intermediate=2048, vocab=1024,
                       layers_per_shard=4):
    """Returns the bytes of all tensors."""
    directory.mkdir(parents=True)
    around = {"model.embed_tokens.weight": [vocab, hidden], "model.norm.weight": [hidden],
              "lm_head.weight": [vocab, hidden]}
    parts = [around]
    for first in range(0, layers, layers_per_shard):
        parts.append({})
        for layer in range(first, min(layers, first + layers_per_shard)):
            parts[-1] |= layer_tensors(layer, hidden, intermediate)
    weight_map, total = {}, 0
    for i, tensors in enumerate(parts):
        name = f"model-{i + 1:05}-of-{len(parts):05}.safetensors"
        total += write_shard(directory / name, tensors)
        weight_map |= {tensor: name for tensor in tensors}
    index = {"metadata": {"total_size": total}, "weight_map": weight_map}
    (directory / "model.safetensors.index.json").write_text(json.dumps(index))
    (directory / "config.json").write_text(json.dumps({
        "architectures": ["LlamaForCausalLM"], "model_type": "llama", "torch_dtype": "bfloat16",
        "hidden_act": "silu", "hidden_size": hidden, "intermediate_size": intermediate,
        "num_hidden_layers": layers, "num_attention_heads": hidden // 64,
        "num_key_value_heads": hidden // 64, "vocab_size": vocab, "max_position_embeddings": 2048,
        "rms_norm_eps": 1e-5, "rope_theta": 10000.0, "tie_word_embeddings": False,
        "bos_token_id": 1, "eos_token_id": 2}))
    return total


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("out", type=pathlib.Path)
    for name, default in (("layers", 60), ("hidden", 5120), ("intermediate", 14336),
                          ("vocab", 32000), ("layers-per-shard", 6)):
        parser.add_argument("--" + name, type=int, default=default)
    options = vars(parser.parse_args())
    total = write_sparse_model(options.pop("out"), **options)
    print(f"{total / 1e9:.1f} GB")


if __name__ == "__main__":
    main()
