"""`linchpin compress --equalize`: norms and the layers that read them are scaled by powers of two, which must
cancel in every family's arithmetic, and pay in what a trained model says."""

import json

import pytest
import torch
import transformers
from safetensors.torch import load_file, save_file

from support.quantized_models import check_loss
from test_families import VARIANTS, make, windows

# Norms with a gain that nothing but linear layers reads, of 4 layers: two each, one where attention and MLP
# share theirs or tokens are routed by what it gives, none where the gain is stored less one or there is none.
NORMS = {"gemma": 0, "gemma2": 0, "gemma3": 0, "olmo": 0, "olmo clipped": 0, "olmo2": 0,
         "phi": 4, "phi normed": 4, "falcon 7b": 4, "falcon 11b": 4, "falcon alibi of six heads": 4,
         "mixtral": 4, "qwen2_moe": 4, "qwen2_moe renormalized": 5, "qwen3_moe": 4,
         "qwen3_moe sparse": 6}
REFUSED = ("gpt2",)  # compress writes none of theirs
DENSE = ["--format", "dense", "--scheme", "w8a16", "--group-size", "channel", "--preserve", "none"]


def spread_gains(model):
    """Channels that matter very differently, by up to 2^12."""
    torch.manual_seed(11)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if parameter.dim() == 1 and name.endswith("weight") and ("norm" in name or "ln_" in name):
                parameter.mul_(2 ** (6 * torch.rand_like(parameter) - 3))


def log_probabilities(model, ids):
    with torch.no_grad():
        return torch.cat([torch.log_softmax(model(torch.tensor([window]), use_cache=False).logits[0], -1)
                          for window in ids]).double()


def load(directory, like):
    return transformers.AutoModelForCausalLM.from_pretrained(
        directory, dtype=torch.float32, attn_implementation=like.config._attn_implementation).eval()


def factors_of(before, after):
    """By which each channel of a norm was scaled."""
    factors = after / before
    assert torch.equal(factors.log2(), factors.log2().round())
    assert 1 <= factors.log2().abs().max() <= 2
    return factors


def unrounded(before, after, factors):
    """What was rounded to `after`: the weight with channels scaled against one of the norms'."""
    scaled = min((before / each for each in factors), key=lambda w: (after - w).abs().mean())
    off, size = (after - scaled).abs().mean().item(), scaled.abs().mean().item()
    assert off < 0.05 * size  # 8 bits take a hundredth of it
    return scaled


@pytest.mark.parametrize("name", [n for n in VARIANTS if not n.startswith(REFUSED)])
def test_scales_cancel_in_every_family(linchpin, tmp_path, name):
    model = make(*VARIANTS[name], seed=len(name)).eval()
    spread_gains(model)
    source, out = tmp_path / "model", tmp_path / "out"
    model.save_pretrained(source)
    linchpin("compress", source, out, *DENSE, "--equalize")
    linchpin("verify", out)
    records = json.loads((out / "linchpin.json").read_text())["tensors"]
    equalized = {t["name"]: t["action"] for t in records if t.get("equalized")}
    norms = [n for n, action in equalized.items() if action == "equalized"]
    gains = [n for n in norms if n.endswith("weight")]
    assert len(gains) == NORMS.get(name, 8)
    before, after = load_file(source / "model.safetensors"), load_file(out / "model.safetensors")
    factors = [factors_of(before[gain], after[gain]) for gain in gains]
    # The same with nothing rounded: every product is the same then, and so is every sum.
    for layer in equalized.keys() - set(norms):
        before[layer] = unrounded(before[layer], after[layer], factors)
    before |= {norm: after[norm] for norm in norms}
    save_file(before, source / "model.safetensors", {"format": "pt"})
    ids = windows(seed=7)
    assert torch.allclose(log_probabilities(model, ids), log_probabilities(load(source, model), ids),
                          rtol=0, atol=1e-5)


@pytest.fixture(name="text", scope="module")
def text_fixture(shared, tmp_path_factory):
    path = tmp_path_factory.mktemp("text") / "text.txt"
    path.write_text((shared / "text/wikitext-2-test.txt").read_text("utf-8")[:12000], "utf-8")
    return path


@pytest.mark.parametrize("options", [[], ["--asymmetric"]], ids=["symmetric", "asymmetric"])
def test_a_trained_model_diverges_less(linchpin, smollm2, tmp_path, text, options):
    """By a twentieth at least, where a fifth and a quarter were measured: how much chance there is differs with
    the processor's kernels."""
    source = smollm2("bf16")
    divergences = []
    for each in ([], ["--equalize"]):
        out = tmp_path / f"out{len(each)}"
        linchpin("compress", source, out, "--group-size", "64", *options, *each)
        linchpin("verify", out)
        measured = linchpin("--json", "evaluate", source, "--against", out, "--text-file", text).json
        divergences.append(measured["against"]["kl"])
    assert divergences[1] < 0.95 * divergences[0]
    manifest = json.loads((tmp_path / "out1/linchpin.json").read_text())
    assert manifest["options"]["equalize"] is True
    assert all(weight["exact"] for weight in manifest["super_weights"])
    ids = [1, *range(100, 140)]
    tokens = tmp_path / "ids.json"
    tokens.write_text(json.dumps([ids]))
    ours = linchpin("--json", "evaluate", tmp_path / "out1", "--tokens", tokens).json["loss"]
    check_loss(tmp_path / "out1", ids, ours, unpack=bool(options))
