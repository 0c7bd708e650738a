"""Pruned models, held against the pruning of torch and loaded by transformers."""

import json
import pathlib

import jsonschema
import pytest
import torch
from torch.ao.pruning import WeightNormSparsifier
from torch.nn.utils import prune

from support.quantized_models import loss_in_transformers, tensors_of
from support.smollm2 import smollm2

SCHEMA = pathlib.Path(__file__).resolve().parents[2] / "server/artifact/linchpin.schema.json"
DOWN_PROJ = "model.layers.11.mlp.down_proj.weight"
SUPER_WEIGHTS = [(507, 1229), (507, 1487)]


def linear_weights(tensors):
    return {name: weight for name, weight in tensors.items()
            if ".layers." in name and weight.dim() == 2}


@pytest.mark.parametrize("sparsity", [0.3, 0.5, 0.9])
def test_magnitude_is_what_torch_prunes(linchpin, shared, tmp_path, sparsity):
    source = shared / "models/stories260k/hf-f32"
    linchpin("compress", source, tmp_path / "out", "--prune", "magnitude", "--sparsity", sparsity,
             "--preserve", "none")
    ours = tensors_of(tmp_path / "out")
    for name, weight in linear_weights(tensors_of(source)).items():
        layer = torch.nn.Linear(weight.shape[1], weight.shape[0], bias=False)
        layer.weight.data.copy_(weight)
        prune.l1_unstructured(layer, "weight", amount=sparsity)
        assert torch.equal(ours[name], layer.weight.detach()), name


def test_of_equal_magnitudes_as_many_go_as_torch_prunes(linchpin, shared, tmp_path):
    source = shared / "models/tinystories-656k/bf16"  # of 8 bits precision: many are equal
    linchpin("compress", source, tmp_path / "out", "--prune", "magnitude", "--preserve", "none")
    ours = tensors_of(tmp_path / "out")
    for name, weight in linear_weights(tensors_of(source)).items():
        layer = torch.nn.Linear(weight.shape[1], weight.shape[0], bias=False, dtype=weight.dtype)
        layer.weight.data.copy_(weight)
        prune.l1_unstructured(layer, "weight", amount=0.5)
        theirs = layer.weight.detach()
        assert torch.equal(ours[name].abs().flatten().sort().values,
                           theirs.abs().flatten().sort().values), name
        kept = ours[name] != 0
        assert torch.equal(ours[name][kept], weight[kept]), name
        last = weight[kept].abs().min()
        gone = torch.nonzero((weight.abs() == last).flatten() & ~kept.flatten())
        left = torch.nonzero((weight.abs() == last).flatten() & kept.flatten())
        assert gone.numel() == 0 or gone.max() < left.min(), "the first of equal ones go"


def test_two_of_four_is_what_torch_prunes(linchpin, shared, tmp_path):
    source = shared / "models/stories260k/hf-f32"
    linchpin("compress", source, tmp_path / "out", "--prune", "2:4", "--preserve", "none")
    ours = tensors_of(tmp_path / "out")
    for name, weight in linear_weights(tensors_of(source)).items():
        model = torch.nn.Sequential(
            torch.nn.Linear(weight.shape[1], weight.shape[0], bias=False)).double()
        model[0].weight.data.copy_(weight)  # double: squares tell what magnitudes tell
        sparsifier = WeightNormSparsifier(sparsity_level=1.0, sparse_block_shape=(1, 4),
                                          zeros_per_block=2)
        sparsifier.prepare(model, config=[{"tensor_fqn": "0.weight"}])
        sparsifier.step()
        sparsifier.squash_mask()
        assert torch.equal(ours[name], model[0].weight.detach().float()), name


@pytest.mark.parametrize("options", [["magnitude", "--sparsity", "0.5"], ["2:4"]])
def test_transformers_reads_it_and_gives_our_loss(linchpin, shared, tmp_path, options):
    source = shared / "models/tinystories-656k/bf16"
    out = tmp_path / "out"
    linchpin("compress", source, out, "--prune", *options)
    assert linchpin.run("verify", out).code == 0
    ids = list(range(1, 200))
    (tmp_path / "tokens.json").write_text(json.dumps([ids]))
    ours = linchpin("--json", "evaluate", out, "--tokens", tmp_path / "tokens.json").json["loss"]
    assert loss_in_transformers(out, ids, unpack=False) == pytest.approx(ours, abs=1e-3)
    manifest = json.loads((out / "linchpin.json").read_text())
    jsonschema.Draft202012Validator(json.loads(SCHEMA.read_text())).validate(manifest)
    assert manifest["options"]["scheme"] == ("pruned_2_4" if options == ["2:4"] else "pruned")
    assert manifest["calibration"] is None
    for weight in manifest["super_weights"]:
        assert weight["kept"] == "restore" and weight["exact"]


def test_super_weights_outlive_pruning_only_where_they_are_spared(linchpin, shared, tmp_path):
    """Two weights of 884,736 are nearly all that a model loses with the whole matrix."""
    source = smollm2("bf16")
    evaluate = ("--json", "evaluate", "--text-file", shared / "text/wikitext-2-test.txt",
                "--window", "128", "--windows", "2")
    losses = {"original": linchpin(*evaluate, source).json["loss"]}
    original = tensors_of(source)[DOWN_PROJ]
    kept = {}
    for preserve in ("restore", "none"):
        out = tmp_path / preserve
        linchpin("compress", source, out, "--prune", "magnitude", "--sparsity", "1",
                 "--preserve", preserve, "--include", "*.layers.11.mlp.down_proj")
        assert linchpin.run("verify", out).code == 0
        losses[preserve] = linchpin(*evaluate, out).json["loss"]
        pruned = tensors_of(out)[DOWN_PROJ]
        kept[preserve] = {tuple(at) for at in torch.nonzero(pruned).tolist()}
        assert all(pruned[at] == original[at] for at in kept[preserve])
    assert kept == {"restore": set(SUPER_WEIGHTS), "none": set()}
    assert losses["restore"] < losses["original"] + 0.5
    assert losses["none"] > losses["original"] + 1.5


def test_where_super_weights_are_the_largest_sparing_them_changes_nothing(linchpin, shared,
                                                                          tmp_path):
    source = shared / "models/tinystories-656k/bf16"
    for method in ("magnitude", "2:4"):
        bytes_of = []
        for preserve in ("restore", "none"):
            out = tmp_path / f"{method[0]}-{preserve}"
            linchpin("compress", source, out, "--prune", method, "--preserve", preserve)
            manifest = json.loads((out / "linchpin.json").read_text())
            assert manifest["super_weights"], "there is one"
            assert all(weight["exact"] for weight in manifest["super_weights"])
            bytes_of.append((out / "model.safetensors").read_bytes())
        assert bytes_of[0] == bytes_of[1]
