"""What `evaluate --arms`, `--activations` and `--awq` say, held against the same computed with transformers:
weights rounded by this file's own code, activations by hooks."""

import json
import math

import pytest
import torch
from safetensors import safe_open
from transformers import AutoModelForCausalLM

SPARE = ("rtn_clip_restore", "rtn_held_out")


def quality(logits, base, ids):
    """(loss, divergence from the base) summed over the predicted tokens of one window."""
    ours = torch.log_softmax(logits[:-1].double(), -1)
    theirs = torch.log_softmax(base[:-1].double(), -1)
    loss = -ours.gather(1, ids[1:, None]).sum().item()
    return loss, (theirs.exp() * (theirs - ours)).sum().item()


class Reference:
    """A model in transformers, float32, whose linear layers can be changed and put back."""

    def __init__(self, path):
        self.network = AutoModelForCausalLM.from_pretrained(path, dtype=torch.float32,
                                                            attn_implementation="eager")
        self.linears = {f"model.layers.{name}": module
                        for name, module in self.network.model.layers.named_modules()
                        if isinstance(module, torch.nn.Linear)}
        with safe_open(next(path.glob("*.safetensors")), "pt") as file:
            self.dtype = file.get_tensor("model.layers.0.mlp.down_proj.weight").dtype
        self.stored = {name: module.weight.detach().clone() for name, module in self.linears.items()}

    def down_proj(self, tensor):
        return self.linears[tensor.removesuffix(".weight")]

    @torch.no_grad()
    def logits(self, windows):
        return [self.network(ids[None]).logits[0] for ids in windows]

    @torch.no_grad()
    def measure(self, windows, base, weights=None, hook=None):
        """Loss and divergence per token with other weights, by name, and inputs as `hook` makes them."""
        hooks = []
        for name, module in self.linears.items():
            if weights is not None:
                module.weight.copy_(weights[name])
            if hook is not None:
                hooks.append(module.register_forward_pre_hook(
                    lambda _module, inputs, name=name: (hook(name, inputs[0][0])[None],)))
        sums = [quality(logits, theirs, ids)
                for logits, theirs, ids in zip(self.logits(windows), base, windows)]
        for handle in hooks:
            handle.remove()
        for name, module in self.linears.items():
            module.weight.copy_(self.stored[name])
        count = sum(len(ids) - 1 for ids in windows)
        return tuple(sum(part) / count for part in zip(*sums))


def rounded_block(values, counted, bits, z):
    """One run of elements: the grid from those that are counted, everything on it."""
    low, high = values[counted].min(), values[counted].max()
    if z:
        exact = values[counted].double()
        bound = (exact.abs().mean() + z * exact.abs().std(unbiased=True)).float()
        low, high = torch.maximum(low, -bound), torch.minimum(high, bound)
    step = (high - low) / (2**bits - 1)
    if step == 0:
        return torch.full_like(values, low)
    return torch.round((values.clamp(low, high) - low) / step) * step + low


def rounded(weight, block, bits, z, spared, arm):
    """A matrix by the paper's scheme; `spared`: its super weights' places."""
    flat = weight.flatten()
    counted = torch.ones_like(flat, dtype=torch.bool)
    at = [row * weight.shape[1] + column for row, column in spared]
    if arm == "rtn_held_out":
        counted[at] = False
    clip = z if "clip" in arm else 0
    size = block or flat.numel()
    out = torch.cat([rounded_block(flat[i:i + size], counted[i:i + size], bits, clip)
                     for i in range(0, flat.numel(), size)])
    if arm in SPARE:
        out[at] = flat[at]
    return out.view_as(weight)


def places_in(weights, tensor):
    return [(w["row"], w["column"]) for w in weights if w["tensor"] == tensor]


def random_windows(vocab, count, size, seed):
    generator = torch.Generator().manual_seed(seed)
    pool = torch.randint(3, vocab, (40,), generator=generator)
    return [torch.cat([torch.tensor([1]), pool[torch.randint(0, 40, (size - 1,), generator=generator)]])
            for _ in range(count)]


def ids_file(path, windows):
    path.write_text(json.dumps([ids.tolist() for ids in windows]))
    return path


@pytest.fixture(name="model", params=["tinystories", "planted", "smollm2"])
def model_(request, shared, smollm2):
    """A model's directory; SmolLM2 only once per analysis, as it takes a while."""
    return {"tinystories": lambda: shared / "models/tinystories-656k",
            "planted": lambda: shared / "oracles/planted/00-llama-one",
            "smollm2": lambda: smollm2("bf16")}[request.param]()


def close(value):
    return pytest.approx(value, rel=3e-3, abs=3e-4)


def divergence(value):
    return pytest.approx(value, rel=1e-2, abs=2e-4)


def test_arms_are_those_of_transformers(linchpin, model, tmp_path):
    large = "smollm2" in str(model)
    reference = Reference(model)
    vocab = reference.network.config.vocab_size
    windows = random_windows(vocab, 1 if large else 2, 32, 5)
    blocks, bits, z = ("65536", 4, 9.0) if large else ("1000,16384,tensor", 3, 3.0)
    result = linchpin("evaluate", model, "--arms", "--blocks", blocks, "--bits", bits, "--z", z,
                      "--tokens", ids_file(tmp_path / "ids.json", windows), "--json",
                      timeout=900).json
    weights = linchpin("detect", model, "--json").json["super_weights"]
    assert weights
    base = reference.logits(windows)
    assert result["loss"] == close(reference.measure(windows, base)[0])
    expected = [(None if block == "tensor" else int(block), name) for block in blocks.split(",")
                for name in ("rtn", "rtn_clip", "rtn_clip_restore", "rtn_held_out")]
    assert [(arm["block"], arm["name"]) for arm in result["arms"]] == expected
    for arm in result["arms"]:
        changed = {name: rounded(weight, arm["block"], bits, z,
                                 places_in(weights, name + ".weight"), arm["name"])
                   .to(reference.dtype).float() for name, weight in reference.stored.items()}
        loss, kl = reference.measure(windows, base, changed)
        assert arm["loss"] == close(loss), arm
        assert arm["kl"] == divergence(kl), arm
        assert arm["perplexity"] == pytest.approx(math.exp(arm["loss"]))


def per_channel(weight):
    scale = weight.abs().amax(1, keepdim=True) / 127.5
    return (weight / scale).round().clamp(-128, 127) * scale


def per_token(x):
    scale = x.abs().amax(-1, keepdim=True) / 127.5
    return torch.where(scale > 0, (x / scale).round().clamp(-128, 127) * scale, x)


def is_of_stream(name):
    return name.endswith(("q_proj", "k_proj", "v_proj", "gate_proj", "up_proj"))


def smoothing_factors(reference, windows, alpha):
    """SmoothQuant's, of q, k and v together and of gate and up together."""
    largest = {}

    def seen(name, x):
        if is_of_stream(name):
            peak = x.abs().amax(0)
            largest[name] = torch.maximum(largest.get(name, peak), peak)
        return x

    reference.measure(windows, reference.logits(windows), hook=seen)
    factors = {}
    for name, peak in largest.items():
        parent = name.rsplit(".", 1)[0]
        together = [other for other in largest if other.rsplit(".", 1)[0] == parent]
        weights = torch.stack([reference.stored[other].abs().amax(0) for other in together])
        factors[name] = (peak.pow(alpha) / weights.amax(0).clamp(min=1e-5).pow(1 - alpha)).clamp(
            min=1e-5)
    return factors


def spared_in(detection, name):
    """The channels of a layer's input in which a super activation stands."""
    layer = int(name.split(".")[2])
    channels = [a["channel"] for a in detection["super_activations"]
                if is_of_stream(name) and layer > a["onset_layer"]]
    return channels + [w["column"] for w in detection["super_weights"]
                       if w["tensor"] == name + ".weight"]


def spared_rounding(detection, name, x):
    places = {(x[:, channel].abs().argmax().item(), channel) for channel in spared_in(detection, name)}
    changed = x.clone()
    for place in places:
        changed[place] = x.flatten().median()
    changed = per_token(changed)
    for place in places:
        changed[place] = x[place]
    return changed


def test_activations_are_those_of_transformers(linchpin, model, tmp_path):
    reference = Reference(model)
    vocab = reference.network.config.vocab_size
    windows, calibration = random_windows(vocab, 2, 40, 7), random_windows(vocab, 2, 24, 8)
    result = linchpin("evaluate", model, "--activations", "--smoothing", 0.7, "--tokens",
                      ids_file(tmp_path / "ids.json", windows), "--calibration",
                      ids_file(tmp_path / "calibration.json", calibration), "--json",
                      timeout=900).json
    detection = linchpin("detect", model, "--json").json
    assert any(spared_in(detection, name) for name in reference.linears)
    base = reference.logits(windows)
    plain = {name: per_channel(weight) for name, weight in reference.stored.items()}
    factors = smoothing_factors(reference, calibration, 0.7)
    smoothed = {name: per_channel(weight * factors.get(name, torch.ones(1)))
                for name, weight in reference.stored.items()}
    hooks = {
        "w8a8": (plain, lambda name, x: per_token(x)),
        "smoothquant": (smoothed, lambda name, x: per_token(x / factors.get(name, torch.ones(1)))),
        "super_outlier_aware": (plain, lambda name, x: spared_rounding(detection, name, x)),
    }
    assert [arm["name"] for arm in result["activations"]] == list(hooks)
    for arm in result["activations"]:
        loss, kl = reference.measure(windows, base, *hooks[arm["name"]])
        # A value that lies between two codes may fall on either side, and each that does
        # moves many in the layers after it: after thirty the rounding errors are others, on each
        # processor others again.
        deep = len(reference.network.model.layers) > 20
        assert arm["loss"] == pytest.approx(loss, rel=2e-2 if deep else 5e-3, abs=1e-3), arm
        assert arm["kl"] == pytest.approx(kl, rel=0.3 if deep else 0.05, abs=1e-3), arm
        assert "block" not in arm


def awq_search(weight, x):
    """(exponent, scales, error over that of exponent 0): round-to-nearest in asymmetric groups of 128."""
    magnitude = x.abs().mean(0)
    best, first = None, None
    group = max(g for g in (128, 64, 32) if weight.shape[1] % g == 0)
    for step in range(20):
        scales = magnitude.pow(step / 20).clamp(min=1e-4)
        scales = scales / (scales.max() * scales.min()).sqrt()
        groups = (weight * scales).view(-1, group)
        low, high = groups.amin(1, keepdim=True).clamp(max=0), groups.amax(1, keepdim=True).clamp(min=0)
        size = ((high - low) / 15).clamp(min=1e-12)
        zero = (-low / size).round().clamp(0, 15)
        codes = ((groups / size).round() + zero).clamp(0, 15)
        changed = ((codes - zero) * size).view_as(weight) / scales
        error = (x @ (changed - weight).T).double().pow(2).sum().item()
        first = first or error
        if best is None or error < best[2]:
            best = (step / 20, scales, error)
    return best[0], best[1], best[2] / first


def test_awq_scales_are_those_of_torch(linchpin, model, tmp_path):
    reference = Reference(model)
    calibration = random_windows(reference.network.config.vocab_size, 2, 48, 9)
    result = linchpin("evaluate", model, "--awq", "--tokens",
                      ids_file(tmp_path / "ids.json", calibration), "--calibration",
                      tmp_path / "ids.json", "--json", timeout=900).json
    detection = linchpin("detect", model, "--json").json
    expected = [(w["tensor"], w["row"], w["column"]) for w in detection["super_weights"]]
    assert [(s["tensor"], s["row"], s["column"]) for s in result["awq"]] == expected
    inputs = {}

    def seen(name, x):
        inputs.setdefault(name, []).append(x)
        return x

    reference.measure(calibration, reference.logits(calibration), hook=seen)
    for scale in result["awq"]:
        name = scale["tensor"].removesuffix(".weight")
        exponent, scales, ratio = awq_search(reference.stored[name], torch.cat(inputs[name]))
        # The least of the errors is flat: a neighbour may be as good.
        assert scale["exponent"] == pytest.approx(exponent, abs=0.051)
        assert scale["error_ratio"] == pytest.approx(ratio, rel=2e-2)
        if scale["exponent"] == pytest.approx(exponent):
            assert scale["scale"] == pytest.approx(scales[scale["column"]].item(), rel=2e-3)
            assert scale["median_scale"] == pytest.approx(scales.median().item(), rel=2e-3)
            assert scale["largest_scale"] == pytest.approx(scales.max().item(), rel=2e-3)


@pytest.mark.parametrize("arm, options", {
    "rtn": ["--preserve", "none"], "rtn_clip": ["--preserve", "none", "--z", "4"],
    "rtn_clip_restore": ["--preserve", "restore", "--z", "4"],
    "rtn_held_out": ["--preserve", "restore"]}.items())
def test_an_arm_is_the_model_that_compress_writes(linchpin, shared, tmp_path, arm, options):
    model = shared / "models/tinystories-656k"
    tokens = ["--tokens", ids_file(tmp_path / "ids.json", random_windows(2048, 2, 40, 11))]
    linchpin("compress", model, tmp_path / "out", "--format", "dense", "--scheme", "blocks",
             "--block", 5000, "--bits", 3, *options)
    written = linchpin("evaluate", tmp_path / "out", "--against", model, *tokens, "--json").json
    arms = linchpin("evaluate", model, "--arms", "--blocks", 5000, "--bits", 3, "--z", 4, *tokens,
                    "--json").json["arms"]
    seen, = [row for row in arms if row["name"] == arm]
    assert seen["loss"] == pytest.approx(written["loss"], rel=1e-6)
    assert seen["kl"] == pytest.approx(written["against"]["kl"], rel=1e-5, abs=1e-7)


def test_without_tokens_the_built_in_text_is_measured(linchpin, shared):
    text = linchpin("evaluate", shared / "models/tinystories-656k", "--arms", "--blocks", "4096",
                    "--activations", "--awq").out
    for word in ("rtn_clip_restore", "rtn_held_out", "4096", "smoothquant", "super_outlier_aware",
                 "original", "exponent", "perplexity", "divergence"):
        assert word in text
    plain = linchpin.run("evaluate", shared / "models/tinystories-656k")
    assert plain.code == 2


@pytest.mark.parametrize("analysis", ["--arms", "--activations"])
def test_weights_that_no_plan_rounds_are_refused(linchpin, shared, analysis):
    finished = linchpin.run("evaluate", shared / "oracles/families/gpt2", analysis)
    assert finished.code == 42
    assert "[in, out]" in finished.error


@pytest.mark.parametrize("family", ["falcon", "gemma2", "gpt_neox", "mixtral", "opt", "phi3",
                                    "qwen2_moe"])
def test_analyses_run_on_every_kind_of_layer(linchpin, shared, family):
    """Fused layers, experts, biases: every number is there and finite, and rounding shows."""
    result = linchpin("evaluate", shared / "oracles/families" / family, "--arms", "--blocks",
                      "1000,tensor", "--bits", 3, "--activations", "--awq", "--json").json
    assert len(result["arms"]) == 8 and len(result["activations"]) == 3
    for arm in result["arms"] + result["activations"]:
        assert 1e-6 < arm["kl"] < 1, arm
        assert arm["loss"] == pytest.approx(result["loss"], rel=0.2)


@pytest.mark.parametrize("options, what", [
    (["--arms", "--blocks", "31"], "blocks"), (["--arms", "--blocks", "x"], "blocks"),
    (["--arms", "--bits", "9"], "bits"), (["--arms", "--z", "0"], "z"),
    (["--activations", "--smoothing", "1.5"], "smoothing"), (["--blocks", "64"], "arms"),
    (["--awq", "--threshold", "no=1"], "no"), (["--arms", "--calibration", "f"], "calibration")])
def test_options_out_of_bounds_are_refused(linchpin, shared, options, what):
    finished = linchpin.run("evaluate", shared / "models/tinystories-656k", *options)
    assert finished.code in (2, 42)
    assert what in finished.err
