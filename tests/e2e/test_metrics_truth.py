"""After a day of jobs the metrics say what the callers saw: calls and their ends, and what lies in files.

Nothing here is taken from the program itself but what it answered and wrote.
"""

import collections
import json
import struct
import threading
import time

import grpc
import pytest

from e2e.soak import parts_of
from e2e.test_limits import stalled_parts
from support.foreign_client import CHUNK, SERVICE, ForeignClient, reason_of
from support.patience import await_that
from support.sparse_model import write_sparse_model
from support.synthetic_model import make_model

KINDS = {"PlanCompression": "plan", "DetectSuperWeights": "detect", "EvaluateCompression": "evaluate",
         "CompressModel": "compress", "CompressArtifact": "artifact", "VerifyArtifact": "verify",
         "CreateDemoModel": "demo_model", "PrepareCompression": "prepare", "CompressShard": "shard",
         "FinalizeCompression": "finalize"}
# Reasons of refusals for want of room, and those that are counted as something else besides.
REFUSALS = {"BUSY", "EXCEEDS_SERVER_LIMIT"}
INTEGRITY = {"DIGEST_MISMATCH", "SOURCE_CHANGED"}
SECURITY = {"PATH_NOT_ALLOWED", "FORMAT_REFUSED"}


def ordered(name):
    """A series with its labels by the alphabet."""
    family, brace, labels = name.rstrip("}").partition("{")
    return f"{family}{{{','.join(sorted(labels.split(',')))}}}" if brace else family


def payload(directory):
    """Bytes of the tensors in a directory, from its files alone."""
    total = 0
    for path in directory.glob("*.safetensors"):
        (header,) = struct.unpack("<Q", path.read_bytes()[:8])
        total += path.stat().st_size - 8 - header
    assert total
    return total


def beside(directory):
    """Bytes of the files that go with the tensors, the manifest not among them."""
    return sum(path.stat().st_size for path in directory.rglob("*")
               if path.is_file() and path.suffix != ".safetensors" and path.name != "linchpin.json")


class Books:
    """Calls a server and keeps books of what it was told, in the words of the metrics."""

    def __init__(self, client):
        self.client = client
        self.counts = collections.Counter()  # by series
        self.calls = collections.Counter()  # by method and code
        self.ratios = []
        self.seconds = collections.Counter()  # by method, as the caller waited

    def ended(self, method, code, reason=None):
        result = ("ok" if code == grpc.StatusCode.OK else
                  "cancelled" if code == grpc.StatusCode.CANCELLED else
                  "refused" if reason in REFUSALS else "failed")
        if method in KINDS:
            self.counts[f'linchpin_jobs_total{{kind="{KINDS[method]}",result="{result}"}}'] += 1
        name = {"CANCELLED": "Canceled", "OK": "OK"}.get(
            code.name, "".join(word.capitalize() for word in code.name.split("_")))
        self.calls[method, name] += 1
        for reasons, metric, label in ((REFUSALS, "admission_rejected", "reason"),
                                       (INTEGRITY, "integrity_failures", "kind"),
                                       (SECURITY, "security_rejections", "reason")):
            if reason in reasons:
                self.counts[f'linchpin_{metric}_total{{{label}="{reason.lower()}"}}'] += 1

    def call(self, method, **fields):
        """The answer of a call that succeeds."""
        begin = time.monotonic()
        answer = self.client.call(method, **fields)
        self.seconds[method] += time.monotonic() - begin
        self.ended(method, grpc.StatusCode.OK)
        return answer

    def refused(self, method, **fields):
        """The reason of the error of a call."""
        begin = time.monotonic()
        with pytest.raises(grpc.RpcError) as error:
            self.client.call(method, **fields)
        self.seconds[method] += time.monotonic() - begin
        reason = reason_of(error.value)
        self.ended(method, error.value.code(), reason)
        return reason

    def stage(self, name, read, written=0):
        """A stage that came to its end."""
        self.counts[f'linchpin_stage_seconds_count{{stage="{name}"}}'] += 1
        self.counts[f'linchpin_stage_bytes_total{{direction="read",stage="{name}"}}'] += read
        self.counts[f'linchpin_stage_bytes_total{{direction="written",stage="{name}"}}'] += written

    def found(self, detection):
        self.counts["linchpin_super_weights_detected_total"] += len(detection.super_weights)

    def wrote(self, source, out):
        """An output stands: what its files say."""
        manifest = json.loads((out / "linchpin.json").read_text())
        for tensor in manifest["tensors"]:
            self.counts[f'linchpin_tensors_total{{action="{tensor["action"]}"}}'] += 1
        self.ratios.append(payload(source) / payload(out))

    def compress(self, source, out, detection=None, **quantization):
        """A compression that succeeds."""
        answer = self.call("CompressModel", source=str(source), destination=str(out),
                           detection=detection or {}, quantization=quantization)
        self.found(answer.detection)
        if not (detection or {}).get("skip"):
            self.stage("forward", payload(source))
        self.stage("quantize", payload(source), payload(out))
        self.stage("artifact", beside(out), beside(out))
        self.wrote(source, out)


@pytest.fixture(name="server")
def server_fixture(start_server, tmp_path):
    return start_server("--read-root", tmp_path, "--write-root", tmp_path, "--slots", "1",
                        "--max-memory", "2GiB")


@pytest.fixture(name="books")
def books_fixture(server):
    with ForeignClient(server.endpoint) as client:
        yield Books(client)


def compress_many(books, tmp_path):
    """Schemes and formats, with a detection and without, and what stands in their files."""
    model = tmp_path / "model"
    assert books.call("CreateDemoModel", destination=str(model)).bytes == sum(
        path.stat().st_size for path in model.iterdir())
    for name, quantization in (
            ("w4a16", {}), ("w8a16", {"scheme": "SCHEME_W8A16"}), ("fp8", {"scheme": "SCHEME_FP8"}),
            ("equalized", {"equalize": True}), ("dense", {"format": "OUTPUT_FORMAT_DENSE"})):
        books.compress(model, tmp_path / name, **quantization)
    books.compress(model, tmp_path / "blind", {"skip": True}, scheme="SCHEME_W8A8",
                   scale="SCALE_RULE_MINMAX")
    assert books.counts["linchpin_super_weights_detected_total"] > 0
    return model


def ask_much(books, tmp_path, model):
    """Calls that only look."""
    books.call("GetCapabilities")
    assert books.call("PlanCompression", source=str(model)).bytes_in == payload(model)
    for proof in ("PROOF_LEVEL_NONE", "PROOF_LEVEL_JOINT"):
        found = books.call("DetectSuperWeights", source=str(model), detection={"proof": proof})
        books.found(found.detection)
        books.stage("forward", payload(model))
    books.stage("detect", payload(model))
    tokens = {"sequences": [{"ids": [1, 2, 3, 4]}]}
    assert books.call("EvaluateCompression", source=str(model), tokens=tokens).tokens == 3
    for name in ("w4a16", "dense"):
        out = tmp_path / name
        assert books.call("VerifyArtifact", directory=str(out)).matches
        files = [path for path in out.iterdir() if path.name != "linchpin.json"]
        books.stage("artifact", sum(path.stat().st_size for path in files))


def in_parts(books, tmp_path):
    """A compression in three shards."""
    model, out = tmp_path / "sharded", tmp_path / "parts"
    make_model(model, layers=3, hidden=128, intermediate=256, vocab=64, heads=4, kv_heads=2,
               layers_per_shard=1)
    planned = books.call("PlanCompression", source=str(model))
    job = {"source": str(model), "destination": str(out), "job_key": planned.job_key}
    prepared = books.call("PrepareCompression", job=job)
    books.found(prepared.detection)
    books.stage("forward", payload(model))
    job |= {"detection_json": prepared.detection_json, "importance_sha256": prepared.importance_sha256}
    assert books.refused("FinalizeCompression", job=job) == "SOURCE_NOT_FOUND"
    for index in range(3):
        shard = books.call("CompressShard", job=job, index=index)
        books.stage("quantize", shard.bytes_in, shard.bytes_out)
        assert not shard.skipped
    assert books.call("CompressShard", job=job, index=1).skipped
    books.call("FinalizeCompression", job=job)
    books.stage("artifact", beside(out), beside(out))
    books.wrote(model, out)


def go_wrong(books, tmp_path, model):
    """Calls that fail, each for a reason of its own."""
    asked = {"source": str(model), "destination": str(tmp_path / "w4a16")}
    assert books.refused("CompressModel", **asked) == "OUTPUT_EXISTS"
    assert books.refused("PlanCompression", source=str(tmp_path / "absent")) == "SOURCE_NOT_FOUND"
    assert books.refused("DetectSuperWeights", source="/etc") == "PATH_NOT_ALLOWED"
    assert books.refused("DetectSuperWeights", source=str(model), detection={
        "thresholds": {"no such": 1.0}}) == "OPTION_INVALID"
    write_sparse_model(tmp_path / "large", layers=1, hidden=8192, intermediate=28672)
    assert books.refused("DetectSuperWeights", source=str(tmp_path / "large")) == "EXCEEDS_SERVER_LIMIT"
    weights, = (tmp_path / "fp8").glob("*.safetensors")
    with open(weights, "r+b") as file:
        file.seek(-1, 2)
        last = file.read(1)[0]
        file.seek(-1, 2)
        file.write(bytes([last ^ 1]))
    assert not books.call("VerifyArtifact", directory=str(tmp_path / "fp8")).matches
    books.counts['linchpin_integrity_failures_total{kind="verify_mismatch"}'] += 1
    books.stage("artifact", sum(path.stat().st_size for path in (tmp_path / "fp8").iterdir()
                                if path.name != "linchpin.json"))


def upload(books, server, tmp_path, model):
    """An artifact as bytes; one whose caller stands still, so that another is refused, and then goes away."""
    begin = time.monotonic()
    received = list(books.client.upload(parts_of(model)))
    books.seconds["CompressArtifact"] += time.monotonic() - begin
    books.ended("CompressArtifact", grpc.StatusCode.OK)
    result, out = received[-1].result, tmp_path / "uploaded"
    out.mkdir()
    for part in received:
        if part.WhichOneof("part") == "file":
            name = part.file.name
        elif part.WhichOneof("part") == "chunk":
            with open(out / name, "ab") as file:
                file.write(part.chunk.data)
    books.found(result.detection)
    books.stage("forward", payload(model))
    books.stage("quantize", payload(model), payload(out))
    books.stage("artifact", beside(out), beside(out))
    books.wrote(model, out)

    settle(server, books)
    begin, stop = time.monotonic(), threading.Event()
    standing = books.client.upload(stalled_parts(stop, 2 * CHUNK))
    in_progress = 'linchpin_jobs_in_progress{kind="artifact"}'
    await_that(lambda: server.metrics()[in_progress] == 1)
    assert books.refused("PlanCompression", source=str(model)) == "BUSY"
    standing.cancel()
    stop.set()
    with pytest.raises(grpc.RpcError) as ended:
        list(standing)
    books.ended("CompressArtifact", ended.value.code())
    settle(server, books)
    books.seconds["CompressArtifact"] += time.monotonic() - begin


def with_labels(metrics, family):
    """{labels: value} of a family, labels as a set of `name="value"`."""
    return {frozenset(filter(None, name[len(family):].strip("{}").split(","))): value
            for name, value in metrics.items() if name.split("{")[0] == family}


def handled(metrics, family="grpc_server_handled_total", label="grpc_code"):
    """{(method, code): calls} of our own service, those that there were."""
    counts = {}
    for labels, value in with_labels(metrics, family).items():
        named = dict(text.split("=", 1) for text in labels)
        if value and named["grpc_service"] == f'"{SERVICE}"':
            counts[named["grpc_method"].strip('"'), named.get(label, "").strip('"')] = value
    return counts


def settle(server, books):
    """Until the server has counted all calls: one is over for its caller a moment before."""
    await_that(lambda: sum(handled(server.metrics()).values()) >= books.calls.total())


def check_counters(metrics, counts):
    """Every counter of the server's, those at zero too."""
    counted = ("linchpin_jobs_total", "linchpin_stage_bytes_total", "linchpin_stage_seconds_count",
               "linchpin_tensors_total", "linchpin_super_weights_detected_total",
               "linchpin_admission_rejected_total", "linchpin_integrity_failures_total",
               "linchpin_security_rejections_total", "linchpin_upstream_requests_total")
    said = {name: value for name, value in metrics.items() if name.startswith(counted)}
    assert set(counts) <= set(said), "a name that there is not"
    assert said == {name: counts[name] for name in said}


def check_ratios(metrics, ratios):
    assert metrics["linchpin_compression_ratio_count"] == len(ratios)
    assert metrics["linchpin_compression_ratio_sum"] == pytest.approx(sum(ratios), rel=1e-9)
    for labels, value in with_labels(metrics, "linchpin_compression_ratio_bucket").items():
        (text,) = labels
        bound = float(text.removeprefix('le="').rstrip('"').replace("+Inf", "inf"))
        assert value == sum(ratio <= bound for ratio in ratios), text


def check_times(metrics, seconds, begin):
    """No call took longer than its caller waited for it, no stage longer than the calls."""
    spent = handled(metrics, "grpc_server_handling_seconds_sum", "")
    for method, waited in seconds.items():
        assert 0 < spent[method, ""] <= waited, method
    stages = sum(with_labels(metrics, "linchpin_stage_seconds_sum").values())
    assert 0 < stages <= sum(seconds.values())
    assert begin <= metrics["linchpin_last_success_timestamp_seconds"] <= time.time()


def check_gauges(metrics):
    for family in ("linchpin_jobs_in_progress", "linchpin_admission_reserved_bytes",
                   "linchpin_scratch_reserved_bytes", "linchpin_draining"):
        gauges = with_labels(metrics, family)
        assert gauges and not any(gauges.values()), family


def test_after_a_day_of_jobs_the_metrics_say_what_callers_saw(books, server, tmp_path):
    begin = time.time()
    model = compress_many(books, tmp_path)
    ask_much(books, tmp_path, model)
    in_parts(books, tmp_path)
    go_wrong(books, tmp_path, model)
    upload(books, server, tmp_path, model)
    settle(server, books)
    metrics = {ordered(name): value for name, value in server.metrics().items()}
    assert handled(metrics) == books.calls
    assert handled(metrics, "grpc_server_started_total") == {
        (method, ""): sum(count for (name, _), count in books.calls.items() if name == method)
        for method, _ in books.calls}
    check_counters(metrics, books.counts)
    check_ratios(metrics, books.ratios)
    check_times(metrics, books.seconds, begin)
    check_gauges(metrics)
