"""What the bytes of an output depend on: the importance that was measured, and nothing else of the machine.

LibTorch's kernels for another instruction set give sums that differ in the last bits, and importance with them, and
with that a few codes (ADR 53).  ATEN_CPU_CAPABILITY makes it take those of an older processor; our own kernels are
held against each other by tests/golden on all that the machine has.
"""

import itertools
import json
import os
import pathlib
import shutil

import numpy
import pytest
from safetensors.numpy import load_file

from support.directories import digests

FLAGS = set(pathlib.Path("/proc/cpuinfo").read_text(encoding="utf-8").split())
KERNELS = ["default"] + [name for name, flag in (("avx2", "avx2"), ("avx512", "avx512vl")) if flag in FLAGS]
# The threads of each differ, too.
SETTINGS = list(zip(KERNELS, itertools.cycle((1, 2))))
# Of these LibTorch's sums differ between kernels, and some scales with them.
MODELS = ["gemma2", "qwen2_moe"]
PLANTED = "oracles/planted/00-llama-one"


def on(kernels, threads):
    return {**os.environ, "ATEN_CPU_CAPABILITY": kernels, "LINCHPIN_THREADS": str(threads)}


def measured(linchpin, source, place, environment):
    """Makes the job of `source` into place/out.  Returns the mean squares of each tensor and the super weights."""
    place.mkdir()
    linchpin("plan", source, place / "out", "--save", place / "job.json", env=environment)
    (importance,) = place.glob("out.shard-*-importance/importance.safetensors")
    job = json.loads((place / "job.json").read_text(encoding="utf-8"))
    found = json.loads(job["detection_json"])["super_weights"]
    return load_file(importance), [[each[key] for key in ("tensor", "row", "column", "value")] for each in found]


def finished(linchpin, place, environment):
    """Digests of what the job in `place` comes to; `place` is as before then."""
    kept = place.with_name(place.name + "-kept")
    shutil.copytree(place, kept)
    job = place / "job.json"
    for index in range(json.loads(job.read_text(encoding="utf-8"))["shards"]):
        linchpin("compress-shard", "--plan", job, "--index", index, env=environment)
    linchpin("finalize", "--plan", job, env=environment)
    found = digests(place / "out")
    shutil.rmtree(place)
    kept.rename(place)
    return found


@pytest.mark.parametrize("model", MODELS)
def test_what_was_measured_decides_every_byte(linchpin, shared, tmp_path, model):
    """Each setting's importance, taken on by workers of every other: what one process of that setting writes."""
    source = shared / "oracles/families" / model
    for kernels, threads in SETTINGS:
        place, whole = tmp_path / kernels, tmp_path / f"{kernels}-whole"
        measured(linchpin, source, place, on(kernels, threads))
        linchpin("compress", source, whole, env=on(kernels, 3 - threads))
        for other in SETTINGS:
            assert finished(linchpin, place, on(*other)) == digests(whole), (kernels, other)


def test_other_kernels_measure_the_same_but_for_the_last_bits(linchpin, shared, tmp_path):
    """And find the same super weights: a change of more than rounding would be a fault of ours."""
    runs = [measured(linchpin, shared / PLANTED, tmp_path / kernels, on(kernels, threads))
            for kernels, threads in SETTINGS]
    expected, found = runs[0]
    assert expected and len(found) == 1
    for importance, super_weights in runs:
        assert super_weights == found
        assert importance.keys() == expected.keys()
        for name, squares in importance.items():
            assert squares.dtype == numpy.float32
            assert squares == pytest.approx(expected[name], rel=5e-6, abs=0), name


@pytest.mark.parametrize("options", [("--scale", "minmax"), ("--scheme", "fp8", "--scale", "mse")], ids=" ".join)
def test_without_a_forward_pass_nothing_depends_on_the_processor(linchpin, shared, tmp_path, options):
    outputs = []
    for kernels, threads in SETTINGS:
        linchpin("compress", shared / "oracles/families/gemma2", tmp_path / kernels, "--detection", "off",
                 *options, env=on(kernels, threads))
        outputs.append(digests(tmp_path / kernels))
    assert all(output == outputs[0] for output in outputs)
