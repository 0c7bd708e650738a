#!/usr/bin/env python3
"""Writes a synthetic llama checkpoint in bf16: random weights, and one super weight planted.

    make_checkpoint.py OUT [--layers 16] [--hidden 2048] [--intermediate 8192] [--vocab 32000]

The default is 2.2 GB in shards with an index.  The planted weight stands at
model.layers.1.mlp.down_proj.weight[ROW, COLUMN]: gate and up rows of its column look along the
embedding of BOS, so that at the first token, and nowhere else, its input is huge.  Needs NumPy.
"""

import argparse
import json
import pathlib
import struct

import numpy as np

BOS, ROW, COLUMN, VALUE = 1, 77, 123, 3.0


def to_bf16(values):
    bits = np.ascontiguousarray(values, np.float32).view(np.uint32)
    return ((bits + 0x7FFF + ((bits >> 16) & 1)) >> 16).astype(np.uint16)


def random_matrix(seed, rows, columns):
    generator = np.random.Generator(np.random.SFC64(seed))
    return generator.standard_normal((rows, columns), np.float32) * np.float32(0.02)


def tensors_of(options):
    """Yields (shard, name, shape, function that makes the values)."""
    hidden, ffn, vocab = options.hidden, options.intermediate, options.vocab
    kv = options.kv_heads * options.head_dim
    attention = options.heads * options.head_dim
    seed = iter(range(1, 1_000_000))
    bos = random_matrix(0, 1, hidden)[0]
    bos /= np.linalg.norm(bos)

    def matrix(shard, name, rows, columns, plant=lambda values: None):
        this_seed = next(seed)

        def make():
            values = random_matrix(this_seed, rows, columns)
            plant(values)
            return values
        return shard, name, [rows, columns], make

    def norm(shard, name):
        return shard, name, [hidden], lambda: np.ones(hidden, np.float32)

    def look_at_bos(values):
        values[COLUMN] = 2 * bos

    def put_bos(values):
        # Large enough to still be the direction of the first token in layer 1.
        values[BOS] = bos * np.float32(5 * hidden ** 0.5)

    def put_super_weight(values):
        values[ROW, COLUMN] = VALUE

    yield matrix(0, "model.embed_tokens.weight", vocab, hidden, put_bos)
    for layer in range(options.layers):
        shard, prefix = layer // options.layers_per_shard, f"model.layers.{layer}."
        planted = layer == 1
        nothing = lambda values: None
        yield norm(shard, prefix + "input_layernorm.weight")
        yield matrix(shard, prefix + "self_attn.q_proj.weight", attention, hidden)
        yield matrix(shard, prefix + "self_attn.k_proj.weight", kv, hidden)
        yield matrix(shard, prefix + "self_attn.v_proj.weight", kv, hidden)
        yield matrix(shard, prefix + "self_attn.o_proj.weight", hidden, attention)
        yield norm(shard, prefix + "post_attention_layernorm.weight")
        looks = look_at_bos if planted else nothing
        yield matrix(shard, prefix + "mlp.gate_proj.weight", ffn, hidden, looks)
        yield matrix(shard, prefix + "mlp.up_proj.weight", ffn, hidden, looks)
        yield matrix(shard, prefix + "mlp.down_proj.weight", hidden, ffn,
                     put_super_weight if planted else nothing)
    last = (options.layers - 1) // options.layers_per_shard
    yield norm(last, "model.norm.weight")
    yield matrix(last, "lm_head.weight", vocab, hidden)


def write_shard(path, tensors):
    header, offset = {"__metadata__": {"format": "pt"}}, 0
    for _, name, shape, _ in tensors:
        end = offset + 2 * int(np.prod(shape))
        header[name] = {"dtype": "BF16", "shape": shape, "data_offsets": [offset, end]}
        offset = end
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    with open(path, "wb") as file:
        file.write(struct.pack("<Q", len(text)) + text)
        for _, _, _, make in tensors:
            file.write(to_bf16(make()).data)
    return offset


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("out", type=pathlib.Path)
    for name, default in (("layers", 16), ("hidden", 2048), ("intermediate", 8192),
                          ("vocab", 32000), ("heads", 32), ("kv_heads", 8),
                          ("layers_per_shard", 6)):
        parser.add_argument("--" + name.replace("_", "-"), type=int, default=default)
    options = parser.parse_args()
    options.head_dim = options.hidden // options.heads
    options.out.mkdir(parents=True)

    tensors = list(tensors_of(options))
    shards = 1 + max(tensor[0] for tensor in tensors)
    weight_map, total = {}, 0
    for shard in range(shards):
        name = f"model-{shard + 1:05}-of-{shards:05}.safetensors"
        mine = [tensor for tensor in tensors if tensor[0] == shard]
        total += write_shard(options.out / name, mine)
        weight_map |= {tensor[1]: name for tensor in mine}
    index = {"metadata": {"total_size": total}, "weight_map": dict(sorted(weight_map.items()))}
    (options.out / "model.safetensors.index.json").write_text(json.dumps(index, indent=2) + "\n")
    config = {
        "architectures": ["LlamaForCausalLM"], "model_type": "llama", "torch_dtype": "bfloat16",
        "hidden_act": "silu", "hidden_size": options.hidden,
        "intermediate_size": options.intermediate, "num_hidden_layers": options.layers,
        "num_attention_heads": options.heads, "num_key_value_heads": options.kv_heads,
        "vocab_size": options.vocab, "max_position_embeddings": 2048, "rms_norm_eps": 1e-5,
        "rope_theta": 10000.0, "tie_word_embeddings": False, "attention_bias": False,
        "mlp_bias": False, "bos_token_id": BOS, "eos_token_id": 2}
    (options.out / "config.json").write_text(json.dumps(config, indent=2) + "\n")
    print(f"{options.out}: {total / 1e9:.2f} GB in {shards} shards, "
          f"super weight at model.layers.1.mlp.down_proj.weight[{ROW}, {COLUMN}]")


if __name__ == "__main__":
    main()
