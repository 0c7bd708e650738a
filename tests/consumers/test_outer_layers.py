"""Embeddings and output heads in 8 bits, loaded by those who can: transformers with
compressed-tensors, and anyone who reads dense weights."""

import json
import pathlib

import jsonschema
import pytest
from tokenizers import Tokenizer

from support.consumer_codes import check_codes
from support.quantized_models import check_loss, dense, loss_in_transformers, tensors_of

SCHEMA = pathlib.Path(__file__).resolve().parents[2] / "server/artifact/linchpin.schema.json"
UNTIED = ["llama", "gpt_neox", "phi3", "mixtral"]
TIED = ["llama3", "qwen2", "gemma2"]
SCHEMES = {"w4a16": [], "w8a16": ["--scheme", "w8a16"], "w8a8": ["--scheme", "w8a8"],
           "fp8": ["--scheme", "fp8"]}


def quantized(out, source):
    """The names that are 8-bit codes in `out` though no part of a block."""
    tensors = tensors_of(out)
    return {name for name in tensors_of(source)
            if name + "_scale" in tensors and ".layers." not in name and ".h." not in name}


def check(linchpin, source, out, tmp_path, unpack):
    """Unpacked on loading, weights are rounded to the model's dtype and activations not at all: the
    dense model that this file's own code makes of the output is what is then compared."""
    ids = json.loads((source / "expected.json").read_text())["token_ids"]
    assert linchpin.run("verify", out).code == 0
    if not unpack and json.loads((out / "linchpin.json").read_text())["options"]["scheme"] in ("w8a8", "fp8"):
        check_codes(linchpin, out, ids, tmp_path)
        return
    (tmp_path / "tokens.json").write_text(json.dumps([ids]))
    measured = dense(source, out, tmp_path / "dense") if unpack else out
    ours = linchpin("--json", "evaluate", measured, "--tokens", tmp_path / "tokens.json")
    check_loss(out, ids, ours.json["loss"], unpack)


@pytest.mark.parametrize("family, scheme", [
    (family, scheme) for family in UNTIED for scheme in SCHEMES
    if (family, scheme) != ("mixtral", "w8a8")])  # transformers 5 reads no experts in int8
def test_transformers_reads_an_8_bit_head(linchpin, shared, tmp_path, family, scheme):
    source = shared / "oracles/families" / family
    out = tmp_path / "out"
    linchpin("compress", source, out, *SCHEMES[scheme], "--lm-head", "8")
    assert quantized(out, source) == {"embed_out.weight" if family == "gpt_neox"
                                      else "lm_head.weight"}
    check(linchpin, source, out, tmp_path, unpack=False)


@pytest.mark.parametrize("scheme", [scheme for scheme in SCHEMES if scheme != "w4a16"])
@pytest.mark.parametrize("family", UNTIED[:3])
def test_transformers_reads_8_bit_embedding_and_head(linchpin, shared, tmp_path, family, scheme):
    source = shared / "oracles/families" / family
    out = tmp_path / "out"
    linchpin("compress", source, out, *SCHEMES[scheme], "--embeddings", "8", "--lm-head", "8")
    assert len(quantized(out, source)) == 2
    check(linchpin, source, out, tmp_path, unpack=True)


@pytest.mark.parametrize("family", TIED)
@pytest.mark.parametrize("option", ["--embeddings", "--lm-head"])
def test_transformers_reads_a_tensor_that_is_both(linchpin, shared, tmp_path, family, option):
    source = shared / "oracles/families" / family
    out = tmp_path / "out"
    linchpin("compress", source, out, "--scheme", "w8a16", option, "8")
    assert len(quantized(out, source)) == 1
    manifest = json.loads((out / "linchpin.json").read_text())
    jsonschema.Draft202012Validator(json.loads(SCHEMA.read_text())).validate(manifest)
    check(linchpin, source, out, tmp_path, unpack=True)


def test_a_head_that_is_stored_for_both_is_read_as_both(linchpin, shared, tmp_path):
    source = shared / "models/tinystories-656k/bf16"
    out = tmp_path / "out"
    linchpin("compress", source, out, "--scheme", "w8a16", "--embeddings", "8")
    assert quantized(out, source) == {"lm_head.weight"}
    text = (shared / "text/tinystories_sample_cs336.txt").read_text(encoding="utf-8")
    ids = [1] + Tokenizer.from_file(str(source / "tokenizer.json")).encode(
        text, add_special_tokens=False).ids[:199]
    (tmp_path / "tokens.json").write_text(json.dumps([ids]))
    ours = linchpin("--json", "evaluate", dense(source, out, tmp_path / "dense"), "--tokens",
                    tmp_path / "tokens.json").json["loss"]
    assert loss_in_transformers(out, ids, unpack=True) == pytest.approx(ours, abs=1e-3)


def test_what_transformers_would_misread_is_refused(linchpin, shared, tmp_path):
    """It unpacks 4-bit layers and an 8-bit embedding by one scheme: were it written, the loss would
    be another, and no error would say so."""
    tied = shared / "oracles/families/qwen2"
    refused = linchpin.run("compress", tied, tmp_path / "out", "--embeddings", "8")
    assert refused.code == 42
    assert "8 bits beside w4a16" in refused.error and not (tmp_path / "out").exists()


def test_8_bits_cost_next_to_nothing_and_halve_the_tensor(linchpin, shared, tmp_path):
    source = shared / "models/tinystories-656k/bf16"
    text = shared / "text/tinystories_sample_cs336.txt"
    losses, sizes = {}, {}
    for name, options in {"off": [], "on": ["--embeddings", "8"]}.items():
        out = tmp_path / name
        result = linchpin("--json", "compress", source, out, "--format", "dense", *options).json
        losses[name] = linchpin("--json", "evaluate", out, "--text-file", text).json["loss"]
        plan = linchpin("--json", "plan", source, "--scheme", "w8a16", *options).json
        sizes[name] = sum(tensor["bytes_out"] for tensor in plan["tensors"]
                          if tensor["name"] == "lm_head.weight")
        assert result["bytes_out"] == sum(t.nbytes for t in tensors_of(out).values())
    assert losses["on"] == pytest.approx(losses["off"], abs=0.01)
    assert losses["on"] != losses["off"], "it is rounded"
    assert sizes["on"] < 0.52 * sizes["off"]
