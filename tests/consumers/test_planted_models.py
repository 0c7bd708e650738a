"""Detection with default options on random models with super weights written into them: every planted weight
and nothing else, in every family, and nothing where there is nothing.

LINCHPIN_PLANTED_SEEDS  models per kind and family, default 1
"""

import json
import os
import pathlib
import sys

import pytest
import torch

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))
from conftest import CommandLine
from support.planted_models import CARRIERS, GIVEN_TOKENS_ONLY, KINDS, plant

SEEDS = range(int(os.environ.get("LINCHPIN_PLANTED_SEEDS", "1")))


@pytest.fixture(name="detect")
def detect_fixture(start_server, tmp_path):
    """detect(model, *options): the JSON document, from one server for all of a test's models."""
    torch.set_num_threads(1)
    server = start_server("--read-root", tmp_path, "--threads", "1")
    command = CommandLine("--quiet", "--json", "--endpoint", server.endpoint)
    return lambda model, *options: command("detect", model, *options).json


def tokens_of(expected):
    return ["--tokens", ",".join(map(str, expected["token_ids"]))]


def places(weights):
    return sorted((w["layer"], -1 if w.get("expert") is None else w["expert"], w["row"], w["column"])
                  for w in weights)


def wrong_in(detection, expected):
    """What is wrong in a detection, in words; None if nothing is."""
    found, planted = places(detection["super_weights"]), places(expected["planted"])
    carriers = [a["carrier"] for a in detection["super_activations"]]
    if found != planted:
        return f"planted {planted}, found {found}"
    if expected["kind"] in CARRIERS and CARRIERS[expected["kind"]] not in carriers:
        return f"carriers {carriers}"
    if expected["kind"] in ("none", "large", "echo", "taken_back") and carriers:
        return f"activations with carriers {carriers}"
    return None


@pytest.mark.parametrize("kind", KINDS)
def test_what_is_planted_is_found_and_nothing_else(detect, tmp_path, kind):
    wrong, count = [], 0
    for family in KINDS[kind]:
        for seed in SEEDS:
            model = tmp_path / f"{family}-{seed}"
            expected = plant(model, kind, family, seed)
            prompts = [tokens_of(expected)] + ([] if kind in GIVEN_TOKENS_ONLY else [[]])
            for prompt in prompts:
                count += 1
                if problem := wrong_in(detect(model, *prompt), expected):
                    wrong.append(f"{family} {seed} {'given' if prompt else 'default'}: {problem}")
    assert not wrong, f"{len(wrong)} of {count}:\n" + "\n".join(wrong)


def thresholds(**values):
    return [part for name, value in values.items() for part in ("--threshold", f"{name}={value}")]


# kind: (the rule that refuses it, how to switch that rule off)
REFUSALS = {
    "echo": ("the last hidden state is no evidence", thresholds(left_out=0, min_later=0)),
    "large": ("an activation is huge", thresholds(
        peak_over_median=0, made_peak_over_median=0, made_over_median=0, peak_over_largest=0)),
    "taken_back": ("an activation stays", thresholds(keep_layers=0)),
    "orphan": ("a weight is an outlier", thresholds(
        weight_over_column=0, top_weights=10 ** 9, top_weight_fraction=1)),
}


@pytest.mark.parametrize("kind", REFUSALS)
@pytest.mark.parametrize("family", ["llama", "qwen2", "gpt_neox"])
def test_a_refusal_is_the_work_of_its_rule(detect, tmp_path, kind, family):
    """On, nothing is reported; off, what it refuses is."""
    rule, off = REFUSALS[kind]
    expected = plant(tmp_path / "model", kind, family, seed=0)
    tokens = tokens_of(expected)
    assert detect(tmp_path / "model", *tokens)["super_weights"] == [], rule
    found = places(detect(tmp_path / "model", *tokens, *off)["super_weights"])
    # What takes an activation back does not make it: the maker alone is held against the rule.
    refused = expected["decoys"][:1] if kind == "taken_back" else expected["decoys"]
    assert set(places(refused)) <= set(found), rule
    # The rules that are left refuse most of what else there is.
    assert len(found) < 64, json.dumps(found)
