"""A compression in parts: many workers, killed at random, write what one process writes."""

import json
import random
import subprocess
import sys
import threading
import time

import pytest

from conftest import ROOT, CommandLine, Server
from support.directories import digests


@pytest.fixture(name="checkpoint", scope="module")
def checkpoint_fixture(tmp_path_factory):
    """A synthetic checkpoint in eight shards."""
    path = tmp_path_factory.mktemp("parts") / "model"
    subprocess.run([sys.executable, str(ROOT / "tests/bench/make_checkpoint.py"), str(path),
                    "--layers", "48", "--hidden", "256", "--intermediate", "512", "--vocab", "1000",
                    "--heads", "4", "--kv-heads", "2"], check=True, capture_output=True)
    return path


@pytest.fixture(name="whole", scope="module")
def whole_fixture(linchpin, checkpoint, tmp_path_factory):
    """What one process writes."""
    out = tmp_path_factory.mktemp("whole") / "out"
    linchpin("compress", checkpoint, out, "--scale", "mse")
    return digests(out)


@pytest.fixture(name="job")
def job_fixture(linchpin, checkpoint, tmp_path):
    """(file of the job, its destination)."""
    linchpin("plan", checkpoint, tmp_path / "out", "--save", tmp_path / "job.json", "--scale", "mse")
    return tmp_path / "job.json", tmp_path / "out"


def test_the_job_is_a_file_that_a_person_can_read(job, checkpoint):
    file, destination = job
    text = json.loads(file.read_text())
    assert text["source"] == str(checkpoint) and text["destination"] == str(destination)
    assert len(text["job_key"]) == 64 and text["shards"] == 8
    assert json.loads(text["detection_json"])["super_weights"]


def test_shards_one_by_one_make_the_same_bytes(linchpin, job, whole):
    file, destination = job
    unfinished = linchpin.run("finalize", "--plan", file)
    assert unfinished.code == 42 and "8 of 8 shards" in unfinished.error
    for index in (3, 0, 1, 2, 7, 6, 5, 4):
        done = linchpin("compress-shard", "--plan", file, "--index", index, "--json").json
        assert not done["skipped"]
    assert linchpin("compress-shard", "--plan", file, "--index", 3, "--json").json["skipped"]
    linchpin("finalize", "--plan", file)
    assert digests(destination) == whole
    linchpin("verify", destination)
    assert linchpin.run("finalize", "--plan", file).error.endswith("[OUTPUT_EXISTS]")
    linchpin("finalize", "--plan", file, "--overwrite")
    assert digests(destination) == whole


def test_options_that_need_the_whole_model_are_refused(linchpin, checkpoint, tmp_path):
    linchpin("plan", checkpoint, tmp_path / "out", "--save", tmp_path / "job.json")
    finished = linchpin.run("compress-shard", "--plan", tmp_path / "job.json", "--index", 0)
    assert finished.code == 42 and finished.error.endswith("[FEATURE_UNSUPPORTED]")


def test_a_source_that_changed_since_the_plan_is_refused(linchpin, job, checkpoint, tmp_path):
    file, _ = job
    moved = json.loads(file.read_text())
    config = json.loads((checkpoint / "config.json").read_text())
    copy = tmp_path / "copy"
    copy.mkdir()
    for path in checkpoint.iterdir():
        (copy / path.name).symlink_to(path)
    (copy / "config.json").unlink()
    (copy / "config.json").write_text(json.dumps(config | {"rms_norm_eps": 1e-6}))
    (tmp_path / "other.json").write_text(json.dumps(moved | {"source": str(copy)}))
    finished = linchpin.run("compress-shard", "--plan", tmp_path / "other.json", "--index", 0)
    assert finished.code == 42 and finished.error.endswith("[SOURCE_CHANGED]")
    for text in ("", "{}", "[]", '{"unknown": 1}'):
        (tmp_path / "bad.json").write_text(text)
        finished = linchpin.run("finalize", "--plan", tmp_path / "bad.json")
        assert finished.code == 42 and finished.error.endswith("[OPTION_INVALID]")


def test_workers_killed_at_random_change_nothing(job, whole, tmp_path):
    """Four servers behind one name, each killed again and again while eight callers share the shards."""
    file, destination = job
    servers = [Server(tmp_path / f"log-{i}", "--read-root", "/", "--write-root", tmp_path,
                      "--threads", "1", "--slots", "2") for i in range(4)]
    endpoint = "ipv4:" + ",".join(server.endpoint for server in servers)
    choose = random.Random(42)
    stop = threading.Event()
    kills = []

    def killer():
        while not stop.wait(choose.uniform(0.05, 0.4)):
            which = choose.randrange(4)
            listen = servers[which].endpoint
            servers[which].process.kill()
            servers[which].process.wait()
            servers[which] = Server(tmp_path / f"log-{which}", "--read-root", "/", "--write-root",
                                    tmp_path, "--threads", "1", "--slots", "2", listen=listen)
            kills.append(which)

    thread = threading.Thread(target=killer)
    thread.start()
    linchpin = CommandLine("--quiet", "--endpoint", endpoint)
    try:
        finished = linchpin.run("compress-shards", "--plan", file, "--workers", "8", "--json")
    finally:
        stop.set()
        thread.join()
    assert finished.code == 0, finished.err
    assert finished.json["done"] + finished.json["skipped"] == 8
    print(f"{len(kills)} kills, {finished.json}")
    linchpin("finalize", "--plan", file)
    for server in servers:
        server.stop()
    assert digests(destination) == whole


def test_parts_cost_little_more_than_the_whole(linchpin, job, checkpoint, tmp_path):
    file, _ = job
    begin = time.monotonic()
    linchpin("compress", checkpoint, tmp_path / "whole", "--scale", "mse")
    whole = time.monotonic() - begin
    begin = time.monotonic()
    linchpin("compress-shards", "--plan", file, "--workers", "1")
    shards = time.monotonic() - begin
    begin = time.monotonic()
    linchpin("finalize", "--plan", file)
    print(f"whole {whole:.2f} s (detection in it), shards {shards:.2f} s, "
          f"finalize {time.monotonic() - begin:.2f} s")
