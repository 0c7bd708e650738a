"""Kills, two writers, a full disk, a long run: nothing partial is seen, and a retry gives the same.

Where something must happen in the middle of a job, its source lies in a store whose answers wait for the test.
"""

import contextlib
import os
import pathlib
import re
import resource
import signal
import socket
import subprocess
import threading

import grpc
import pytest

from conftest import CommandLine
from e2e.soak import descriptors, settled, soak
from support.byte_gate import ByteGate
from support.directories import digests
from support.foreign_client import CHUNK, ForeignClient, reason_of
from support.gated_store import from_request
from support.own_mounts import in_own_mounts
from support.patience import PATIENCE, await_that
from support.synthetic_model import make_model

SOURCE = "s3://models/faults/model"


def remote(server):
    return CommandLine("--quiet", "--endpoint", server.endpoint)


@pytest.fixture(name="checkpoint", scope="module")
def checkpoint_fixture(tmp_path_factory, gated_store):
    """A synthetic checkpoint in two shards of many tensors, which also lies at SOURCE."""
    path = tmp_path_factory.mktemp("synthetic") / "model"
    make_model(path, layers=12, hidden=512, intermediate=2048, vocab=2000, heads=8, kv_heads=2)
    gated_store.put("faults/model", path)
    return path


@pytest.fixture(name="reference", scope="module")
def reference_fixture(linchpin, checkpoint, tmp_path_factory):
    """What an undisturbed run writes."""
    out = tmp_path_factory.mktemp("reference") / "out"
    linchpin("compress", checkpoint, out)
    return digests(out)


@pytest.fixture(name="start")
def start_fixture(start_server, store, checkpoint, tmp_path):
    """start(*options): a server that reads SOURCE through the gate and writes to the test's directory."""
    assert checkpoint.exists()

    def start(*options):
        return start_server("--read-root", "/", "--write-root", tmp_path, "--s3-endpoint",
                            store.gate.endpoint, "--read-prefix", "s3://models/faults", *options)
    return start


def hidden(directory):
    return [path.name for path in directory.iterdir() if path.name.startswith(".")]


def running(server, kind="compress"):
    return server.metrics()[f'linchpin_jobs_in_progress{{kind="{kind}"}}']


def test_a_server_killed_at_any_moment_leaves_nothing_to_see(start, store, reference, tmp_path):
    """At every few requests to the source, from the first to the last."""
    out = tmp_path / "out"
    remote(start())("compress", SOURCE, out)
    assert digests(out) == reference
    out.rename(tmp_path / "undisturbed")
    requests = len(store.gate.requests)
    killed = 0
    for number in range(0, requests, max(1, requests // 12)):
        store.gate.forget()
        store.gate.hold(from_request(number))
        server = start()
        job = remote(server).start("compress", SOURCE, out)
        # What a killed run left is not read again: a later one may end before it asks so often.
        if store.gate.await_held(or_ended=lambda job=job: job.poll() is not None):
            server.process.kill()
            killed += 1
        _, error = job.communicate(timeout=PATIENCE)
        if out.exists():
            assert digests(out) == reference
            out.rename(tmp_path / f"done-{number}")
        else:
            assert job.returncode == 75, error
    store.gate.release()
    assert killed >= 6
    for left in tmp_path.glob(".out.*"):
        os.utime(left, (0, 0))  # a young one might be another writer's, where locks do not work
    remote(start())("compress", SOURCE, out)
    assert digests(out) == reference
    assert not hidden(tmp_path), "what the killed ones left went with the next run"


def test_a_killed_job_is_gone_on_with(start, store, tmp_path):
    """The first of two shards was written: it is not read again."""
    options = ["--detection", "off", "--source-digest", "off"]

    def weights_read():
        return {request.range for request in store.gate.requests
                if "/model-00001" in request.path and request.method == "GET"}

    remote(start("--threads", "1"))("compress", SOURCE, tmp_path / "undisturbed", *options)
    expected = digests(tmp_path / "undisturbed")
    store.gate.forget()
    # Once for the job's key, then to be compressed.
    store.gate.hold(lambda request: "/model-00002" in request.path and request.nth == 2
                    and request.range.startswith("bytes=8388608-"))
    server = start("--threads", "1")
    job = remote(server).start("compress", SOURCE, tmp_path / "out", *options)
    assert store.gate.await_held(or_ended=lambda: job.poll() is not None)
    server.process.kill()
    job.communicate()
    store.gate.release()
    notes, = tmp_path.glob(".out.*/.linchpin-notes")
    assert notes.stat().st_size > 200
    all_of_it = weights_read()
    store.gate.forget()
    remote(start("--threads", "1"))("compress", SOURCE, tmp_path / "out", *options)
    assert digests(tmp_path / "out") == expected
    again = [request for request in store.gate.requests
             if "/model-00001" in request.path and request.method == "GET" and request.nth == 2]
    assert len(again) < len(all_of_it) / 2, again


@pytest.fixture(name="held")
def held_fixture(start, store, tmp_path):
    """held(*options): (a server in the middle of a compression, the command that waits for it)."""
    def run(*options):
        server = start(*options)
        store.gate.hold(from_request(20))
        job = remote(server).start("compress", SOURCE, tmp_path / "out")
        assert store.gate.await_held(or_ended=lambda: job.poll() is not None)
        assert running(server) == 1
        return server, job
    return run


def test_sigterm_lets_a_job_finish(held, store, reference, tmp_path):
    server, job = held("--drain-seconds", str(2 * PATIENCE))
    server.process.send_signal(signal.SIGTERM)
    await_that(lambda: server.metrics()["linchpin_draining"] == 1)
    assert running(server) == 1
    refused = remote(server).run("detect", SOURCE)
    assert refused.code == 75 and refused.error.endswith("[DRAINING]"), refused.err
    store.gate.release()
    _, error = job.communicate(timeout=PATIENCE)
    assert job.returncode == 0, error
    assert server.process.wait(timeout=PATIENCE) == 0
    assert digests(tmp_path / "out") == reference


def test_a_job_that_outlasts_the_drain_leaves_nothing(held, tmp_path):
    server, job = held("--drain-seconds", "0")
    server.process.send_signal(signal.SIGTERM)
    assert server.process.wait(timeout=PATIENCE) == 0
    _, error = job.communicate(timeout=PATIENCE)
    assert job.returncode == 75, error
    assert not (tmp_path / "out").exists()
    assert not hidden(tmp_path)


def test_a_client_killed_while_it_uploads_holds_nothing(start_server, checkpoint, tmp_path):
    """After so many bytes of the 95 million that it has to send."""
    server = start_server("--slots", "1")
    with ForeignClient(server.endpoint) as client:
        client.call("GetCapabilities")
    before = descriptors(server.process.pid)
    for allowed in (100_000, 3_000_000, 30_000_000, 80_000_000):
        with ByteGate(server.endpoint, allowed) as gate:
            job = CommandLine("--quiet", "--endpoint", gate.endpoint).start(
                "compress", checkpoint, tmp_path / "out", "--upload")
            await_that(lambda gate=gate: gate.stands, "a stop in the middle of the upload")
            await_that(lambda: running(server, "artifact") == 1)
            job.kill()
            job.communicate()
        await_that(lambda: running(server, "artifact") == 0)
        assert server.metrics()["linchpin_admission_reserved_bytes"] == 0
        assert not (tmp_path / "out").exists()
    assert settled(lambda: descriptors(server.process.pid) - before, 0) <= 0


def test_of_two_writers_of_one_output_one_wins_whole(start, store, reference, tmp_path):
    """Of two that are at work at the same time."""
    server = start("--slots", "2")
    store.gate.hold(from_request(20))
    jobs = [remote(server).start("compress", SOURCE, tmp_path / "out") for _ in range(2)]
    await_that(lambda: running(server) == 2)
    store.gate.release()
    ended = [(job.communicate(timeout=PATIENCE)[1], job.returncode) for job in jobs]
    assert sorted(code for _, code in ended) == [0, 42], ended
    assert any("[OUTPUT_EXISTS]" in error for error, code in ended if code == 42)
    assert digests(tmp_path / "out") == reference
    assert [path.name for path in tmp_path.iterdir() if path.is_dir()] == ["out"]


def test_a_duplicate_call_is_harmless(start_server, checkpoint, reference, tmp_path):
    server = start_server("--read-root", "/", "--write-root", tmp_path)
    for _ in range(2):
        remote(server)("compress", checkpoint, tmp_path / "out", "--overwrite")
        assert digests(tmp_path / "out") == reference


def file_size_limit(kib):
    """Put before a program, it lets no file of it grow larger."""
    return ["bash", "-c", f'ulimit -f {kib} && exec "$@"', "-"]


@pytest.fixture(name="full_disk")
def full_disk_fixture(tmp_path):
    """(a folder, what is put before a program so that there is room for 2 MB in it, how the system tells its
    end): a file system of the program's own or, where nobody may mount one, a limit on the size of files."""
    place = tmp_path / "disk"
    place.mkdir()
    mount = in_own_mounts(["bash", "-c", 'mount -t tmpfs -o size=2m tmpfs "$0" && exec "$@"', str(place)])
    if mount is None:
        return place, file_size_limit(2048), "File too large"
    return place, mount, "No space left on device"


def test_a_full_disk_is_told_and_left_empty(start_server, checkpoint, full_disk):
    place, prefix, says = full_disk
    server = start_server("--read-root", "/", "--write-root", place, prefix=prefix)
    with ForeignClient(server.endpoint) as client:
        with pytest.raises(grpc.RpcError) as raised:
            client.call("CompressModel", source=str(checkpoint), destination=str(place / "out"))
    assert reason_of(raised.value) == "STORAGE_FAILED"
    assert says in raised.value.details()
    assert os.listdir(f"/proc/{server.process.pid}/root{place}") == [], "as the server sees it"
    assert remote(server)("capabilities").code == 0


def test_a_limit_on_the_size_of_files_does_not_end_the_server(start_server, checkpoint, tmp_path):
    """SIGXFSZ ends a process that does not ignore it."""
    (tmp_path / "out").mkdir()
    server = start_server("--read-root", "/", "--write-root", tmp_path / "out",
                          prefix=file_size_limit(64))
    refused = remote(server).run("compress", checkpoint, tmp_path / "out" / "model")
    assert refused.code == 75 and "File too large" in refused.error, refused.err
    assert refused.error.endswith("[STORAGE_FAILED]")
    assert os.listdir(tmp_path / "out") == []
    assert server.stop() == 0


def test_a_limit_on_the_size_of_files_is_told_by_the_command_line(linchpin, demo_model, tmp_path):
    command = linchpin.command("detect", demo_model, "--study", "--out", tmp_path / "study.json")
    refused = subprocess.run([*file_size_limit(1), *command], capture_output=True, text=True,
                             check=False, stdin=subprocess.DEVNULL)
    assert refused.returncode == 1
    assert re.fullmatch(r"error: .*study\.json: File too large.*\n", refused.stderr), refused.stderr
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize("limit, code, says", [
    (12, 1, "error: pipe: Too many open files: raise the limit on open files [STORAGE_FAILED]"),
    (18, 75, ": Too many open files [STORAGE_FAILED]"),
    (64, 0, "")])
def test_few_descriptors_are_told_and_not_fatal(checkpoint, reference, tmp_path, limit, code, says):
    """Too few for the command to start its server; for the server to have all files open; and enough."""
    finished = CommandLine("--quiet").run(
        "compress", checkpoint, tmp_path / "out",
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_NOFILE, (limit, limit)))
    assert finished.code == code, finished.err
    assert finished.err.rstrip("\n").endswith(says), finished.err
    if code == 0:
        assert finished.err == ""
        assert digests(tmp_path / "out") == reference
    else:
        assert finished.error
        assert os.listdir(tmp_path) == []


def test_soak(tmp_path):
    seconds = float(os.environ.get("LINCHPIN_SOAK_SECONDS", "60"))
    assert soak(pathlib.Path(tmp_path), jobs=1000, seconds=seconds) == []


@contextlib.contextmanager
def open_connections(server):
    """Ten descriptors that the server does not get rid of."""
    with contextlib.ExitStack() as stack:
        host, port = server.endpoint.rsplit(":", 1)
        before = descriptors(server.process.pid)
        for _ in range(10):
            stack.enter_context(socket.create_connection((host, int(port))))
        await_that(lambda: descriptors(server.process.pid) >= before + 10)
        yield


@contextlib.contextmanager
def kept_upload(server):
    """A hundred million bytes that the server does not get rid of."""
    size, arrived, stop = 96 * CHUNK, threading.Event(), threading.Event()

    def parts():
        yield {"options": {}}
        yield {"file": {"name": "model.safetensors", "size": size}}
        for offset in range(0, size, CHUNK):
            yield {"chunk": {"offset": offset, "data": os.urandom(CHUNK)}}
        arrived.set()
        stop.wait(PATIENCE)

    with ForeignClient(server.endpoint) as client:
        call = client.upload(parts())
        arrived.wait(PATIENCE)
        yield
        stop.set()
        call.cancel()


@contextlib.contextmanager
def hidden_file(server):
    """What a job that was killed would leave."""
    root = server.process.args[server.process.args.index("--write-root") + 1]
    (pathlib.Path(root) / ".left").write_text("")
    yield


@pytest.mark.parametrize("leak, found", [
    (open_connections, "more descriptors are open"), (kept_upload, "the server grew by"),
    (hidden_file, "temporary files are left")])
def test_the_soak_finds_what_leaks(tmp_path, monkeypatch, leak, found):
    monkeypatch.setattr("e2e.soak.SETTLES_WITHIN", 1)
    problems = soak(pathlib.Path(tmp_path), jobs=40, seconds=0, leak=leak)
    assert any(found in problem for problem in problems), problems


def test_upload_chunks_are_bounded(start_server):
    """A chunk above 1 MiB is refused by what it breaks, not by its memory."""
    server = start_server()
    with ForeignClient(server.endpoint) as client:
        parts = [{"options": {}}, {"file": {"name": "a", "size": 8 * CHUNK}},
                 {"chunk": {"offset": 0, "data": bytes(2 * CHUNK)}}]
        with pytest.raises(grpc.RpcError) as raised:
            list(client.upload(parts))
    assert reason_of(raised.value) == "STREAM_INVALID"
