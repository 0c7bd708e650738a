#!/usr/bin/env python3
"""Writes a synthetic llama model of 2.2 GB as GGUF in F16: random weights.

    make_gguf.py OUT [--layers 16] [--hidden 2048] [--intermediate 8192] [--vocab 32000]

Needs NumPy and gguf.
"""

import argparse

import gguf
import numpy as np


def matrix(seed, rows, columns):
    generator = np.random.Generator(np.random.SFC64(seed))
    return (generator.standard_normal((rows, columns), np.float32) * np.float32(0.02)).astype(
        np.float16)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("out")
    for name, default in [("layers", 16), ("hidden", 2048), ("intermediate", 8192),
                          ("vocab", 32000)]:
        parser.add_argument(f"--{name}", type=int, default=default)
    options = parser.parse_args()
    hidden, ffn = options.hidden, options.intermediate
    writer = gguf.GGUFWriter(options.out, "llama", use_temp_file=True)
    writer.add_context_length(2048)
    writer.add_embedding_length(hidden)
    writer.add_block_count(options.layers)
    writer.add_feed_forward_length(ffn)
    writer.add_head_count(hidden // 64)
    writer.add_head_count_kv(hidden // 64)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_rope_dimension_count(64)
    writer.add_rope_freq_base(10000.0)
    writer.add_vocab_size(options.vocab)
    writer.add_bos_token_id(1)
    writer.add_tensor("token_embd.weight", matrix(0, options.vocab, hidden))
    writer.add_tensor("output.weight", matrix(1, options.vocab, hidden))
    writer.add_tensor("output_norm.weight", np.ones(hidden, np.float32))
    for layer in range(options.layers):
        seed = 10 * layer + 2
        stem = f"blk.{layer}."
        for norm in ("attn_norm", "ffn_norm"):
            writer.add_tensor(f"{stem}{norm}.weight", np.ones(hidden, np.float32))
        for i, name in enumerate(("attn_q", "attn_k", "attn_v", "attn_output")):
            writer.add_tensor(f"{stem}{name}.weight", matrix(seed + i, hidden, hidden))
        writer.add_tensor(f"{stem}ffn_gate.weight", matrix(seed + 4, ffn, hidden))
        writer.add_tensor(f"{stem}ffn_up.weight", matrix(seed + 5, ffn, hidden))
        writer.add_tensor(f"{stem}ffn_down.weight", matrix(seed + 6, hidden, ffn))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


if __name__ == "__main__":
    main()
