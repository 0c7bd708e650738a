"""The jobs in deploy/kubernetes: their containers' commands, run as they stand there, on this machine."""

import os
import re
import subprocess

import pytest
import yaml

from conftest import ROOT, binaries
from support.directories import digests
from support.patience import PATIENCE
from support.synthetic_model import make_model

FOLDER = ROOT / "deploy/kubernetes"
SHARDS = 3


@pytest.fixture(name="checkpoint", scope="module")
def checkpoint_fixture(tmp_path_factory):
    """A synthetic checkpoint in three shards."""
    path = tmp_path_factory.mktemp("models") / "model"
    make_model(path, layers=18, hidden=256, intermediate=512, vocab=1000, heads=4, kv_heads=2)
    assert len(list(path.glob("*.safetensors"))) == SHARDS
    return path


@pytest.fixture(name="whole", scope="module")
def whole_fixture(linchpin, checkpoint, tmp_path_factory):
    """What one process writes."""
    out = tmp_path_factory.mktemp("whole") / "model-w4a16"
    linchpin("compress", checkpoint, out)
    return digests(out)


@pytest.fixture(name="run")
def run_fixture(checkpoint, tmp_path):
    """run(CONTAINER, **variables): its command, with the volumes' paths where they are here."""
    def run(container, **variables):
        words = [*container["command"], *container["args"]]
        for name, value in variables.items():
            words = [word.replace(f"$({name})", value) for word in words]
        assert not any("$(" in word for word in words)
        places = {"/models": checkpoint.parent, "/output": tmp_path, "/tmp/": f"{tmp_path}/"}
        words = [re.sub("|".join(places), lambda match: str(places[match[0]]), word)
                 for word in words]
        path = f"{binaries()}:{os.environ['PATH']}"
        subprocess.run(words, check=True, env={**os.environ, "PATH": path}, timeout=PATIENCE)
    return run


def container_of(job):
    (container,) = job["spec"]["template"]["spec"]["containers"]
    return container


def load(name):
    return yaml.safe_load((FOLDER / name).read_text())


def test_the_three_jobs_write_what_one_process_writes(run, whole, tmp_path):
    run(container_of(load("plan.yaml")))
    for index in (2, 0, 1, 0):
        run(container_of(load("shards.yaml")), JOB_COMPLETION_INDEX=str(index))
    run(container_of(load("finalize.yaml")))
    assert digests(tmp_path / "model-w4a16") == whole


def test_what_no_retry_mends_is_not_tried_again():
    shards = load("shards.yaml")["spec"]
    assert shards["completionMode"] == "Indexed" and shards["backoffLimitPerIndex"] > 0
    for name, action in [("plan", "FailJob"), ("shards", "FailIndex"), ("finalize", "FailJob")]:
        (rule,) = load(f"{name}.yaml")["spec"]["podFailurePolicy"]["rules"]
        assert rule == {"action": action, "onExitCodes": {"operator": "In", "values": [42]}}


def parameters_in(value, given):
    """Puts the values of Argo's {{parameters}} in their places."""
    if isinstance(value, dict):
        return {key: parameters_in(item, given) for key, item in value.items()}
    if isinstance(value, list):
        return [parameters_in(item, given) for item in value]
    return re.sub(r"\{\{(.*?)\}\}", lambda match: given[match[1]], value) \
        if isinstance(value, str) else value


def test_the_workflow_writes_what_one_process_writes(run, whole, tmp_path):
    templates = {t["name"]: t for t in load("argo-workflow.yaml")["spec"]["templates"]}
    given = {"workflow.parameters.source": "/models/model",
             "workflow.parameters.destination": "/output/model-w4a16",
             "workflow.parameters.job": "/output/job.json"}
    steps = [step["name"] for (step,) in templates["compress"]["steps"]]
    assert steps == ["plan", "shard", "finalize"]
    run(parameters_in(templates["plan"]["container"], given))
    shards = (tmp_path / "shards").read_text().strip()
    assert shards == str(SHARDS)
    for index in range(int(shards)):
        run(parameters_in(templates["shard"]["container"],
                          {**given, "inputs.parameters.index": str(index)}))
    run(parameters_in(templates["finalize"]["container"], given))
    assert digests(tmp_path / "model-w4a16") == whole


@pytest.mark.parametrize("name", ["plan", "shards", "finalize"])
def test_pods_are_restricted(name):
    pod = load(f"{name}.yaml")["spec"]["template"]["spec"]
    assert pod["securityContext"]["runAsNonRoot"] and not pod["automountServiceAccountToken"]
    security = container_of(load(f"{name}.yaml"))["securityContext"]
    assert security["readOnlyRootFilesystem"] and security["capabilities"]["drop"] == ["ALL"]
