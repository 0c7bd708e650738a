"""Weights are never kept: what a detection takes at its peak grows with the layers by their trace alone, the
prompt's residual stream in three forms; a compression keeps to the ceiling that it is given; and no job takes
more than it has reserved."""

import os
import pathlib
import re
import subprocess

import grpc
import pytest

from conftest import CommandLine
from support.foreign_client import ForeignClient
from support.sparse_model import write_sparse_model
from support.synthetic_model import make_model


def peak_of(command):
    """Resident bytes at the peak of a command, or of a process that it started and waited for, on two
    threads, however many cores there are."""
    with subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
                          env={**os.environ, "LINCHPIN_THREADS": "2"}) as process:
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
    assert process.returncode == 0
    return usage.ru_maxrss * 1024


def test_forty_layers_take_the_memory_of_two(linchpin, tmp_path):
    peaks = {}
    for layers in (2, 40):
        model = tmp_path / str(layers)
        total = write_sparse_model(model, layers, intermediate=4096)
        peaks[layers] = peak_of(linchpin.command("detect", model))
    print(peaks)
    trace = 38 * 3 * 16 * 512 * 4  # 16 tokens
    # It would grow by nearly all of them if weights stayed.
    assert peaks[40] - peaks[2] < trace + total / 4, peaks


def peak_beside_files(server):
    """Bytes that a server had resident at its peak, without the pages of its programs' files: of those each
    system keeps as many at hand as it likes."""
    status = pathlib.Path(f"/proc/{server.process.pid}/status").read_text(encoding="ascii")
    peak, files = (int(re.search(rf"{name}:\s+(\d+) kB", status)[1]) for name in ("VmHWM", "RssFile"))
    return (peak - files) * 1024


def test_a_ceiling_is_kept_or_refused_with_the_least_that_works(linchpin, start_server, tmp_path):
    model = tmp_path / "model"
    total = write_sparse_model(model, 6, hidden=2048, intermediate=5632)
    refused = linchpin.run("compress", model, tmp_path / "out", "--detection", "off",
                           "--max-memory", "50MB")
    assert refused.code == 42 and "[OPTION_INVALID]" in refused.err, refused.err
    least = int(re.search(r"allow (\d+) or more", refused.err)[1])
    assert 50e6 < least < total
    for name, allowed in (("least", least), ("more", least + 60_000_000)):
        server = start_server("--read-root", tmp_path, "--write-root", tmp_path, "--threads", "2")
        remote = CommandLine("--quiet", "--endpoint", server.endpoint)
        remote("compress", model, tmp_path / name, "--detection", "off", "--max-memory", str(allowed))
        print(f"{name}: {peak_beside_files(server) / 1e6:.0f} of {allowed / 1e6:.0f} MB")
        assert peak_beside_files(server) <= allowed, name
        assert server.stop() == 0
    # Slabs and threads change nothing in what comes out.
    linchpin("compress", model, tmp_path / "free", "--detection", "off")
    for path in (tmp_path / "free").iterdir():
        assert path.read_bytes() == (tmp_path / "least" / path.name).read_bytes(), path.name


# Of a deep model the trace grows, of one with a large vocabulary the logits, of a narrow one their slabs.
SHAPES = {
    "wide": lambda path: make_model(path, layers=2, hidden=1024, intermediate=4096, vocab=1000, heads=16,
                                    kv_heads=4),
    "deep": lambda path: write_sparse_model(path, 40, hidden=256, intermediate=512),
    "vocabulary": lambda path: write_sparse_model(path, 2, hidden=256, intermediate=512, vocab=100_000),
    "narrow": lambda path: write_sparse_model(path, 2, hidden=64, intermediate=128, vocab=65_536)}


def tokens(count):
    return {"tokens": {"sequences": [{"ids": [1, *((7 * i) % 900 + 2 for i in range(count - 1))]}]}}


KINDS = {
    "detect": ("DetectSuperWeights", {}),
    "proof": ("DetectSuperWeights", {"detection": {"proof": "PROOF_LEVEL_JOINT"}}),
    "evaluate": ("EvaluateCompression", tokens(512)),
    "arms": ("EvaluateCompression", {**tokens(512), "analyses": {"arms": True, "blocks": [16384]}}),
    "awq": ("EvaluateCompression", {**tokens(64), "analyses": {"awq": True}}),
    "compress": ("CompressModel", {})}


@pytest.fixture(name="model_of", scope="module")
def model_of_fixture(tmp_path_factory):
    """model_of(shape): its directory."""
    top = tmp_path_factory.mktemp("shapes")

    def make(shape):
        if not (top / shape).exists():
            SHAPES[shape](top / shape)
        return top / shape
    return make


def needs(server, method, **fields):
    """What a job says that it needs, to a server that has nothing."""
    with ForeignClient(server.endpoint) as client, pytest.raises(grpc.RpcError) as refused:
        client.call(method, **fields)
    return int(re.search(r"needs (\d+) more bytes of memory beside 0", refused.value.details())[1])


def check_growth(name, server, reserved, job):
    """Runs a job that reserves so much; what the idle server has comes on top."""
    before = peak_beside_files(server)
    job()
    grew = peak_beside_files(server) - before
    print(f"{name}: {grew / 1e6:.0f} of {reserved / 1e6:.0f} MB that were reserved")
    assert grew <= reserved


@pytest.mark.parametrize("shape, kind", [
    ("wide", "detect"), ("wide", "proof"), ("wide", "evaluate"), ("wide", "awq"), ("wide", "compress"),
    ("deep", "detect"), ("deep", "compress"), ("vocabulary", "proof"), ("vocabulary", "evaluate"),
    ("vocabulary", "compress"), ("narrow", "evaluate"), ("narrow", "arms")])
def test_a_job_takes_no_more_than_it_reserves(start_server, model_of, tmp_path, shape, kind):
    method, fields = KINDS[kind]
    fields = fields | {"source": str(model_of(shape))}
    roots = ["--read-root", "/", "--write-root", tmp_path, "--threads", "2"]
    server = start_server(*roots)
    with ForeignClient(server.endpoint) as client:
        if kind == "compress":  # which fits itself into what there is
            fields |= {"destination": str(tmp_path / "out")}
            reserved = client.call("PlanCompression", **fields).memory_bytes
        else:
            reserved = needs(start_server(*roots, "--max-memory", "1"), method, **fields)
        check_growth(f"{shape}, {kind}", server, reserved, lambda: client.call(method, **fields))


def test_an_upload_takes_no_more_than_it_reserves(start_server, model_of, tmp_path):
    """The files, what a compression needs, and as much as the files again for what comes out."""
    model = model_of("wide")
    server = start_server("--read-root", model, "--threads", "2")
    with ForeignClient(server.endpoint) as client:
        needed = client.call("PlanCompression", source=str(model)).memory_bytes
    sent = sum(path.stat().st_size for path in model.iterdir())
    remote = CommandLine("--quiet", "--endpoint", server.endpoint)
    check_growth("upload", server, needed + 2 * sent,
                 lambda: remote("compress", model, tmp_path / "out", "--upload"))


def test_a_job_from_store_to_store_takes_no_more_than_it_reserves(start_server, store, model_of):
    store.put("memory/model", model_of("wide"))
    server = start_server(*store.options("s3://models/memory"), "--threads", "2")
    ends = {"source": "s3://models/memory/model", "destination": "s3://models/memory/out"}
    with ForeignClient(server.endpoint) as client:
        reserved = client.call("PlanCompression", **ends).memory_bytes
        check_growth("S3", server, reserved, lambda: client.call("CompressModel", **ends))
    store.remove("memory")
