"""Artifacts made to harm, by the command line: a mismatch or an error that names file and tensor, within an
address space that no declared number fits into.  The table of them is tests/hostile/hostile_artifact_test.cc.
"""

import json
import resource
import shutil

import pytest
import torch
from safetensors.torch import load_file, save_file

WEIGHT = "model.layers.1.mlp.down_proj.weight"
SPACE = 4 << 30


def codes_half_as_wide(tensors, _):
    tensors[f"{WEIGHT}_packed"] = tensors[f"{WEIGHT}_packed"][:, ::2].contiguous()


def a_shape_of_all_there_is(tensors, _):
    tensors[f"{WEIGHT}_shape"] = torch.tensor([2**62, 2**62])


def no_scale(tensors, _):
    del tensors[f"{WEIGHT}_scale"]


def a_super_weight_outside(_, manifest):
    manifest["super_weights"][0] |= {"row": 2**62, "column": 2**62}


def a_file_of_all_bytes(_, manifest):
    manifest["output"]["files"][0]["size"] = 2**64 - 1


@pytest.fixture(name="artifact")
def artifact_fixture(compressed, demo_model, tmp_path):
    """artifact(change): an output of the demonstration model, changed."""
    def make(change):
        out = tmp_path / "out"
        shutil.copytree(compressed(demo_model, "--preserve", "none", "--scale", "minmax"), out)
        manifest = json.loads((out / "linchpin.json").read_text())
        tensors = load_file(out / "model.safetensors")
        change(tensors, manifest)
        save_file(tensors, out / "model.safetensors")
        (out / "linchpin.json").write_text(json.dumps(manifest))
        return out
    return make


def limited():
    resource.setrlimit(resource.RLIMIT_AS, (SPACE, SPACE))


@pytest.mark.parametrize("change, named", [
    (codes_half_as_wide, f"{WEIGHT}: SHA-256"), (a_shape_of_all_there_is, f"{WEIGHT}: SHA-256"),
    (no_scale, f"{WEIGHT}_scale is missing"), (a_super_weight_outside, "no element [4611686018427387904"),
    (a_file_of_all_bytes, "the manifest says 18446744073709551615")])
def test_verify_tells_what_is_not_so(linchpin, artifact, change, named):
    finished = linchpin.run("verify", artifact(change), preexec_fn=limited)
    assert finished.code == 3, finished.err
    assert named in finished.out + finished.err


@pytest.mark.parametrize("change, named", [
    (codes_half_as_wide, f"{WEIGHT}_packed"), (a_shape_of_all_there_is, f"{WEIGHT}_packed"),
    (no_scale, f"{WEIGHT}_scale")])
def test_evaluate_refuses_what_does_not_fit(linchpin, artifact, demo_model, change, named):
    finished = linchpin.run("evaluate", artifact(change), "--tokens", demo_model / "tokens.json",
                            preexec_fn=limited)
    assert finished.code == 42, finished.err
    assert named in finished.error
