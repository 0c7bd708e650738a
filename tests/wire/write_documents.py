#!/usr/bin/env python3
"""Writes a tiny model, and what the programs in $LINCHPIN_BIN make of it (tests/wire/README.md).

    write_documents.py OUT

OUT/model       a llama of two layers in as many shards, with a super weight, the same whenever it is written
OUT/outputs/    compressed models: w4a16, gguf, dense, equalized
OUT/job/        a compression in parts in an object store: job.json, prepared, the first of two shards done
OUT/killed/     beside an output that is not there: what a server left that was killed before it was done
OUT/losses.json what `evaluate` says of the outputs
"""

import contextlib
import json
import os
import pathlib
import shutil
import sys
import tempfile

import numpy
import torch
from safetensors.torch import save_file

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))
from conftest import CommandLine, Server  # noqa: E402  (the path comes first)
from support.directories import digests  # noqa: E402
from support.gated_store import CREDENTIALS, GatedStore  # noqa: E402
from support.gguf_models import write_gguf  # noqa: E402
from wire.documents import DESTINATION, KEY, KILLED, OUTPUTS, SOURCE, losses, put_source  # noqa: E402

HIDDEN, INTERMEDIATE, LAYERS, VOCABULARY, HEADS, KEYS = 32, 32, 2, 48, 4, 2
BOS, ROW, COLUMN = 1, 7, 23  # the super weight stands at [ROW, COLUMN] of the first down_proj
CONFIG = {
    "architectures": ["LlamaForCausalLM"], "model_type": "llama", "torch_dtype": "bfloat16",
    "hidden_act": "silu", "hidden_size": HIDDEN, "intermediate_size": INTERMEDIATE,
    "num_hidden_layers": LAYERS, "num_attention_heads": HEADS, "num_key_value_heads": KEYS,
    "vocab_size": VOCABULARY, "max_position_embeddings": 128, "rms_norm_eps": 1e-5,
    "rope_theta": 10000.0, "tie_word_embeddings": True, "bos_token_id": BOS, "eos_token_id": 2}


def shards_of_the_model():
    """What each file has: {name: values}."""
    generator = numpy.random.Generator(numpy.random.SFC64(13))

    def matrix(rows, columns):
        return generator.standard_normal((rows, columns), numpy.float32) * numpy.float32(0.05)

    def layer(number):
        keys, norm = HIDDEN // HEADS * KEYS, numpy.ones(HIDDEN, numpy.float32)
        tensors = {"input_layernorm": norm, "post_attention_layernorm": norm}
        tensors |= {f"self_attn.{name}_proj": matrix(rows, HIDDEN) for name, rows in
                    (("q", HIDDEN), ("k", keys), ("v", keys), ("o", HIDDEN))}
        tensors |= {"mlp.gate_proj": matrix(INTERMEDIATE, HIDDEN), "mlp.up_proj": matrix(INTERMEDIATE, HIDDEN),
                    "mlp.down_proj": matrix(HIDDEN, INTERMEDIATE)}
        return {f"model.layers.{number}.{name}.weight": values for name, values in tensors.items()}

    bos = generator.standard_normal(HIDDEN, numpy.float32)
    bos /= numpy.linalg.norm(bos)
    embedding = matrix(VOCABULARY, HIDDEN)
    embedding[BOS] = bos * numpy.float32(5 * HIDDEN ** 0.5)
    first, second = map(layer, range(LAYERS))
    for name in ("gate", "up"):  # at the first token, and nowhere else, the input is huge
        first[f"model.layers.0.mlp.{name}_proj.weight"][COLUMN] = 2 * bos
    first["model.layers.0.mlp.down_proj.weight"][ROW, COLUMN] = 3
    return [{"model.embed_tokens.weight": embedding} | first,
            second | {"model.norm.weight": numpy.ones(HIDDEN, numpy.float32)}]


def write_model(directory):
    directory.mkdir(parents=True)
    shards, weight_map = shards_of_the_model(), {}
    for number, tensors in enumerate(shards, 1):
        name = f"model-{number:05}-of-{len(shards):05}.safetensors"
        weight_map |= dict.fromkeys(tensors, name)
        save_file({key: torch.from_numpy(values).to(torch.bfloat16) for key, values in tensors.items()},
                  directory / name)
    total = sum(2 * values.size for tensors in shards for values in tensors.values())
    index = {"metadata": {"total_size": total}, "weight_map": weight_map}
    (directory / "model.safetensors.index.json").write_text(json.dumps(index, indent=1) + "\n")
    (directory / "config.json").write_text(json.dumps(CONFIG, indent=1) + "\n")


def write_outputs(out, linchpin, place):
    (out / "outputs").mkdir()
    write_gguf(out / "model", place / "donor.gguf", "F16")
    for name, options in OUTPUTS.items():
        donor = ["--gguf-donor", place / "donor.gguf"] if name == "gguf" else []
        linchpin("compress", out / "model", out / "outputs" / name, *options, *donor)
    said = losses(linchpin, out / "outputs", place)
    (out / "losses.json").write_text(json.dumps(said, indent=1) + "\n")


def write_job(out, store, server):
    """A plan, what it found, and the first of two shards."""
    linchpin = CommandLine("--quiet", "--endpoint", server.endpoint)
    (out / "job").mkdir()
    job = out / "job/job.json"
    linchpin("plan", SOURCE, DESTINATION, "--save", job)
    linchpin("compress-shard", "--plan", job, "--index", 0)
    for name, data in store.objects(KEY).items():
        # What was read of the source is kept there to save requests alone, and is large.
        if name.startswith("out.") and "-source/" not in name:
            place = out / "job" / name
            place.parent.mkdir(exist_ok=True)
            place.write_bytes(data)


def write_killed(out, store, server, place):
    """Killed when all weights were written, and it was to ask once more whether the source is still the same."""
    store.gate.forget()
    store.gate.hold(lambda request: request.method == "HEAD" and "/model-00001" in request.path
                    and request.nth == 6)
    linchpin = CommandLine("--quiet", "--endpoint", server.endpoint)
    running = linchpin.start("compress", SOURCE, place / "out", *KILLED)
    assert store.gate.await_held(or_ended=lambda: running.poll() is not None), running.communicate()
    server.process.kill()
    running.communicate()
    (left,) = place.glob(".out.linchpin-*")
    shutil.copytree(left, out / "killed" / left.name)


def main(out):
    out = pathlib.Path(out).resolve()
    shutil.rmtree(out, ignore_errors=True)
    write_model(out / "model")
    os.environ |= CREDENTIALS
    with tempfile.TemporaryDirectory() as name:
        place = pathlib.Path(name)
        write_outputs(out, CommandLine("--quiet"), place)
        with contextlib.closing(GatedStore(place / "store")) as store:
            put_source(store, out / "model")
            server = Server(place / "log", "--write-root", place, "--threads", "1",
                            *store.options(f"s3://models/{KEY}"))
            try:
                write_job(out, store, server)
                write_killed(out, store, server, place)
            finally:
                server.process.kill()
    print(sum(path.stat().st_size for path in out.rglob("*") if path.is_file()), "bytes,",
          len(digests(out)), "files")


if __name__ == "__main__":
    main(*sys.argv[1:])
