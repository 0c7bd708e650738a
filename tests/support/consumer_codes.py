"""An output whose activations are rounded, as transformers with compressed-tensors runs it and as we do: the codes
of every layer.

Losses cannot be compared there: a code that falls on the other side of a tie moves many after it, so that the
consumer's own loss moves with the order of additions, in most models by more than all rounding of activations
changes it (16 draws of SmolLM2 in w8a8 span 0.1 nats, of a single layer of tinystories 0.008)."""

import json

import pytest
import torch
from compressed_tensors.quantization.lifecycle.forward import quantize
from compressed_tensors.quantization.utils import compute_dynamic_scales_and_zp

from support.linear_inputs import farthest, off_ties, run_on_inputs
from support.quantized_models import load_in_transformers, loss_of

# Of a token's largest input.  What we have is up to 7e-6 from what they have, of SmolLM2; were one layer's
# activations not rounded, what comes after it would be off by 3e-3 and more.
CLOSE = 5e-5


def linears_of(model):
    """(weight as it is stored, module): transformers calls gpt_neox's head otherwise than its files do."""
    head = {"lm_head": "embed_out"} if model.config.model_type == "gpt_neox" else {}
    for name, module in model.named_modules():
        if isinstance(module, torch.nn.Linear):
            yield head.get(name, name) + ".weight", module


def inputs_of(model, ids):
    """{weight: what goes into its layer, as transformers has it} and the loss."""
    inputs, hooks = {}, []
    for name, module in linears_of(model):
        hooks.append(module.register_forward_pre_hook(
            lambda _module, given, name=name: inputs.update({name: given[0].clone()})))
    loss = loss_of(model, ids)
    for hook in hooks:
        hook.remove()
    return inputs, loss


def rounded_layers(model):
    """{weight: module} of those whose input the consumer rounds."""
    return {name: module for name, module in linears_of(model)
            if getattr(getattr(module, "quantization_scheme", None), "input_activations", None)}


def codes_of(module, x):
    """(codes, what was rounded to them, their scale), by compressed-tensors."""
    args = module.quantization_scheme.input_activations
    scale, zero = compute_dynamic_scales_and_zp(x, args, module)
    codes = quantize(x, scale, zero, args)
    return [each.flatten(0, -2).float() for each in (codes, x / scale, scale.expand(x.shape))]


def check_layers(out, ids, directory, model=None):
    """Every layer, given what it has in transformers, rounds that to the same codes, and what it makes of them is
    what the next layers have there.  `model`: what we run in place of the output."""
    network = load_in_transformers(out, unpack=False)
    given, loss = inputs_of(network, ids)
    flat = {name: x.flatten(0, -2) for name, x in given.items()}
    ours = run_on_inputs(model or out, ids, flat, directory)
    rounded = rounded_layers(network)
    assert rounded and rounded.keys() <= ours.seen.keys()
    total = differing = 0
    for name in given.keys() & ours.seen.keys():
        assert farthest(ours.own[name], flat[name]) < CLOSE, name
        if name not in rounded:
            assert torch.equal(ours.seen[name], flat[name]), name
            continue
        codes, quotients, scale = codes_of(rounded[name], given[name])
        far, differ = off_ties(ours.seen[name] / scale, codes, quotients)
        assert far == 0, name
        total, differing = total + codes.numel(), differing + differ
    assert differing < 1e-4 * total, (differing, total)
    assert ours.loss == pytest.approx(loss, abs=CLOSE)


def check_evaluated(linchpin, out, ids, directory, model=None):
    """`evaluate` runs the layers that were looked at: nothing given, they have its loss."""
    ours = run_on_inputs(model or out, ids, {}, directory)
    (directory / "tokens.json").write_text(json.dumps([ids]))
    evaluated = linchpin("--json", "evaluate", out, "--tokens", directory / "tokens.json").json
    assert evaluated["loss"] == pytest.approx(ours.loss, abs=1e-6)


def check_codes(linchpin, out, ids, tmp_path):
    check_layers(out, ids, tmp_path / "on-inputs")
    check_evaluated(linchpin, out, ids, tmp_path / "alone")
