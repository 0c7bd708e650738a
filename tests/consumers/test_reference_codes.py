"""Codes, scales and zero points of `linchpin compress` against a second encoder, which is given the importance that
the product measured: none may differ, as both take float32 in the same order and ties are written down."""

import dataclasses
import json

import numpy
import pytest

from support.decoded_outputs import Stored, blocks_of, stored
from support.reference_encoder import encoded, narrowed
from support.source_oracle import (PACKED, READERS, blocks_that_differ, codes_that_differ, gguf_cases, options_of,
                                   packed_cases, rules_claimed, slots_of, sources)


@pytest.fixture(name="source", scope="module")
def source_fixture(linchpin, shared):
    return sources(linchpin, shared)


def check_claims(given, out, rule, asymmetric=False):
    """Every weight has the scales of the rule that the manifest names: the one asked for, or what stands in for
    importance where no token came."""
    claimed = rules_claimed(out)
    instead = "minmax" if asymmetric else "signed"
    for name in given.weights(asymmetric):
        unseen = rule == "importance" and name not in given.importance
        assert claimed[name] == (instead if unseen else rule), name
    return claimed


@pytest.mark.parametrize("model, scheme, rule", packed_cases())
def test_codes_and_scales_are_those_of_a_second_encoder(model, scheme, rule, source, compressed):
    directory, given = source(model, rule)
    out = compressed(directory, *options_of(scheme, rule))
    claimed = check_claims(given, out, rule, PACKED[scheme].asymmetric)
    assert codes_that_differ(given, stored(out), PACKED[scheme], claimed) == {}


@pytest.mark.parametrize("scheme", ["w4a16 64", "asymmetric 64", "fp8"])
def test_equalized_weights_are_coded_by_what_then_enters_them(scheme, source, compressed):
    """Columns are scaled against the norm, and the importance of what the norm gives with it."""
    directory, given = source("llama")
    output = stored(compressed(directory, *options_of(scheme, "importance"), "--equalize"))
    norms = [name for name in given.tensors if ".layers." in name and "layernorm" in name]
    changed, importance, rules = {}, {}, {}
    for norm in norms:
        factors = output[norm].floats() / given.tensors[norm].floats()
        assert set(numpy.log2(factors).tolist()) <= {-2, -1, 0, 1, 2} and (factors != 1).any(), norm
        layer, kind, _ = norm.rsplit(".", 2)
        for name in (f"{layer}.{reader}_proj.weight" for reader in READERS[kind]):
            changed[name] = Stored("F32", given.tensors[name].bits / factors)
            importance[name] = given.importance[name] * factors ** 2
            rules[name] = "importance"
    assert len(changed) == 10
    scaled = dataclasses.replace(given, tensors=changed, importance=importance)
    assert codes_that_differ(scaled, output, PACKED[scheme], rules) == {}


@pytest.mark.parametrize("scheme", ["w4a16 64", "asymmetric 32"])
def test_dense_weights_are_the_codes_of_a_second_encoder(scheme, source, compressed):
    for model in ("llama", "gpt_neox"):
        directory, given = source(model)
        output = stored(compressed(directory, *options_of(scheme, "importance"), "--format", "dense"))
        how = PACKED[scheme]
        for name in given.weights():
            weight = given.tensors[name]
            expected = encoded(weight.floats(), grid=how.grid, kind=weight.kind, group=how.group,
                               rule="importance", asymmetric=how.asymmetric, importance=given.importance[name])
            assert (output[name].floats() == narrowed(expected.values(), weight.kind)).all(), name


@pytest.mark.parametrize("model, scheme, rule", gguf_cases())
def test_blocks_are_those_of_the_encoder_given_what_was_measured(model, scheme, rule, source, compressed):
    """Where nothing is searched they are gguf-py's."""
    directory, given = source(model)
    out = compressed(directory, *options_of(scheme, rule), "--format", "gguf")
    assert blocks_that_differ(slots_of(given, scheme), blocks_of(out / "model.gguf"), rule) == []


@pytest.mark.parametrize("scheme", ["q4_0", "q5_k"])
def test_dense_weights_are_the_blocks_of_gguf(scheme, source, compressed):
    """Row by row, in the order of the checkpoint."""
    directory, given = source("phi3")  # whose rows stay where they are in GGUF
    dense = stored(compressed(directory, *options_of(scheme, "importance"), "--format", "dense"))
    blocks = blocks_of(compressed(directory, *options_of(scheme, "importance"), "--format", "gguf")
                       / "model.gguf")
    names = {"attn_qkv": "self_attn.qkv_proj", "attn_output": "self_attn.o_proj", "ffn_up": "mlp.gate_up_proj"}
    for layer in range(json.loads((directory / "config.json").read_text())["num_hidden_layers"]):
        for theirs, ours in names.items():
            name = f"model.layers.{layer}.{ours}.weight"
            assert (dense[name].floats() == blocks[f"blk.{layer}.{theirs}.weight"].values()).all(), name
