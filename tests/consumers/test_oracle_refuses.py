"""Outputs that were changed after they were written, which the checks of test_output_against_source and
test_reference_codes must refuse, each of them: where this fails, an encoder could write the same unseen."""

import dataclasses

import gguf
import numpy
import pytest

from support.decoded_outputs import Blocks, Stored, blocks_of, decoded, stored
from support.reference_encoder import narrowed
from support.source_oracle import (PACKED, blocks_that_differ, check_blocks, check_packed, codes_that_differ,
                                   gain_of_importance, options_of, slots_of, sources)
from test_output_against_source import BOUNDS, GAIN, GGUF_BOUNDS

SCHEMES = ("w4a16 128", "asymmetric 128", "w8a16 128", "w8a8", "fp8")
MODELS = ("llama", "mixtral")


@pytest.fixture(name="source", scope="module")
def source_fixture(linchpin, shared):
    return sources(linchpin, shared)


def with_codes(tensors, name, change):
    """The codes of a weight as `change` makes them of those there are, packed as they were."""
    if name in tensors:
        return tensors | {name: Stored(tensors[name].kind, change(tensors[name].bits))}
    found = decoded(tensors, name)
    bits = 4 if found.grid == "pack4" else 8
    codes = (change(found.codes) + (1 << bits - 1)).astype("u4")
    parts = codes.reshape(len(codes), -1, 32 // bits)
    words = sum(parts[:, :, i] << numpy.uint32(bits * i) for i in range(32 // bits))
    return tensors | {name + "_packed": Stored("I32", words.astype("<u4"))}


def with_scales(tensors, name, factor):
    scales = tensors[name + "_scale"]
    values = narrowed(scales.floats() * numpy.float32(factor), scales.kind)
    bits = (values.view("<u4") >> 16).astype("<u2") if scales.kind == "BF16" else values.astype(scales.bits.dtype)
    return tensors | {name + "_scale": Stored(scales.kind, bits)}


# Of one weight; codes of 0 are a zero of every kind.
CHANGES = {"no codes": lambda tensors, name: with_codes(tensors, name, numpy.zeros_like),
           "codes reversed": lambda tensors, name: with_codes(tensors, name, lambda codes: codes[:, ::-1].copy()),
           "rows reversed": lambda tensors, name: with_codes(tensors, name, lambda codes: codes[::-1].copy()),
           "greater scales": lambda tensors, name: with_scales(tensors, name, 1.5),
           "slightly greater scales": lambda tensors, name: with_scales(tensors, name, 1.02)}


def refused(check):
    with pytest.raises(AssertionError):
        check()


@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize("scheme", SCHEMES)
@pytest.mark.parametrize("change", CHANGES)
def test_a_changed_weight_is_refused(model, scheme, change, source, compressed):
    """One of all that there are."""
    how = PACKED[scheme]
    directory, given = source(model)
    output = stored(compressed(directory, *options_of(scheme, "importance")))
    name = max(given.weights(how.asymmetric))
    changed = CHANGES[change](output, name)
    check_packed(given, output, how, BOUNDS[scheme]["importance"])
    refused(lambda: check_packed(given, changed, how, BOUNDS[scheme]["importance"]))
    one = dataclasses.replace(given, tensors={name: given.tensors[name]})
    assert codes_that_differ(one, output, how, {name: "importance"}) == {}
    assert codes_that_differ(one, changed, how, {name: "importance"}).keys() == {name}


@pytest.mark.parametrize("scheme", SCHEMES)
@pytest.mark.parametrize("rule", ["minmax", "mse"])
def test_a_rule_without_importance_is_refused(scheme, rule, source, compressed):
    how = PACKED[scheme]
    directory, given = source("llama")
    output = stored(compressed(directory, *options_of(scheme, rule)))
    assert gain_of_importance(given, output, how) < GAIN["llama"]
    name = max(given.weights())
    one = dataclasses.replace(given, tensors={name: given.tensors[name]})
    assert codes_that_differ(one, output, how, {name: "importance"}).keys() == {name}


@pytest.mark.parametrize("scheme", SCHEMES)
def test_what_is_left_out_or_changed_beside_the_codes_is_refused(scheme, source, compressed):
    how, bounds = PACKED[scheme], BOUNDS[scheme]["importance"]
    directory, given = source("llama")
    output = stored(compressed(directory, *options_of(scheme, "importance")))
    name, norm = max(given.weights()), "model.norm.weight"
    without = {each: tensor for each, tensor in output.items() if not each.startswith(name)}
    kept = without | {name: given.tensors[name]}
    moved = Stored(output[norm].kind, numpy.roll(output[norm].bits, 1))
    for changed in (without, kept, output | {norm: moved}, output | {"more": moved}):
        refused(lambda output=changed: check_packed(given, output, how, bounds))


def every_block(blocks, change):
    size = gguf.GGML_QUANT_SIZES[blocks.kind][1]
    return Blocks(blocks.kind, change(blocks.data.reshape(-1, size).copy()).reshape(blocks.data.shape))


def greater(rows):
    rows[:, :2] = (rows[:, :2].copy().view("<f2") * numpy.float16(1.5)).view("u1")
    return rows


GGUF_CHANGES = {"no codes": lambda blocks: blocks.with_codes(0x88 if blocks.kind.name == "Q4_0" else 0),
                "blocks reversed": lambda blocks: Blocks(blocks.kind, blocks.data[..., ::-1, :].copy()),
                "greater scales": lambda blocks: every_block(blocks, greater)}


@pytest.mark.parametrize("scheme", ["q4_0", "q8_0", "q4_k"])
@pytest.mark.parametrize("change", GGUF_CHANGES)
def test_a_changed_tensor_of_gguf_is_refused(scheme, change, source, compressed):
    directory, given = source("llama")
    slots = slots_of(given, scheme)
    output = blocks_of(compressed(directory, *options_of(scheme, "importance"), "--format", "gguf")
                       / "model.gguf")
    name = "blk.1.ffn_up.weight"
    changed = output | {name: GGUF_CHANGES[change](output[name])}
    bounds = GGUF_BOUNDS[scheme]["importance"]
    check_blocks(slots, output, bounds)
    refused(lambda: check_blocks(slots, changed, bounds))
    one = {name: slots[name]}
    assert blocks_that_differ(one, output, "importance") == []
    assert blocks_that_differ(one, changed, "importance") == [name]


@pytest.mark.parametrize("scheme", ["q4_0", "q4_k"])
def test_blocks_without_importance_are_refused(scheme, source, compressed):
    directory, given = source("llama")
    slots = slots_of(given, scheme)
    searched = [name for name, slot in slots.items() if slot.kind.startswith(("Q4", "Q5"))]
    for rule in ("minmax", "mse"):
        output = blocks_of(compressed(directory, *options_of(scheme, rule), "--format", "gguf") / "model.gguf")
        assert blocks_that_differ(slots, output, "importance") == searched
