"""Every scheme of `linchpin compress`, loaded by transformers with compressed-tensors: families of
all kinds of projections, experts included, and models that were trained.

`linchpin evaluate` of the output must give the loss that transformers gives, and where activations are rounded
each of its layers the codes: then layout, codes and scales, and that rounding, mean to consumers what they mean
to us."""

import json

import pytest
import torch
from tokenizers import Tokenizer

from support.consumer_codes import check_codes
from support.quantized_models import check_loss, dense, tensors_of
from support.wide_models import IDS, wide_model

# The weights of their blocks, all of which become codes.
WEIGHTS = {"llama": 14, "gpt_neox": 8, "phi3": 8, "opt": 12, "mixtral": 26, "qwen2_moe": 38}
FAMILIES = list(WEIGHTS)
EXPERTS = ("mixtral", "qwen2_moe")
GROUPS = ["32", "64", "128", "channel"]
SCHEMES = {
    **{f"w4a16 {g}": ["--group-size", g] for g in GROUPS},
    **{f"asymmetric {g}": ["--asymmetric", "--group-size", g] for g in GROUPS},
    **{f"w8a16 {g}": ["--scheme", "w8a16", "--group-size", g] for g in GROUPS},
    **{f"preserve {p}": ["--preserve", p] for p in ("scale", "none")},
    "w8a8": ["--scheme", "w8a8"], "fp8": ["--scheme", "fp8"],
}
# transformers 5 fuses experts on loading and reads neither of these there.
NOT_FOR_EXPERTS = ("asymmetric", "w8a8")


def ids_of(source, shared, count):
    text = (shared / "text/tinystories_sample_cs336.txt").read_text()[:2000]
    encoder = Tokenizer.from_file(str(source / "tokenizer.json"))
    return [1] + encoder.encode(text, add_special_tokens=False).ids[:count - 1]


def check(linchpin, out, ids, scheme, tmp_path):
    if scheme in ("w8a8", "fp8"):
        check_codes(linchpin, out, ids, tmp_path)
        return
    tokens = tmp_path / "tokens.json"
    tokens.write_text(json.dumps([ids]))
    ours = linchpin("--json", "evaluate", out, "--tokens", tokens).json["loss"]
    # compressed-tensors 0.20 makes room for unpacked zero points only, unless all is unpacked.
    check_loss(out, ids, ours, unpack=scheme.startswith("asymmetric"))


@pytest.mark.parametrize("family, scheme", [
    (family, scheme) for family in FAMILIES for scheme in SCHEMES
    if not (family in EXPERTS and scheme.startswith(NOT_FOR_EXPERTS))])
def test_consumers_read_every_family(linchpin, compressed, tmp_path, family, scheme):
    source = wide_model(family)
    out = compressed(source, *SCHEMES[scheme])
    manifest = json.loads((out / "linchpin.json").read_text())
    quantized = {t["name"] for t in manifest["tensors"] if t["action"] == "quantized"}
    assert len(quantized) == WEIGHTS[family]
    check(linchpin, out, IDS, scheme, tmp_path)


@pytest.mark.parametrize("scheme", ["w4a16 32", "w4a16 channel", "w8a16 32", "preserve scale", "fp8"])
def test_consumers_read_experts_of_16_bits(linchpin, compressed, shared, tmp_path, scheme):
    """They unpack these into BF16 and multiply in it, which moves losses of wider models by more than what is
    allowed here."""
    source = shared / "oracles/families/mixtral"
    ids = json.loads((source / "expected.json").read_text())["token_ids"]
    check(linchpin, compressed(source, *SCHEMES[scheme]), ids, scheme, tmp_path)


@pytest.mark.parametrize("family, longest", [("llama", 32), ("mixtral", 32), ("qwen2_moe", 16)])
def test_a_group_that_does_not_divide_the_rows_is_refused(linchpin, shared, tmp_path, family, longest):
    """The oracles have rows of 96, experts of 48: where a plan can do no better, it takes a row."""
    source = shared / "oracles/families" / family
    for group in GROUPS[:3]:
        finished = linchpin.run("compress", source, tmp_path / group, "--group-size", group)
        assert finished.code == (0 if int(group) <= longest else 42), finished.err
        if finished.code:
            assert f"group size {group} does not divide its rows" in finished.error
            assert "group size auto" in finished.error and not (tmp_path / group).exists()
    tensors = linchpin("--json", "plan", source).json["tensors"]
    sizes = {t["group_size"] for t in tensors if t["quantized"]}
    assert sizes == ({32} if longest == 32 else {48, 64})


@pytest.mark.parametrize("model, scheme", [
    (model, scheme) for model in ("tinystories", "smollm2") for scheme in SCHEMES
    if (model, scheme.split()[-1]) != ("smollm2", "128")])  # 576 = 4.5 x 128
def test_consumers_read_trained_models(linchpin, compressed, shared, smollm2, tmp_path, model, scheme):
    source = smollm2("bf16") if model == "smollm2" else shared / "models/tinystories-656k/bf16"
    out = compressed(source, *SCHEMES[scheme])
    check(linchpin, out, ids_of(source, shared, 32), scheme, tmp_path)


@pytest.mark.parametrize("scheme", ["w8a8", "fp8"])
def test_rounded_activations_are_part_of_the_loss(linchpin, shared, tmp_path, scheme):
    """The same weights with activations as they are give another loss than the one that counts."""
    source = shared / "models/tinystories-656k/bf16"
    linchpin("compress", source, tmp_path / "out", "--scheme", scheme)
    dense(source, tmp_path / "out", tmp_path / "dense")
    (tmp_path / "tokens.json").write_text(json.dumps([ids_of(source, shared, 256)]))
    losses = [linchpin("--json", "evaluate", tmp_path / name, "--tokens", tmp_path / "tokens.json")
              .json["loss"] for name in ("out", "dense")]
    assert abs(losses[0] - losses[1]) > 1e-4, losses


def test_outputs_are_measured_against_their_source(linchpin, compressed, shared):
    source = shared / "models/tinystories-656k/bf16"
    text = shared / "text/tinystories_sample_cs336.txt"
    divergence = {}
    for scheme in ("w4a16 32", "w8a16 32"):
        out = compressed(source, *SCHEMES[scheme])
        against = linchpin("--json", "evaluate", out, "--against", source, "--text-file", text,
                           "--windows", 1).json["against"]
        divergence[scheme] = against["kl"]
    assert 0 < divergence["w8a16 32"] < 0.1 * divergence["w4a16 32"]


def test_a_compressed_model_is_not_compressed_again(linchpin, shared, tmp_path):
    source = shared / "models/tinystories-656k/bf16"
    for scheme in ("w4a16", "w8a8"):
        linchpin("compress", source, tmp_path / scheme, "--scheme", scheme)
        for options in ([], ["--detection", "off"], ["--format", "dense"]):
            again = linchpin.run("compress", tmp_path / scheme, tmp_path / "again", *options)
            assert again.code == 42 and "already quantized" in again.error, (options, again.err)


def test_w8a8_is_what_llm_compressor_writes(linchpin, shared, tmp_path):
    source = shared / "models/tinystories-656k/bf16"
    linchpin("compress", source, tmp_path / "out", "--scheme", "w8a8", "--scale", "minmax",
             "--preserve", "none")
    weights = tensors_of(source)
    ours = tensors_of(tmp_path / "out")
    theirs = tensors_of(shared / "oracles/llm-compressor/tinystories-656k-bf16-w8a8")
    assert {n: (t.dtype, t.shape) for n, t in ours.items()} == {
        n: (t.dtype, t.shape) for n, t in theirs.items()}
    for name, tensor in ours.items():
        if tensor.dtype == torch.int8:
            # They divide in bf16, which puts a tenth of the codes one step off.
            weight, scale = weights[name], ours[name + "_scale"]
            for codes, kind in ((theirs[name], torch.bfloat16), (tensor, torch.float32)):
                quotient = (weight.to(kind) / scale.to(kind)).float()
                assert torch.equal(codes.float(), quotient.round().clamp(-128, 127)), (name, kind)
        else:
            assert torch.equal(tensor, theirs[name]), name


def test_the_defaults_spend_no_bytes_on_importance(linchpin, shared, tmp_path):
    source = shared / "models/tinystories-656k/bf16"
    sizes = set()
    for scale in ("importance", "signed", "minmax", "mse"):
        linchpin("compress", source, tmp_path / scale, "--scale", scale)
        sizes.add((tmp_path / scale / "model.safetensors").stat().st_size)
        manifest = json.loads((tmp_path / scale / "linchpin.json").read_text())
        assert (manifest["calibration"] is not None) == (scale == "importance")
    assert len(sizes) == 1
