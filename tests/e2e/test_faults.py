"""Kills, two writers, a full disk, a long run: nothing partial is seen, and a retry gives the same."""

import os
import pathlib
import random
import signal
import subprocess
import threading
import time

import grpc
import pytest

from conftest import CommandLine
from e2e.soak import descriptors, settled, soak
from support.directories import digests
from support.foreign_client import CHUNK, ForeignClient, reason_of
from support.synthetic_model import make_model


def remote(server):
    return CommandLine("--quiet", "--endpoint", server.endpoint)


@pytest.fixture(name="checkpoint", scope="module")
def checkpoint_fixture(tmp_path_factory):
    """A synthetic checkpoint in two shards whose compression takes a moment."""
    path = tmp_path_factory.mktemp("synthetic") / "model"
    make_model(path, layers=12, hidden=512, intermediate=2048, vocab=2000, heads=8, kv_heads=2)
    return path


@pytest.fixture(name="reference", scope="module")
def reference_fixture(linchpin, checkpoint, tmp_path_factory):
    """(what an undisturbed run writes, how long it takes)."""
    out = tmp_path_factory.mktemp("reference") / "out"
    begin = time.monotonic()
    linchpin("compress", checkpoint, out)
    return digests(out), time.monotonic() - begin


def test_a_server_killed_at_any_moment_leaves_nothing_to_see(start_server, checkpoint, reference,
                                                             tmp_path):
    expected, seconds = reference
    choose = random.Random(20261126)
    finished = 0
    noted = 0
    for _ in range(12):
        server = start_server("--read-root", "/", "--write-root", tmp_path)
        job = remote(server).start("compress", checkpoint, tmp_path / "out")
        time.sleep(choose.uniform(0.05, seconds * 1.2))
        server.process.kill()
        server.process.wait()
        out, error = job.communicate(timeout=60)
        if (tmp_path / "out").exists():  # it was quicker, and then it is whole
            assert digests(tmp_path / "out") == expected
            (tmp_path / "out").rename(tmp_path / f"done-{finished}")
            finished += 1
        else:
            assert job.returncode == 75, (out, error)
        noted = max([noted, *(path.stat().st_size
                              for path in tmp_path.glob(".out.*/.linchpin-notes"))])
    assert noted > 200, "none was killed between two tensors"
    for left in tmp_path.glob(".out.*"):
        os.utime(left, (0, 0))  # a young one might be another writer's, where locks do not work
    server = start_server("--read-root", "/", "--write-root", tmp_path)
    remote(server)("compress", checkpoint, tmp_path / "out")
    assert digests(tmp_path / "out") == expected
    # What the killed ones left under hidden names went with the next run.
    assert not [path.name for path in tmp_path.iterdir() if path.name.startswith(".")]


def test_sigterm_lets_a_job_finish(start_server, checkpoint, reference, tmp_path):
    server = start_server("--read-root", "/", "--write-root", tmp_path)
    job = remote(server).start("compress", checkpoint, tmp_path / "out")
    deadline = time.monotonic() + 30
    while server.metrics()['linchpin_jobs_in_progress{kind="compress"}'] == 0:
        assert time.monotonic() < deadline and job.poll() is None
        time.sleep(0.01)
    server.process.send_signal(signal.SIGTERM)
    _, error = job.communicate(timeout=60)
    assert job.returncode == 0, error
    assert server.process.wait(timeout=60) == 0
    assert digests(tmp_path / "out") == reference[0]


def test_a_job_that_outlasts_the_drain_leaves_nothing(start_server, checkpoint, tmp_path):
    server = start_server("--read-root", "/", "--write-root", tmp_path, "--drain-seconds", "0")
    job = remote(server).start("compress", checkpoint, tmp_path / "out")
    deadline = time.monotonic() + 30
    while server.metrics()['linchpin_jobs_in_progress{kind="compress"}'] == 0:
        assert time.monotonic() < deadline and job.poll() is None
        time.sleep(0.01)
    begin = time.monotonic()
    server.process.send_signal(signal.SIGTERM)
    assert server.process.wait(timeout=60) == 0
    assert time.monotonic() - begin < 10
    _, error = job.communicate(timeout=60)
    assert job.returncode in (0, 75), error
    assert (tmp_path / "out").exists() == (job.returncode == 0)
    assert not [path for path in tmp_path.iterdir() if path.name.startswith(".")]


def test_a_client_killed_while_it_uploads_holds_nothing(start_server, checkpoint, tmp_path):
    server = start_server()
    with ForeignClient(server.endpoint) as client:
        client.call("GetCapabilities")
    before = descriptors(server.process.pid)
    for pause in (0.05, 0.15, 0.3, 0.6):
        job = remote(server).start("compress", checkpoint, tmp_path / f"out-{pause}", "--upload")
        time.sleep(pause)
        job.kill()
        job.communicate()
    deadline = time.monotonic() + 5
    while time.monotonic() < deadline:
        metrics = server.metrics()
        if (metrics["linchpin_admission_reserved_bytes"] == 0
                and metrics['linchpin_jobs_in_progress{kind="artifact"}'] == 0):
            break
        time.sleep(0.05)
    assert metrics["linchpin_admission_reserved_bytes"] == 0
    assert metrics['linchpin_jobs_in_progress{kind="artifact"}'] == 0
    assert settled(lambda: descriptors(server.process.pid) - before, 0) <= 0


def test_of_two_writers_of_one_output_one_wins_whole(start_server, checkpoint, reference, tmp_path):
    server = start_server("--read-root", "/", "--write-root", tmp_path, "--slots", "2")
    jobs = [remote(server).start("compress", checkpoint, tmp_path / "out") for _ in range(2)]
    ended = [(job.communicate(timeout=120)[1], job.returncode) for job in jobs]
    assert sorted(code for _, code in ended) == [0, 42], ended
    assert any("[OUTPUT_EXISTS]" in error for error, code in ended if code == 42)
    assert digests(tmp_path / "out") == reference[0]
    assert [path.name for path in tmp_path.iterdir() if path.is_dir()] == ["out"]


def test_a_duplicate_call_is_harmless(start_server, checkpoint, reference, tmp_path):
    server = start_server("--read-root", "/", "--write-root", tmp_path)
    for _ in range(2):
        remote(server)("compress", checkpoint, tmp_path / "out", "--overwrite")
        assert digests(tmp_path / "out") == reference[0]


@pytest.fixture(name="small_disk")
def small_disk_fixture(tmp_path):
    """A file system of 2 MB; skipped where mounting one is not allowed."""
    place = tmp_path / "disk"
    place.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", str(place)],
                             check=False, capture_output=True)
    if mounted.returncode != 0:
        pytest.skip("mounting a tmpfs is not allowed here")
    yield place
    subprocess.run(["umount", str(place)], check=True)


def test_a_full_disk_is_told_and_left_empty(start_server, checkpoint, small_disk):
    server = start_server("--read-root", "/", "--write-root", small_disk)
    with ForeignClient(server.endpoint) as client:
        with pytest.raises(grpc.RpcError) as raised:
            client.call("CompressModel", source=str(checkpoint), destination=str(small_disk / "out"))
    assert reason_of(raised.value) == "STORAGE_FAILED"
    assert "No space left on device" in raised.value.details()
    assert os.listdir(small_disk) == []
    assert remote(server)("capabilities").code == 0


def test_few_descriptors_are_told_and_not_fatal(checkpoint, tmp_path):
    """The private server under a limit of 64 open files."""
    finished = CommandLine("--quiet").run(
        "compress", checkpoint, tmp_path / "out",
        preexec_fn=lambda: __import__("resource").setrlimit(7, (64, 64)))
    assert finished.code in (0, 1, 42, 75), finished.err
    assert (tmp_path / "out").exists() == (finished.code == 0)
    if finished.code != 0:
        assert finished.err.strip().splitlines()[-1].startswith("error: ")


def test_progress_and_cancellation_at_any_moment(start_server, checkpoint, reference, tmp_path):
    """A cancelled job is gone within a second, whatever it was doing."""
    _, seconds = reference
    server = start_server("--read-root", "/", "--write-root", tmp_path)
    choose = random.Random(7)
    with ForeignClient(server.endpoint) as client:
        function, request = client.method("CompressModel")
        for number in range(6):
            call = function(request(source=str(checkpoint),
                                    destination=str(tmp_path / f"out-{number}")))
            timer = threading.Timer(choose.uniform(0.02, seconds), call.cancel)
            timer.start()
            try:
                for _ in call:
                    pass
            except grpc.RpcError as error:
                assert error.code() == grpc.StatusCode.CANCELLED
            begin = time.monotonic()
            while server.metrics()['linchpin_jobs_in_progress{kind="compress"}'] != 0:
                assert time.monotonic() - begin < 3, "it goes on without its caller"
                time.sleep(0.02)
    assert not [path for path in tmp_path.iterdir() if path.name.startswith(".")]


def test_soak(tmp_path):
    seconds = float(os.environ.get("LINCHPIN_SOAK_SECONDS", "60"))
    assert soak(pathlib.Path(tmp_path), jobs=1000, seconds=seconds) == []


def test_upload_chunks_are_bounded(start_server):
    """A chunk above 1 MiB is refused by what it breaks, not by its memory."""
    server = start_server()
    with ForeignClient(server.endpoint) as client:
        parts = [{"options": {}}, {"file": {"name": "a", "size": 8 * CHUNK}},
                 {"chunk": {"offset": 0, "data": bytes(2 * CHUNK)}}]
        with pytest.raises(grpc.RpcError) as raised:
            list(client.upload(parts))
    assert reason_of(raised.value) == "STREAM_INVALID"
