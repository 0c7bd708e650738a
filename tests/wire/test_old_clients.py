"""A program that was built with the API of 0.1.0 asks a server of today (README.md beside this file).

Its classes are made of linchpin-0.1.0.binpb; what it was understood to ask for is told by what is done.
"""

import grpc
import pytest

from conftest import Server
from e2e.soak import parts_of
from support.foreign_client import SERVICE, ForeignClient, reason_of
from wire.documents import DOCUMENTS
from wire.write_messages import api


class OldClient(ForeignClient):
    """Knows the service as it was, whatever the server says of itself."""

    def __init__(self, endpoint):
        super().__init__(endpoint)
        self.service = api().FindServiceByName(SERVICE)


@pytest.fixture(name="old", scope="module")
def old_fixture(tmp_path_factory):
    """A client of 0.1.0; its server may write below pytest's own directory."""
    server = Server(tmp_path_factory.mktemp("old") / "log", "--read-root", DOCUMENTS, "--write-root",
                    tmp_path_factory.getbasetemp())
    with OldClient(server.endpoint) as client:
        yield client
    server.stop()


MODEL = str(DOCUMENTS / "model")
WITHOUT_DETECTION = {"detection": {"skip": True}}


def refused(old, method, **fields):
    """The reason of an error."""
    with pytest.raises(grpc.RpcError) as error:
        old.call(method, **fields)
    return reason_of(error.value)


def test_what_a_server_can_do(old):
    answer = old.call("GetCapabilities")
    assert answer.version and "llama" in answer.families and "w4a16" in answer.schemes
    assert answer.chunk_bytes == 1 << 20 and "file" in answer.uri_schemes


def test_no_field_of_a_request_is_taken_for_another(old, tmp_path):
    asked = {"source": MODEL, "destination": str(tmp_path / "out"), **WITHOUT_DETECTION}
    assert refused(old, "CompressModel", max_memory_bytes=1, **asked) == "OPTION_INVALID"
    first = old.call("CompressModel", quantization={"scheme": "SCHEME_W8A16", "group_size": 32}, **asked)
    assert refused(old, "CompressModel", **asked) == "OUTPUT_EXISTS"
    assert refused(old, "CompressModel", max_memory_bytes=1 << 40, **asked) == "OUTPUT_EXISTS"
    second = old.call("CompressModel", overwrite=True, max_memory_bytes=1 << 30, **asked)
    assert first.bytes_in == second.bytes_in and first.bytes_out > second.bytes_out
    assert '"scheme":"w4a16"' in second.manifest_json.replace(" ", "")


def test_what_was_found_and_measured(old):
    found = old.call("DetectSuperWeights", source=MODEL)
    (weight,) = found.detection.super_weights
    assert (weight.layer, weight.row, weight.column, weight.value) == (0, 7, 23, 3)
    said = old.call("EvaluateCompression", source=MODEL, tokens={"sequences": [{"ids": [1, 2, 3]}]},
                    against=MODEL, analyses={"arms": True, "blocks": [1024], "bits": 3})
    assert said.tokens == 2 and said.loss > 0 and said.against.loss == said.loss
    assert {arm.name for arm in said.arms} == {"rtn", "rtn_clip", "rtn_clip_restore", "rtn_held_out"}
    assert {arm.block for arm in said.arms} == {1024}


def test_a_job_in_parts(old, tmp_path):
    planned = old.call("PlanCompression", source=MODEL)
    assert [shard.name for shard in planned.shards] == [f"model-0000{i}-of-00002.safetensors" for i in (1, 2)]
    job = {"source": MODEL, "destination": str(tmp_path / "out"), "job_key": planned.job_key}
    prepared = old.call("PrepareCompression", job=job)
    job |= {"detection_json": prepared.detection_json, "importance_sha256": prepared.importance_sha256}
    for index in range(2):
        assert old.call("CompressShard", job=job, index=index).bytes_in == planned.shards[index].bytes_in
    (kept,) = old.call("FinalizeCompression", job=job).kept
    assert kept.source_value == kept.stored_value == 3
    said = old.call("VerifyArtifact", directory=str(tmp_path / "out"))
    assert said.matches and [weight.row for weight in said.kept] == [7]


def test_a_model_as_bytes(old):
    received = list(old.upload(parts_of(DOCUMENTS / "model")))
    kinds = [part.WhichOneof("part") for part in received]
    assert kinds[-1] == "result" and {"file", "chunk", "end"} <= set(kinds)
    names = [part.file.name for part in received if part.WhichOneof("part") == "file"]
    assert {"linchpin.json", "model-00002-of-00002.safetensors"} <= set(names)
