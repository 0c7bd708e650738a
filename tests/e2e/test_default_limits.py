"""Clients with gRPC's default limit of 4 MiB for a message get every answer, also of models with many tensors.

The command line allows itself more; this client is Python's as it comes.  A manifest has some 550 bytes for each
tensor, so that an answer with more than about 7,500 of them would not pass.
"""

import pytest

from conftest import Server
from e2e.soak import parts_of
from support.foreign_client import ForeignClient
from support.sparse_model import write_sparse_model
from support.synthetic_model import make_model

LIMIT = 4 << 20
TOKENS = {"sequences": [{"ids": [1, 2, 3, 4, 5, 6]}]}


@pytest.fixture(name="place", scope="module")
def place_fixture(tmp_path_factory):
    """Where the models are and outputs may be: `deep` has a hundred layers, `broad` 5,403 tensors."""
    place = tmp_path_factory.mktemp("limits")
    make_model(place / "deep", layers=100, hidden=128, intermediate=128, vocab=64, heads=4, kv_heads=2,
               layers_per_shard=50)
    write_sparse_model(place / "broad", layers=600, hidden=64, intermediate=64, vocab=64,
                       layers_per_shard=300)
    return place


@pytest.fixture(name="call", scope="module")
def call_fixture(place):
    """call(method, **fields): the answer, which the client took."""
    server = Server(place / "log", "--read-root", place, "--write-root", place)
    with ForeignClient(server.endpoint) as client:
        def call(method, **fields):
            answer = client.call(method, timeout=600, **fields)
            print(f"{method}: {answer.ByteSize()} bytes")
            assert answer.ByteSize() < LIMIT
            return answer
        call.client = client
        yield call
    server.stop()


def test_findings_of_a_hundred_layers(call, place):
    """With all that a detection measures: each layer's maxima, seven prompts, the proof, the paper's figures."""
    found = call("DetectSuperWeights", source=str(place / "deep"), detection={
        "proof": "PROOF_LEVEL_JOINT", "proof_tokens": TOKENS, "prompts": 7, "study": True})
    assert found.detection.super_weights and found.detection.prompts == 7
    assert found.detection_json.count('"layer":99') >= 1 and '"study":{' in found.detection_json


def test_measurements_of_a_hundred_layers(call, place):
    said = call("EvaluateCompression", source=str(place / "deep"), tokens=TOKENS,
                analyses={"arms": True, "blocks": [1024], "activations": True, "awq": True})
    assert len(said.arms) == 4 and len(said.activations) == 3 and said.awq


def test_an_output_of_a_hundred_layers(call, place):
    result = call("CompressModel", source=str(place / "deep"), destination=str(place / "deep-out"))
    assert result.kept and result.manifest_json.count('"action"') == 903
    assert call("VerifyArtifact", directory=str(place / "deep-out")).matches


def test_thousands_of_tensors(call, place):
    """Whichever way they are compressed."""
    source, skip = str(place / "broad"), {"detection": {"skip": True}}
    planned = call("PlanCompression", source=source, **skip)
    assert len(planned.tensors) == 5403
    whole = call("CompressModel", source=source, destination=str(place / "whole"), **skip)
    assert LIMIT / 2 < whole.ByteSize(), "near the limit"
    job = {"source": source, "destination": str(place / "parts"), "job_key": planned.job_key, **skip}
    call("PrepareCompression", job=job)
    for index in range(len(planned.shards)):
        call("CompressShard", job=job, index=index)
    assert call("FinalizeCompression", job=job).manifest_json == whole.manifest_json
    assert call("VerifyArtifact", directory=str(place / "parts")).matches


def test_thousands_of_tensors_as_bytes(call, place):
    def parts():
        for part in parts_of(place / "broad"):
            yield {"options": {"detection": {"skip": True}}} if "options" in part else part

    received = list(call.client.upload(parts(), timeout=600))
    assert max(part.ByteSize() for part in received) < LIMIT
    assert received[-1].result.manifest_json.count('"action"') == 5403
