"""What `evaluate --arms`, `--activations` and `--awq` say, held against the same computed with transformers:
weights rounded by the tests' own code, activations by hooks.

Of activations the codes are compared, layer by layer on the same inputs: how far a deep model's predictions are
then apart differs with the order of additions, by more than one arm does from another."""

import json
import math

import pytest
import torch

from support.linear_inputs import off, off_ties, run_on_inputs
from support.paper_roundings import ActivationArms, awq_search, rounded_weights, token_scale
from support.stored_linears import StoredLinears

CLOSE = 5e-5  # of what goes into a layer, by root mean square


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
    return pytest.approx(value, abs=1e-4)


def divergence(value):
    return pytest.approx(value, rel=1e-3, abs=1e-6)


def test_arms_are_those_of_transformers(linchpin, model, tmp_path):
    large = "smollm2" in str(model)
    reference = StoredLinears(model)
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
        changed = rounded_weights(reference, arm, bits, z, weights)
        loss, kl = reference.measure(windows, base, changed)
        print(f"{arm['name']}: {arm['kl']:.7f}, torch {kl:.7f}")
        assert arm["loss"] == close(loss), arm
        assert arm["kl"] == divergence(kl), arm
        assert arm["perplexity"] == pytest.approx(math.exp(arm["loss"]))


def check_codes(model, reference, arms, arm, ids, calibration, tmp_path):
    """Every layer, given what it has in transformers, sees the codes that it sees there, and comes to what it
    comes to there."""
    inputs = {}

    def seen(name, x):
        inputs[name] = x
        return arms.seen(arm, name, x)

    base = reference.logits([ids])
    loss, _ = reference.measure([ids], base, arms.weights(arm), seen)
    ours = run_on_inputs(model, ids.tolist(), inputs, tmp_path / arm, arm, 0.7, calibration)
    assert reference.weights.keys() <= ours.seen.keys()
    total = differing = 0
    apart = {name: off(ours.own[name], x) for name, x in inputs.items() if x.numel()}
    # Where no weight is rounded that is 1.4e-3 and more.  SmoothQuant's factors are powers of what was seen, whose
    # last bits differ: of a layer's weights one or another falls on the other side of a tie.
    smooth = arm == "smoothquant"
    assert max(apart.values()) < (2e-3 if smooth else CLOSE), apart
    assert sum(apart.values()) < (3e-4 if smooth else CLOSE) * len(apart), apart
    for name, x in inputs.items():
        changed, places = arms.before_rounding(arm, name, x)
        scale = token_scale(changed).clamp(min=1e-30)
        codes = ours.seen[name] / scale
        for place in places:
            assert ours.seen[name][place] == x[place], (name, place)
            codes[place] = (changed[place] / scale[place[0]]).round()
        quotients = changed / scale
        far, differ = off_ties(codes, quotients.round().clamp(-128, 127), quotients,
                               2**-10 if smooth else 2**-18)
        assert far == 0, name
        total, differing = total + codes.numel(), differing + differ
    assert differing < 1e-4 * total, (differing, total)
    assert ours.loss == pytest.approx(loss, abs=5e-5)


# Some channels of SmolLM2 are a thousandth of others: to the last bits of those their own maxima, SmoothQuant's
# factors, are chance.
@pytest.mark.parametrize("model, arm", [
    (model, arm) for model in ("tinystories", "planted", "smollm2") for arm in ActivationArms.NAMES
    if (model, arm) != ("smollm2", "smoothquant")], indirect=["model"])
def test_activations_have_the_codes_of_torch(linchpin, model, tmp_path, arm):
    reference = StoredLinears(model)
    vocab = reference.network.config.vocab_size
    (ids,), calibration = random_windows(vocab, 1, 40, 7), random_windows(vocab, 2, 24, 8)
    detection = linchpin("detect", model, "--json").json
    arms = ActivationArms(reference, detection, calibration, 0.7)
    assert any(arms.spared("super_outlier_aware", name, torch.zeros(1, weight.shape[1]))
               for name, weight in reference.weights.items())
    check_codes(model, reference, arms, arm, ids, ids_file(tmp_path / "calibration.json", calibration),
                tmp_path)


def test_evaluate_runs_the_arms_whose_codes_were_looked_at(linchpin, shared, tmp_path):
    """Each by its name: what it says of an arm is what the arm gives by itself."""
    model = shared / "models/tinystories-656k"
    (ids,), calibration = random_windows(2048, 1, 40, 7), random_windows(2048, 2, 24, 8)
    of_calibration = ids_file(tmp_path / "calibration.json", calibration)
    result = linchpin("evaluate", model, "--activations", "--smoothing", 0.7, "--tokens",
                      ids_file(tmp_path / "ids.json", [ids]), "--calibration", of_calibration,
                      "--json").json
    assert [arm["name"] for arm in result["activations"]] == list(ActivationArms.NAMES)
    for arm in result["activations"]:
        alone = run_on_inputs(model, ids.tolist(), {}, tmp_path / arm["name"], arm["name"], 0.7,
                              of_calibration)
        assert arm["loss"] == pytest.approx(alone.loss, abs=1e-6)
        assert arm["kl"] == pytest.approx(alone.kl, rel=1e-4)
        assert "block" not in arm
    divergences = sorted(arm["kl"] for arm in result["activations"])
    assert divergences[0] > 1e-4
    assert all(more > 1.01 * less for less, more in zip(divergences, divergences[1:]))


def test_awq_scales_are_those_of_torch(linchpin, model, tmp_path):
    reference = StoredLinears(model)
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

    reference.logits(calibration, hook=seen)
    for scale in result["awq"]:
        name = scale["tensor"]
        tried = awq_search(reference.weights[name], torch.cat(inputs[name]))
        # The least of the errors is flat: a neighbour may be as good.
        (_, scales, error), = [each for each in tried
                               if each[0] == pytest.approx(scale["exponent"])]
        assert error <= 1.001 * min(each[2] for each in tried)
        assert scale["error_ratio"] == pytest.approx(error / tried[0][2], rel=1e-4)
        assert scale["scale"] == pytest.approx(scales[scale["column"]].item(), rel=1e-4)
        assert scale["median_scale"] == pytest.approx(scales.median().item(), rel=1e-4)
        assert scale["largest_scale"] == pytest.approx(scales.max().item(), rel=1e-4)


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
def test_analyses_see_every_kind_of_layer(linchpin, shared, tmp_path, family):
    """Fused layers, experts, biases: as torch has them."""
    model = shared / "oracles/families" / family
    reference = StoredLinears(model)
    windows = random_windows(reference.network.config.vocab_size, 2, 24, 5)
    result = linchpin("evaluate", model, "--arms", "--blocks", "1000,tensor", "--bits", 3, "--z", 3,
                      "--tokens", ids_file(tmp_path / "ids.json", windows), "--json").json
    assert len(result["arms"]) == 8
    detection = linchpin("detect", model, "--json").json
    base = reference.logits(windows)
    for arm in result["arms"]:
        changed = rounded_weights(reference, arm, 3, 3.0, detection["super_weights"])
        loss, kl = reference.measure(windows, base, changed)
        print(f"{arm['name']}: {arm['kl']:.7f}, torch {kl:.7f}")
        assert arm["loss"] == close(loss), arm
        assert arm["kl"] == divergence(kl), arm
    arms = ActivationArms(reference, detection, windows, 0.7)
    for arm in ActivationArms.NAMES:
        check_codes(model, reference, arms, arm, windows[0], tmp_path / "ids.json", tmp_path)


@pytest.mark.parametrize("options, what", [
    (["--arms", "--blocks", "31"], "blocks"), (["--arms", "--blocks", "x"], "blocks"),
    (["--arms", "--bits", "9"], "bits"), (["--arms", "--z", "0"], "z"),
    (["--activations", "--smoothing", "1.5"], "smoothing"), (["--blocks", "64"], "arms"),
    (["--awq", "--threshold", "no=1"], "no"), (["--arms", "--calibration", "f"], "calibration")])
def test_options_out_of_bounds_are_refused(linchpin, shared, options, what):
    finished = linchpin.run("evaluate", shared / "models/tinystories-656k", *options)
    assert finished.code in (2, 42)
    assert what in finished.err
