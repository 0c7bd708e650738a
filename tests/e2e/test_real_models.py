"""Real, trained models: what is known of them from elsewhere must come out of the whole program."""

import json
import re
import shutil

import pytest
import torch
from tokenizers import Tokenizer
from transformers import AutoModelForCausalLM


def positions(detection):
    return [(w["layer"], w["row"], w["column"]) for w in detection["super_weights"]]


@pytest.mark.parametrize("dtype", ["bf16", "f32"])
def test_smollm2_has_its_pair_and_only_that(linchpin, smollm2, dtype):
    assert positions(linchpin("detect", smollm2(dtype), "--json").json) == [
        (11, 507, 1229), (11, 507, 1487)]


def test_smollm2_pair_matters_together(linchpin, smollm2, shared):
    detection = linchpin(
        "detect", smollm2("bf16"), "--json", "--proof", "joint", "--proof-text",
        shared / "text/wikitext-2-test.txt", "--proof-window", 256, "--proof-windows", 4,
        timeout=900).json
    proof = detection["proof"]
    assert (proof["windows"], proof["window"]) == (4, 256)
    # To the digits that oracles/README.md has, from transformers.
    assert proof["baseline"]["perplexity"] == pytest.approx(25.1, abs=0.05)
    first, second = (arm["perplexity_ratio"] for arm in proof["alone"])
    assert first == pytest.approx(5.58, abs=0.02)
    assert second == pytest.approx(1.21, abs=0.005)
    assert proof["joint"]["perplexity_ratio"] == pytest.approx(61_662, rel=2e-3)
    for arm in proof["null"]:
        assert arm["perplexity_ratio"] == pytest.approx(1, abs=0.002)
    assert detection["verdict"] == "several"
    assert [w["class"] for w in detection["super_weights"]] == ["critical", "joint"]


def test_smollm2_is_proven_without_any_data(linchpin, smollm2, tmp_path):
    """On the built-in text; without a tokenizer on ids, where divergence decides."""
    model = smollm2("bf16")
    detection = linchpin("detect", model, "--json", "--proof", "joint", timeout=900).json
    assert detection["proof"]["tokens_from"] == "built_in_text"
    assert detection["proof"]["judged_by"] == "perplexity_ratio"
    assert detection["verdict"] == "several"
    for file in ("config.json", "model.safetensors"):
        shutil.copy(model / file, tmp_path)
    detection = linchpin("detect", tmp_path, "--json", "--proof", "joint", timeout=900).json
    assert detection["proof"]["tokens_from"] == "built_in_ids"
    assert detection["proof"]["judged_by"] == "kl"
    assert "tokenizer.json" in detection["proof"]["no_text_because"]
    assert detection["verdict"] == "several"
    assert [w["class"] for w in detection["super_weights"]] == ["critical", "joint"]
    assert any("fixed ids" in note for note in detection["notes"])


def reference_loss(model, sequences):
    """Mean loss in transformers, float32."""
    network = AutoModelForCausalLM.from_pretrained(model, dtype=torch.float32)
    total = count = 0
    with torch.no_grad():
        for ids in sequences:
            logits = network(torch.tensor([ids])).logits[0, :-1]
            total += torch.nn.functional.cross_entropy(
                logits, torch.tensor(ids[1:]), reduction="sum").item()
            count += len(ids) - 1
    return total / count


def test_tinystories_loss_on_stories_is_that_of_transformers(linchpin, shared, tmp_path):
    model = shared / "models/tinystories-656k"
    text = (shared / "text/tinystories_train_head.txt").read_text()
    stories = re.split(r"(?<!\n)\n(?!\n)", text)[:40]  # paragraphs are an empty line apart
    tokenizer = Tokenizer.from_file(str(model / "tokenizer.json"))
    sequences = [tokenizer.encode(story).ids for story in stories]
    assert all(ids[0] == 1 for ids in sequences)  # BOS
    (tmp_path / "ids.json").write_text(json.dumps(sequences))
    result = linchpin("evaluate", model, "--tokens", tmp_path / "ids.json", "--json").json
    assert result["tokens"] == sum(len(ids) - 1 for ids in sequences)
    assert result["loss"] == pytest.approx(reference_loss(model, sequences), abs=1e-5)


def test_tinystories_loss_on_windows_is_the_published_one(linchpin, shared):
    """oracles/README.md: 40 windows of 256 tokens, BOS first."""
    result = linchpin("evaluate", shared / "models/tinystories-656k/bf16", "--text-file",
                      shared / "text/tinystories_train_head.txt", "--window", 256, "--windows", 40,
                      "--json").json
    assert result["tokens"] == 40 * 255
    assert result["loss"] == pytest.approx(3.4358, abs=1e-4)


@pytest.mark.parametrize("variant", ["", "bf16"])
def test_tinystories_has_its_pair_at_the_first_token(linchpin, shared, variant):
    weight, = linchpin("detect", shared / "models/tinystories-656k" / variant,
                       "--json").json["super_weights"]
    assert (weight["layer"], weight["row"], weight["column"], weight["token"]) == (0, 88, 165, 0)


def test_stories260k_has_none(linchpin, shared):
    for variant in ("hf-f32", "hf-f16"):
        detection = linchpin("detect", shared / "models/stories260k" / variant, "--json").json
        assert detection["super_weights"] == []
    assert "super weights   none" in linchpin(
        "detect", shared / "models/stories260k/hf-f32").out


def test_text_means_the_same_as_its_ids(linchpin, shared, tmp_path):
    """The checkpoint's own tokenizer, read by us, against the reference's."""
    model = shared / "models/tinystories-656k"
    text = (shared / "text/tinystories_train_head.txt").read_text()[:20_000]
    (tmp_path / "text.txt").write_text(text)
    ids = Tokenizer.from_file(str(model / "tokenizer.json")).encode(
        text, add_special_tokens=False).ids
    windows = [[1] + ids[i * 255:(i + 1) * 255] for i in range(8)]
    (tmp_path / "ids.json").write_text(json.dumps(windows))
    by_text = linchpin("evaluate", model, "--text-file", tmp_path / "text.txt", "--window", 256,
                       "--windows", 8, "--json").json
    by_ids = linchpin("evaluate", model, "--tokens", tmp_path / "ids.json", "--json").json
    assert by_text == by_ids
    assert by_text["tokens"] == 8 * 255
