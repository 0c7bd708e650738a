"""What a server holds out: stalled uploads, refusals and health checks under full load.

The bounds are those of a crowded machine; what was measured is printed (pytest -rP).
"""

import concurrent.futures
import os
import pathlib
import statistics
import threading
import time

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from conftest import CommandLine
from support.directories import digests
from support.foreign_client import CHUNK, ForeignClient, reason_of, retry_seconds_of

MIB = 1 << 20


def resident_bytes(server):
    for line in pathlib.Path(f"/proc/{server.process.pid}/status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1]) * 1024
    raise AssertionError("no VmRSS")


def wait_for(condition, seconds=15):
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not happen"
        time.sleep(0.02)


def report(name, seconds):
    ordered = sorted(seconds)
    p99 = ordered[min(len(ordered) - 1, int(len(ordered) * 0.99))]
    print(f"{name}: p50 {statistics.median(ordered) * 1e3:.1f} ms, p99 {p99 * 1e3:.1f} ms, "
          f"{len(ordered)} calls")
    return p99


def stalled_parts(stop, size):
    """Announces a file and sends chunks of it until there is no room, then stands still."""
    yield {"options": {}}
    yield {"file": {"name": "model.safetensors", "size": size}}
    data = bytes(CHUNK)
    for offset in range(0, size - CHUNK, CHUNK):
        if stop.is_set():
            return
        yield {"chunk": {"offset": offset, "data": data}}
    stop.wait(60)


@pytest.mark.parametrize("slots", [2, 64])
def test_stalled_uploads_stay_small(start_server, slots):
    """64 callers push as much as they can; few slots and many."""
    size = 2 * MIB
    server = start_server("--slots", str(slots))
    clients = [ForeignClient(server.endpoint) for _ in range(4)]
    before = resident_bytes(server)
    stop = threading.Event()
    calls = [client.upload(stalled_parts(stop, size)) for client in clients for _ in range(16)]
    peak = before
    deadline = time.monotonic() + 4
    while time.monotonic() < deadline:
        peak = max(peak, resident_bytes(server))
        time.sleep(0.05)
    reserved = server.metrics()["linchpin_admission_reserved_bytes"]
    print(f"64 stalled uploads, {slots} slots: {(peak - before) / MIB:.0f} MiB more, "
          f"{reserved / MIB:.0f} MiB reserved")
    assert peak - before <= 256 * MIB
    assert reserved <= slots * size
    stop.set()
    for call in calls:
        call.cancel()
    wait_for(lambda: server.metrics()["linchpin_admission_reserved_bytes"] == 0)
    wait_for(lambda: server.metrics()['linchpin_jobs_in_progress{kind="artifact"}'] == 0)
    for client in clients:
        client.channel.close()


def test_an_upload_lies_in_the_scratch_directory_where_there_is_one(start_server, demo_model, tmp_path):
    outputs = []
    for name, options in (("memory", []), ("disk", ["--scratch-dir", tmp_path, "--max-scratch", "1GiB"])):
        server = start_server(*options)
        CommandLine("--quiet", "--endpoint", server.endpoint)(
            "compress", demo_model, tmp_path / f"out-{name}", "--upload")
        outputs.append(digests(tmp_path / f"out-{name}"))
        metrics = server.metrics()
        assert metrics["linchpin_scratch_limit_bytes"] == (1 << 30 if options else 0)
        assert metrics["linchpin_scratch_reserved_bytes"] == 0
        assert server.stop() == 0
    assert outputs[0] == outputs[1]
    assert not list(tmp_path.glob("linchpin-scratch-*"))


def test_a_stream_may_stand_still_as_long_as_the_operator_says(start_server):
    server = start_server("--idle-seconds", "1")
    stop = threading.Event()
    with ForeignClient(server.endpoint) as client:
        begin = time.perf_counter()
        with pytest.raises(grpc.RpcError) as ended:
            list(client.upload(stalled_parts(stop, 2 * MIB)))
        assert reason_of(ended.value) == "STREAM_INVALID"
        assert 0.9 < time.perf_counter() - begin < 20
        stop.set()


def test_a_connection_takes_as_many_calls_as_the_operator_says(start_server):
    server = start_server("--slots", "8", "--max-streams", "3")
    stop = threading.Event()

    def running():
        return server.metrics()['linchpin_jobs_in_progress{kind="artifact"}']

    with ForeignClient(server.endpoint) as client:
        calls = [client.upload(stalled_parts(stop, 2 * MIB)) for _ in range(6)]
        wait_for(lambda: running() == 3)
        time.sleep(0.5)
        assert running() == 3
        stop.set()
        for call in calls:
            call.cancel()


@pytest.fixture(name="memory_cgroup")
def memory_cgroup_fixture():
    """A cgroup (v1 or v2) below this process's own with 700 MiB."""
    lines = pathlib.Path("/proc/self/cgroup").read_text().splitlines()
    own = {controllers: path for _, controllers, path in (line.split(":", 2) for line in lines)}
    top, file = pathlib.Path("/sys/fs/cgroup"), "memory.max"
    if "memory" in own:
        top, file = top / "memory", "memory.limit_in_bytes"
    parent = top / own.get("memory", own.get("", "/")).lstrip("/")
    group = (parent if parent.is_dir() else top) / f"linchpin-test-{os.getpid()}"
    try:
        group.mkdir()
        (group / file).write_text(str(700 * MIB))
    except OSError as error:
        pytest.skip(f"this machine lets nobody make cgroups: {error}")
    yield group
    group.rmdir()


def test_jobs_get_what_a_real_cgroup_leaves(start_server, memory_cgroup, demo_model):
    """The server moves into the group at its start, as in a container."""
    server = start_server("--read-root", "/", prefix=[
        "bash", "-c", f'echo $$ > {memory_cgroup}/cgroup.procs && exec "$@"', "-"])
    assert server.metrics()["linchpin_admission_limit_bytes"] == (700 - 384) * MIB
    call = CommandLine("--quiet", "--endpoint", server.endpoint)
    plan = call.run("plan", demo_model, "--json")
    assert "EXCEEDS_SERVER_LIMIT" in plan.out + plan.err, "what could never fit is refused, not killed"
    assert server.stop() == 0


def test_refusals_are_quick_and_say_when_to_come_back(start_server):
    server = start_server("--slots", "1")
    stop = threading.Event()
    with ForeignClient(server.endpoint) as holder, ForeignClient(server.endpoint) as client:
        held = holder.upload(stalled_parts(stop, 2 * MIB))
        wait_for(lambda: server.metrics()['linchpin_jobs_in_progress{kind="artifact"}'] == 1)
        seconds = []
        for _ in range(100):
            begin = time.perf_counter()
            with pytest.raises(grpc.RpcError) as refused:
                client.call("DetectSuperWeights", source="/model")
            seconds.append(time.perf_counter() - begin)
            assert refused.value.code() == grpc.StatusCode.RESOURCE_EXHAUSTED
            assert reason_of(refused.value) == "BUSY"
            assert retry_seconds_of(refused.value) == 1
            assert ("grpc-retry-pushback-ms", "1000") in refused.value.trailing_metadata()
        assert report("refusals", seconds) < 0.5
        stop.set()
        held.cancel()


def test_health_answers_while_all_cores_compute(start_server, smollm2):
    model = smollm2("bf16")
    server = start_server("--read-root", "/", "--slots", "2")
    linchpin = CommandLine("--quiet", "--endpoint", server.endpoint)
    text = model.parent / "words.txt"
    text.write_text("the quick brown fox jumps over the lazy dog " * 2000)
    jobs = [linchpin.start("evaluate", model, "--text-file", text, "--windows", "48")
            for _ in range(2)]
    try:
        wait_for(lambda: server.metrics()['linchpin_jobs_in_progress{kind="evaluate"}'] == 2, 60)
        seconds = []
        with grpc.insecure_channel(server.endpoint) as channel:
            stub = health_pb2_grpc.HealthStub(channel)
            for _ in range(200):
                begin = time.perf_counter()
                answer = stub.Check(health_pb2.HealthCheckRequest(), timeout=10)
                seconds.append(time.perf_counter() - begin)
                assert answer.status == health_pb2.HealthCheckResponse.SERVING
                time.sleep(0.005)
        still = server.metrics()['linchpin_jobs_in_progress{kind="evaluate"}']
        assert still > 0, "the jobs were over before the checks"
        assert report("health under full compute", seconds) < 0.5
    finally:
        for job in jobs:
            job.kill()
            job.communicate()


def test_a_flood_of_callers_is_served_or_refused(start_server, demo_model):
    """Ten times more callers than slots: what is accepted ends well, the rest is told at once."""
    server = start_server("--read-root", "/", "--slots", "2")

    def call(_):
        with ForeignClient(server.endpoint) as client:
            begin = time.perf_counter()
            try:
                client.call("DetectSuperWeights", source=str(demo_model))
                return "ok", time.perf_counter() - begin
            except grpc.RpcError as error:
                assert reason_of(error) == "BUSY", error
                return "busy", time.perf_counter() - begin

    with concurrent.futures.ThreadPoolExecutor(20) as pool:
        results = list(pool.map(call, range(60)))
    assert sum(kind == "ok" for kind, _ in results) >= 2
    metrics = server.metrics()
    assert metrics["linchpin_admission_reserved_bytes"] == 0
    assert metrics['linchpin_jobs_in_progress{kind="detect"}'] == 0
