"""Every scheme of `linchpin compress`, loaded by transformers with compressed-tensors: all families
of projections, experts included.

The loss must be that of the same weights read by this file's own code and run by `linchpin
evaluate`: then layout, codes and scales mean to consumers what they mean to us."""

import json

import pytest
import torch
from tokenizers import Tokenizer

from support.quantized_models import dense, loss_in_transformers, tensors_of

FAMILIES = ["llama", "gpt_neox", "phi3", "mixtral", "qwen2_moe"]
EXPERTS = ("mixtral", "qwen2_moe")
SCHEMES = {
    "w4a16": [], "w4a16 signed per channel": ["--scale", "signed", "--group-size", "channel"],
    "w8a16": ["--scheme", "w8a16"], "w8a8": ["--scheme", "w8a8"], "fp8": ["--scheme", "fp8"],
    "asymmetric": ["--asymmetric"],
}


# transformers 5 fuses experts on loading and reads neither of these there.
NOT_FOR_EXPERTS = ("asymmetric", "w8a8")


@pytest.mark.parametrize("family, scheme", [
    (family, scheme) for family in FAMILIES for scheme in SCHEMES
    if not (family in EXPERTS and scheme in NOT_FOR_EXPERTS)])
def test_consumers_read_what_we_wrote(linchpin, shared, tmp_path, family, scheme):
    source = shared / "oracles/families" / family
    out = tmp_path / "out"
    linchpin("compress", source, out, *SCHEMES[scheme])
    manifest = json.loads((out / "linchpin.json").read_text())
    quantized = [t["name"] for t in manifest["tensors"] if t["action"] == "quantized"]
    assert len(quantized) >= 4 * json.loads((source / "config.json").read_text())[
        "num_hidden_layers"] - 2
    ids = json.loads((source / "expected.json").read_text())["token_ids"]
    tokens = tmp_path / "tokens.json"
    tokens.write_text(json.dumps([ids]))
    reference = dense(source, out, tmp_path / "dense")
    ours = linchpin("--json", "evaluate", reference, "--tokens", tokens).json["loss"]
    # compressed-tensors 0.20 makes room for unpacked zero points only, unless all is unpacked.
    theirs = loss_in_transformers(out, ids, unpack=scheme == "asymmetric")
    # Activations in 8 bits are the consumer's part.
    bound = 0.005 * ours if scheme in ("w8a8", "fp8") else 1e-3
    assert theirs == pytest.approx(ours, abs=bound)
    assert linchpin.run("verify", out).code == 0


GROUPS = ["32", "64", "128", "channel"]
# Of the models that were trained: every group, symmetric and not, and what keeps a super weight.
TRAINED = {
    **{f"w4a16 {g}": ["--group-size", g] for g in GROUPS},
    **{f"asymmetric {g}": ["--asymmetric", "--group-size", g] for g in GROUPS},
    **{f"w8a16 {g}": ["--scheme", "w8a16", "--group-size", g] for g in GROUPS},
    **{f"preserve {p}": ["--preserve", p] for p in ("scale", "none")},
    "w8a8": ["--scheme", "w8a8"], "fp8": ["--scheme", "fp8"],
}
SMOLLM2 = ["w4a16 64", "w8a16 channel", "preserve scale", "fp8"]


@pytest.mark.parametrize("model, scheme", [
    *(("tinystories", scheme) for scheme in TRAINED), *(("smollm2", scheme) for scheme in SMOLLM2)])
def test_consumers_read_trained_models(linchpin, shared, smollm2, tmp_path, model, scheme):
    """Against the dense model that we write of the same weights: what is compared for schemes that
    round activations is that model with the consumer's rounding, so the bound is wider."""
    source = smollm2("bf16") if model == "smollm2" else shared / "models/tinystories-656k/bf16"
    text = (shared / "text/tinystories_sample_cs336.txt").read_text()[:400]
    encoder = Tokenizer.from_file(str(source / "tokenizer.json"))
    ids = [1] + encoder.encode(text, add_special_tokens=False).ids[:63]
    tokens = tmp_path / "tokens.json"
    tokens.write_text(json.dumps([ids]))
    linchpin("compress", source, tmp_path / "out", *TRAINED[scheme])
    reference = dense(source, tmp_path / "out", tmp_path / "dense")
    ours = linchpin("--json", "evaluate", reference, "--tokens", tokens).json["loss"]
    theirs = loss_in_transformers(tmp_path / "out", ids, unpack=scheme.startswith("asymmetric"))
    print(f"{model}, {scheme}: ours {ours:.4f}, transformers {theirs:.4f}")
    assert theirs == pytest.approx(ours, abs=0.05 if scheme in ("w8a8", "fp8") else 1e-3)


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
