"""What a server holds out: stalled uploads, refusals and health checks under full load.

Held to bytes and events; the times that were measured are printed (pytest -rP).
"""

import collections
import concurrent.futures
import os
import pathlib
import re
import statistics
import threading
import time

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from conftest import CommandLine
from support.directories import digests
from support.foreign_client import CHUNK, ForeignClient, reason_of, retry_seconds_of
from support.own_mounts import in_own_mounts
from support.patience import PATIENCE, await_that

MIB = 1 << 20


def memory(server, which):
    """Resident bytes: VmRSS now, VmHWM at the peak."""
    status = pathlib.Path(f"/proc/{server.process.pid}/status").read_text(encoding="ascii")
    return int(re.search(rf"{which}:\s+(\d+) kB", status)[1]) * 1024


def report(name, seconds):
    ordered = sorted(seconds)
    p99 = ordered[min(len(ordered) - 1, int(len(ordered) * 0.99))]
    print(f"{name}: p50 {statistics.median(ordered) * 1e3:.1f} ms, p99 {p99 * 1e3:.1f} ms, "
          f"{len(ordered)} calls")


def stalled_parts(stop, size, stands=lambda: None):
    """Announces a file and sends all of it but the last chunk, then says so and stands still."""
    yield {"options": {}}
    yield {"file": {"name": "model.safetensors", "size": size}}
    data = bytes(CHUNK)
    for offset in range(0, size - CHUNK, CHUNK):
        if stop.is_set():
            return
        yield {"chunk": {"offset": offset, "data": data}}
    stands()
    stop.wait(PATIENCE)


@pytest.mark.parametrize("slots, size", [(2, 16 * MIB), (64, 2 * MIB)])
def test_stalled_uploads_stay_small(start_server, slots, size):
    """64 callers push as much as they can: of few slots four times as much as may be held."""
    server = start_server("--slots", str(slots), "--idle-seconds", "3600")
    clients = [ForeignClient(server.endpoint) for _ in range(4)]
    before = memory(server, "VmRSS")
    stop = threading.Event()
    standing = collections.Counter()
    calls = [client.upload(stalled_parts(stop, size, lambda i=i: standing.update([i])))
             for i, client in enumerate(clients * 16)]
    in_progress = 'linchpin_jobs_in_progress{kind="artifact"}'
    await_that(lambda: server.metrics()[in_progress] == min(slots, 64)
               and all(call.done() or i in standing for i, call in enumerate(calls)))
    reserved = server.metrics()["linchpin_admission_reserved_bytes"]
    assert reserved <= slots * size
    stop.set()
    for call in calls:
        call.cancel()
    await_that(lambda: server.metrics()["linchpin_admission_reserved_bytes"] == 0)
    await_that(lambda: server.metrics()[in_progress] == 0)
    more = memory(server, "VmHWM") - before
    print(f"64 stalled uploads, {slots} slots: {more / MIB:.0f} MiB more, "
          f"{reserved / MIB:.0f} MiB reserved")
    assert more <= reserved + 224 * MIB
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
        begin = time.monotonic()
        with pytest.raises(grpc.RpcError) as ended:
            list(client.upload(stalled_parts(stop, 2 * MIB)))
        assert reason_of(ended.value) == "STREAM_INVALID"
        assert time.monotonic() - begin > 0.99, "no sooner"
        stop.set()


def test_a_connection_takes_as_many_calls_as_the_operator_says(start_server):
    server = start_server("--slots", "8", "--max-streams", "3")
    stop = threading.Event()

    def count(name):
        return sum(value for key, value in server.metrics().items()
                   if key.startswith(name) and "CompressArtifact" in key)

    with ForeignClient(server.endpoint) as client:
        calls = [client.upload(stalled_parts(stop, 2 * MIB)) for _ in range(6)]
        # Each that ends lets the next one in, and no other.
        for started in (3, 4, 5, 6):
            await_that(lambda started=started: count("grpc_server_started_total") >= started)
            assert count("grpc_server_started_total") == started
            next(call for call in calls if not call.done()).cancel()
        stop.set()
        for call in calls:
            call.cancel()


def own_cgroup():
    """(A new cgroup, of v1 or v2, below this process's own; the file that holds its limit)."""
    lines = pathlib.Path("/proc/self/cgroup").read_text().splitlines()
    own = {controllers: path for _, controllers, path in (line.split(":", 2) for line in lines)}
    top, file = pathlib.Path("/sys/fs/cgroup"), "memory.max"
    if "memory" in own:
        top, file = top / "memory", "memory.limit_in_bytes"
    parent = top / own.get("memory", own.get("", "/")).lstrip("/")
    group = (parent if parent.is_dir() else top) / f"linchpin-test-{os.getpid()}"
    return group, group / file


# The limit at the root of the hierarchy, where a container sees its own group.
AS_IN_A_CONTAINER = """
mount -t tmpfs tmpfs /sys/fs/cgroup && mkdir /sys/fs/cgroup/memory &&
echo "$0" | tee /sys/fs/cgroup/memory.max > /sys/fs/cgroup/memory/memory.limit_in_bytes && exec "$@"
"""


@pytest.fixture(name="memory_cgroup")
def memory_cgroup_fixture():
    """What is put before a program so that it runs in a cgroup with 700 MiB; where nobody may make one, so that
    it sees what it would see in one."""
    group, file = own_cgroup()
    try:
        group.mkdir()
        file.write_text(str(700 * MIB))
    except OSError as error:
        if group.is_dir():
            group.rmdir()
        seen = in_own_mounts(["bash", "-c", AS_IN_A_CONTAINER, str(700 * MIB)])
        if seen is None:
            pytest.skip(f"this machine lets nobody make or show cgroups: {error}")
        yield seen
        return
    yield ["bash", "-c", f'echo $$ > {group}/cgroup.procs && exec "$@"', "-"]
    group.rmdir()


def test_jobs_get_what_a_cgroup_leaves(start_server, memory_cgroup, demo_model):
    """The server is in the group from its start, as in a container."""
    server = start_server("--read-root", "/", prefix=memory_cgroup)
    assert server.metrics()["linchpin_admission_limit_bytes"] == (700 - 384) * MIB
    call = CommandLine("--quiet", "--endpoint", server.endpoint)
    plan = call.run("plan", demo_model, "--json")
    assert "EXCEEDS_SERVER_LIMIT" in plan.out + plan.err, "what could never fit is refused, not killed"
    assert server.stop() == 0


def test_refusals_are_told_at_once_and_say_when_to_come_back(start_server):
    """While the only slot is held all the time: who waited for it would never be answered."""
    server = start_server("--slots", "1", "--idle-seconds", "3600")
    stop = threading.Event()
    with ForeignClient(server.endpoint) as holder, ForeignClient(server.endpoint) as client:
        held = holder.upload(stalled_parts(stop, 2 * MIB))
        await_that(lambda: server.metrics()['linchpin_jobs_in_progress{kind="artifact"}'] == 1)
        seconds = []
        for _ in range(100):
            begin = time.perf_counter()
            with pytest.raises(grpc.RpcError) as refused:
                client.call("DetectSuperWeights", source="/model")
            seconds.append(time.perf_counter() - begin)
            assert refused.value.code() == grpc.StatusCode.RESOURCE_EXHAUSTED
            assert_says_when_to_come_back(refused.value)
        assert not held.done()
        report("refusals", seconds)
        stop.set()
        held.cancel()


def assert_says_when_to_come_back(error):
    assert reason_of(error) == "BUSY"
    assert retry_seconds_of(error) == 1
    assert ("grpc-retry-pushback-ms", "1000") in error.trailing_metadata()


def test_health_answers_while_all_cores_compute(start_server, smollm2):
    """All through two jobs that go on for longer than the checks do."""
    model = smollm2("bf16")
    server = start_server("--read-root", "/", "--slots", "2")
    linchpin = CommandLine("--quiet", "--endpoint", server.endpoint)
    text = model.parent / "words.txt"
    text.write_text("the quick brown fox jumps over the lazy dog " * 40_000)
    jobs = [linchpin.start("evaluate", model, "--text-file", text, "--windows", "4096", "--window",
                           "64") for _ in range(2)]
    running = 'linchpin_jobs_in_progress{kind="evaluate"}'
    try:
        await_that(lambda: server.metrics()[running] == 2)
        seconds = []
        with grpc.insecure_channel(server.endpoint) as channel:
            stub = health_pb2_grpc.HealthStub(channel)
            for _ in range(200):
                begin = time.perf_counter()
                answer = stub.Check(health_pb2.HealthCheckRequest(), timeout=PATIENCE)
                seconds.append(time.perf_counter() - begin)
                assert answer.status == health_pb2.HealthCheckResponse.SERVING
        assert server.metrics()[running] == 2, "health does not wait for computing"
        report("health under full compute", seconds)
    finally:
        for job in jobs:
            job.kill()
            job.communicate()


def test_overload_is_refused_and_what_is_accepted_comes_out_right(start_server, store, demo_model,
                                                                  tmp_path):
    """Ten times as many callers as slots, then ten times as many bytes as there are, all while those that
    were accepted are held in the middle of their work."""
    slots = 3
    for i in range(10 * slots):
        store.put(f"overload/{i}/model", demo_model)
    CommandLine("--quiet")("compress", demo_model, tmp_path / "whole")
    expected = digests(tmp_path / "whole")
    options = ["--write-root", tmp_path, "--threads", "2", *store.options("s3://models/overload")]
    with ForeignClient(start_server(*options).endpoint) as client:
        size = client.call("PlanCompression", source="s3://models/overload/0/model",
                           destination=str(tmp_path / "out")).memory_bytes
    for name, limit in (("slots", 100 * size), ("bytes", slots * size + size // 2)):
        server = start_server(*options, "--max-memory", str(limit),
                              "--slots", str(slots if name == "slots" else 10 * slots))
        outcomes = flood(server, store, [tmp_path / f"{name}-{i}" for i in range(10 * slots)])
        accepted = [place for place, error in outcomes.items() if error is None]
        print(f"overload of {name}: {len(accepted)} accepted, "
              f"{memory(server, 'VmHWM') / MIB:.0f} MiB at the peak")
        assert len(accepted) == slots
        assert memory(server, "VmHWM") <= limit + 384 * MIB  # what the server itself may need
        for place, error in outcomes.items():
            if error is not None:
                assert_says_when_to_come_back(error)
                assert not place.exists()
            else:
                assert digests(place) == expected
        metrics = server.metrics()
        assert metrics["linchpin_admission_reserved_bytes"] == 0
        assert metrics['linchpin_jobs_in_progress{kind="compress"}'] == 0
        assert metrics['linchpin_admission_rejected_total{reason="busy"}'] == 9 * slots
        assert server.stop() == 0


def flood(server, store, places):
    """{place: error or None} of as many calls at once, of which none may end well before all others are
    refused."""
    store.gate.forget()
    # The source is looked at for what to reserve, twice at its configuration, and opened again when that is
    # reserved.
    store.gate.hold(lambda request: request.path.endswith("config.json") and request.nth >= 3)
    outcomes = {}

    def call(number, place):
        with ForeignClient(server.endpoint) as client:
            try:
                client.call("CompressModel", source=f"s3://models/overload/{number}/model",
                            destination=str(place))
                outcomes[place] = None
            except grpc.RpcError as error:
                outcomes[place] = error

    with concurrent.futures.ThreadPoolExecutor(len(places)) as pool:
        calls = [pool.submit(call, number, place) for number, place in enumerate(places)]
        await_that(lambda: len(outcomes) == len(places) - 3 or all(c.done() for c in calls))
        store.gate.release()
    return outcomes
