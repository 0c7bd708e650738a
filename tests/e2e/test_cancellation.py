"""A caller that goes away at any stage of a job: the work ends, as cancelled, and nothing is seen of it.

The job is in that stage because its store answers nothing until it is told to, which it never is: the job
could not end by itself.  That what computes stops as soon is for tests/unit/pipeline/cancellation_test.cc.
"""

import dataclasses
import typing

import grpc
import pytest

from support.foreign_client import ForeignClient
from support.patience import PATIENCE, await_that
from support.synthetic_model import make_model

MODEL, OUT = "s3://models/cancelled/model", "s3://models/cancelled/out"
WITHOUT_DETECTION = {"detection": {"skip": True}, "quantization": {
    "scale": "SCALE_RULE_MINMAX", "skip_source_digest": True}}
DENSE = {"detection": {"skip": True}, "quantization": {
    "format": "OUTPUT_FORMAT_DENSE", "scale": "SCALE_RULE_MINMAX", "skip_source_digest": True}}
WITH_DETECTION = {"quantization": {"skip_source_digest": True}}
PROOF = {"detection": {"proof": "PROOF_LEVEL_JOINT", "proof_windows": {"size": 16, "count": 1}}}


def is_weights(request):
    """A read of weights of layers, none of headers or of the output head, of the second of two shards."""
    begin = int(request.range[len("bytes="):].split("-")[0] or 0)
    return "/model-00002" in request.path and request.method == "GET" and 4 << 20 <= begin < 24 << 20


def read_number(nth):
    """Of the source's weights: the first is for the job's key, every pass over the model follows."""
    return lambda request: is_weights(request) and request.nth == nth and "/out" not in request.path


def read_of_the_output(request):
    return is_weights(request) and "/out" in request.path


def upload(request):
    return request.method == "PUT" and "/out" in request.path and "partNumber=" in request.path


def read_back(request):
    return request.method == "GET" and "/out/" in request.path and request.range != ""


def commit(request):
    return request.method == "PUT" and request.copies


@dataclasses.dataclass
class Case:
    kind: str
    method: str
    held: typing.Callable
    stages: set  # what the caller hears of, one of these
    options: dict = dataclasses.field(default_factory=dict)


CASES = {
    "open": Case("detect", "DetectSuperWeights", read_number(1), {"checkpoint"}),
    "search": Case("detect", "DetectSuperWeights", read_number(2), {"forward"}),
    "proof": Case("detect", "DetectSuperWeights", read_number(3), {"detect"}, PROOF),
    "importance": Case("compress", "CompressModel", read_number(2), {"forward"}, WITH_DETECTION),
    "quantize": Case("compress", "CompressModel", read_number(2), {"quantize"}, WITHOUT_DETECTION),
    "quantize-after-search": Case("compress", "CompressModel", read_number(3), {"quantize"},
                                  WITH_DETECTION),
    "dense": Case("compress", "CompressModel", read_number(2), {"quantize"}, DENSE),
    "write": Case("compress", "CompressModel", upload, {"quantize"}, WITHOUT_DETECTION),
    "read-back": Case("compress", "CompressModel", read_back, {"quantize", "artifact"}, WITH_DETECTION),
    "verify": Case("verify", "VerifyArtifact", read_of_the_output, {"artifact"}),
    "evaluate": Case("evaluate", "EvaluateCompression", read_number(2), {"forward"},
                     {"tokens": {"sequences": [{"ids": [1, 2, 3, 4]}]}}),
    "prepare": Case("prepare", "PrepareCompression", read_number(2), {"forward"}),
    "shard": Case("shard", "CompressShard", read_number(2), {"quantize"}, {"index": 1}),
}
COMMITS = {
    "compress": Case("compress", "CompressModel", commit, {"quantize", "artifact"},
                     WITHOUT_DETECTION),
    "finalize": Case("finalize", "FinalizeCompression", commit, {"artifact"}),
}


@pytest.fixture(name="model", scope="module")
def model_fixture(gated_store, tmp_path_factory):
    """In two shards; larger than what is kept of reads, so that each pass reads it anew."""
    path = tmp_path_factory.mktemp("cancelled") / "model"
    make_model(path, layers=12, hidden=512, intermediate=2048, vocab=2000, heads=8, kv_heads=2)
    gated_store.put("cancelled/model", path)


def prepared(client, *, shards=()):
    """The job of a compression in parts, with these shards done."""
    plan = client.call("PlanCompression", source=MODEL, destination=OUT)
    job = {"source": MODEL, "destination": OUT, "job_key": plan.job_key, "shards": 2}
    done = client.call("PrepareCompression", job=job)
    job |= {"detection_json": done.detection_json, "importance_sha256": done.importance_sha256}
    for index in shards:
        client.call("CompressShard", job=job, index=index)
    return job


def fields_of(case, client):
    if case.method == "VerifyArtifact":
        client.call("CompressModel", source=MODEL, destination=OUT, **WITHOUT_DETECTION)
        return {"directory": OUT}
    if case.method == "PrepareCompression":
        plan = client.call("PlanCompression", source=MODEL, destination=OUT)
        return {"job": {"source": MODEL, "destination": OUT, "job_key": plan.job_key, "shards": 2}}
    if case.method in ("CompressShard", "FinalizeCompression"):
        shards = (0, 1) if case.method == "FinalizeCompression" else ()
        return {"job": prepared(client, shards=shards), **case.options}
    fields = {"source": MODEL, **case.options}
    return fields | ({"destination": OUT} if case.method == "CompressModel" else {})


@pytest.fixture(name="cancelled")
def cancelled_fixture(start_server, store):
    """cancelled(CASE): runs its call into its stage, and cancels it; (client, fields of the call)."""
    server = start_server(*store.options("s3://models/cancelled"), "--threads", "1")
    store.remove("cancelled/out")  # of a test that failed

    def run(case):
        running = f'linchpin_jobs_in_progress{{kind="{case.kind}"}}'
        client = ForeignClient(server.endpoint)
        function, request = client.method(case.method)
        fields = fields_of(case, client)
        before = store.objects("cancelled").keys()
        store.gate.forget()
        store.gate.hold(case.held)
        call = function(request(**fields), timeout=PATIENCE)
        assert store.gate.await_held(), "the job is in that stage"
        heard = set()
        for message in call:  # what is told again and again as long as nothing else is
            heard.add(message.progress.stage)
            if heard & case.stages:
                break
        assert heard & case.stages, heard
        assert server.metrics()[running] == 1
        call.cancel()
        await_that(lambda: server.metrics()[running] == 0, "the end of the work")
        assert store.gate.waiting() > 0, "it waits for no answer"
        ended = f'linchpin_jobs_total{{kind="{case.kind}",result="cancelled"}}'
        assert server.metrics()[ended] == 1
        assert server.metrics()["linchpin_admission_reserved_bytes"] == 0
        return client, fields, before

    yield run
    store.gate.release()
    store.remove("cancelled/out")


@pytest.mark.usefixtures("model")
@pytest.mark.parametrize("name", CASES)
def test_work_ends_with_its_caller(cancelled, store, name):
    client, _, before = cancelled(CASES[name])
    client.channel.close()
    assert sorted(store.objects("cancelled").keys() ^ before) == [], "nothing of it is left"


@pytest.mark.usefixtures("model")
@pytest.mark.parametrize("name", COMMITS)
def test_a_commit_that_is_cut_off_is_not_seen_and_can_be_made_again(cancelled, store, name):
    case = COMMITS[name]
    client, fields, _ = cancelled(case)
    with client:
        # The store carries out what it was asked, though nobody waits for it any more.
        store.gate.release()
        store.gate.settle()
        with pytest.raises(grpc.RpcError) as raised:
            client.call("VerifyArtifact", directory=OUT)
        assert raised.value.code() in (grpc.StatusCode.NOT_FOUND, grpc.StatusCode.INVALID_ARGUMENT)
        client.call(case.method, **fields)
        assert client.call("VerifyArtifact", directory=OUT).matches
