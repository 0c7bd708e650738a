"""A compression in parts: many workers, killed at random, write what one process writes."""

import json
import re
import shutil
import subprocess
from concurrent import futures

import pytest

from conftest import CommandLine, Server
from e2e.killed_workers import Workers, at_parts, compress_in_parts, one_layer_per_shard
from support.directories import digests
from support.foreign_client import ForeignClient
from support.gated_store import from_request
from support.held_port import HeldPort
from support.object_stores import MotoPlace, S3rverPlace, moto
from support.patience import PATIENCE, await_that
from support.name_server import NameServer
from support.synthetic_model import make_model


@pytest.fixture(name="checkpoint", scope="module")
def checkpoint_fixture(tmp_path_factory):
    """A synthetic checkpoint in eight shards."""
    path = tmp_path_factory.mktemp("parts") / "model"
    make_model(path, layers=48, hidden=256, intermediate=512, vocab=1000, heads=4, kv_heads=2)
    return path


@pytest.fixture(name="whole", scope="module")
def whole_fixture(linchpin, checkpoint, tmp_path_factory):
    """What one process writes."""
    out = tmp_path_factory.mktemp("whole") / "out"
    linchpin("compress", checkpoint, out)
    return digests(out)


@pytest.fixture(name="job")
def job_fixture(linchpin, checkpoint, tmp_path):
    """(file of the job, its destination)."""
    linchpin("plan", checkpoint, tmp_path / "out", "--save", tmp_path / "job.json")
    return tmp_path / "job.json", tmp_path / "out"


def test_the_job_is_a_file_that_a_person_can_read(job, checkpoint):
    file, destination = job
    text = json.loads(file.read_text())
    assert text["source"] == str(checkpoint) and text["destination"] == str(destination)
    assert len(text["job_key"]) == 64 and text["shards"] == 8
    assert json.loads(text["detection_json"])["super_weights"]
    assert len(text["importance_sha256"]) == 64


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
    assert sorted(path.name for path in destination.parent.iterdir()) == ["job.json", "out"]
    # Whoever asks again, as after a lost answer, hears the same.
    linchpin("finalize", "--plan", file)
    linchpin("finalize", "--plan", file, "--overwrite")
    assert digests(destination) == whole


@pytest.mark.parametrize("options", [
    ("--format", "dense"), ("--scale", "mse"), ("--scheme", "w8a8", "--scale", "minmax"),
    ("--preserve", "lora"), ("--detection", "off"), ("--equalize",),
    ("--detection", "off", "--source-digest", "off", "--scale", "mse")], ids=" ".join)
def test_any_scale_and_format_of_shards_gives_the_same_bytes(linchpin, checkpoint, tmp_path, options):
    linchpin("compress", checkpoint, tmp_path / "whole", *options)
    linchpin("plan", checkpoint, tmp_path / "out", "--save", tmp_path / "job.json", *options)
    linchpin("compress-shards", "--plan", tmp_path / "job.json", "--workers", "2")
    linchpin("finalize", "--plan", tmp_path / "job.json")
    assert digests(tmp_path / "out") == digests(tmp_path / "whole")


def test_a_store_that_lost_what_was_measured_says_so(linchpin, job):
    file, destination = job
    (measured,) = destination.parent.glob("out.shard-*-importance")
    shutil.rmtree(measured)
    finished = linchpin.run("compress-shard", "--plan", file, "--index", 0)
    assert finished.code == 42 and finished.error.endswith("[SOURCE_NOT_FOUND]")
    assert "prepare" in finished.error


def test_a_gguf_output_is_refused_before_anything_is_done(linchpin, checkpoint, tmp_path):
    finished = linchpin.run("plan", checkpoint, tmp_path / "out", "--save", tmp_path / "job.json",
                            "--format", "gguf", "--scheme", "q8_0", "--gguf-donor", "/donor.gguf")
    assert finished.code == 42, finished.err
    assert not (tmp_path / "job.json").exists()


def test_one_shard_and_one_finalize_asked_of_many_at_once(start_server, job, whole, tmp_path):
    file, destination = job
    servers = [start_server("--read-root", "/", "--write-root", tmp_path, "--slots", "8")
               for _ in range(2)]

    def all_at_once(*command):
        lines = [CommandLine("--quiet", "--endpoint", servers[i % 2].endpoint) for i in range(6)]
        with futures.ThreadPoolExecutor(6) as pool:
            return list(pool.map(lambda line: line.run(*command), lines))

    for index in range(8):
        said = all_at_once("compress-shard", "--plan", file, "--index", index, "--json")
        assert {finished.code for finished in said} == {0}, [finished.err for finished in said]
        assert len({finished.json["sha256"] for finished in said}) == 1
    said = all_at_once("finalize", "--plan", file, "--json")
    assert {finished.code for finished in said} == {0}, [finished.err for finished in said]
    assert digests(destination) == whole


def test_workers_with_other_options_are_refused(linchpin, job, tmp_path):
    file, _ = job
    changed = json.loads(file.read_text())
    changed["quantization"]["scheme"] = "SCHEME_W8A16"
    (tmp_path / "other.json").write_text(json.dumps(changed))
    finished = linchpin.run("compress-shard", "--plan", tmp_path / "other.json", "--index", 0)
    assert finished.code == 42 and finished.error.endswith("[SOURCE_CHANGED]")
    assert "version" in finished.error


def test_a_source_that_changes_between_workers_stops_the_job(linchpin, checkpoint, tmp_path):
    model = tmp_path / "model"
    shutil.copytree(checkpoint, model)
    linchpin("plan", model, tmp_path / "out", "--save", tmp_path / "job.json")
    linchpin("compress-shard", "--plan", tmp_path / "job.json", "--index", 0)
    with open(model / "model-00002-of-00008.safetensors", "r+b") as shard:
        shard.seek(-2, 2)
        shard.write(b"xx")
    for command in (("compress-shard", "--index", 1), ("finalize",)):
        finished = linchpin.run(command[0], "--plan", tmp_path / "job.json", *command[1:])
        assert finished.code == 42 and finished.error.endswith("[SOURCE_CHANGED]"), finished.err
    assert not (tmp_path / "out").exists()


def test_a_worker_asks_an_object_store_for_no_shard_but_its_own(start_server, store, checkpoint):
    """A key is made for every call; a request for every file of the source would be more than the work."""
    store.put("own-shard/model", checkpoint)
    server = start_server(*store.options("s3://models/own-shard"))
    source = "s3://models/own-shard/model"
    with ForeignClient(server.endpoint) as client:
        job = {"source": source, "destination": "s3://models/own-shard/out",
               "job_key": client.call("PlanCompression", source=source).job_key}
        prepared = client.call("PrepareCompression", job=job)
        job |= {"detection_json": prepared.detection_json,
                "importance_sha256": prepared.importance_sha256}
        store.gate.forget()
        client.call("CompressShard", job=job, index=2)
        asked = {name for request in store.gate.requests
                 for name in re.findall(r"/model/(model-[0-9]+-of-[0-9]+)", request.path)}
        assert asked == {"model-00003-of-00008"}
        for index in set(range(8)) - {2}:
            client.call("CompressShard", job=job, index=index)
        client.call("FinalizeCompression", job=job)
    assert {name.split("/")[0] for name in store.objects("own-shard")} == {"model", "out"}


def test_a_store_that_lost_a_part_is_told_which(linchpin, job, whole):
    file, destination = job
    linchpin("compress-shards", "--plan", file, "--workers", "2")
    (weights,) = destination.parent.glob("out.shard-*-00005/*.safetensors")
    weights.unlink()
    finished = linchpin.run("finalize", "--plan", file)
    assert finished.code == 42 and "1 of 8 shards are not finished: 5" in finished.error
    linchpin("compress-shard", "--plan", file, "--index", 5)
    linchpin("finalize", "--plan", file)
    assert digests(destination) == whole


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


def test_workers_killed_again_and_again_change_nothing(linchpin, tmp_path):
    """The size for CI of killed_workers.py."""
    model = one_layer_per_shard(tmp_path / "model", shards=48, hidden=256)
    linchpin("compress", model, tmp_path / "whole")
    run = compress_in_parts(tmp_path / "run", model, tmp_path / "whole", workers=4,
                            wait=at_parts(2, 20, 35))
    print(run)
    assert run.same and run.done + run.skipped == 48 and run.kills > 0
    assert run.left == []


def test_shards_spread_over_all_replicas_of_a_name(store, checkpoint, whole, tmp_path):
    """Three servers that a DNS name stands for, one of which dies while all three are at work."""
    name = "replicas.example.org"
    store.put("replicas/model", checkpoint)
    subprocess.run(["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt",
                    "ec_paramgen_curve:P-256", "-nodes", "-keyout", tmp_path / "tls.key", "-out",
                    tmp_path / "tls.crt", "-days", "2", "-subj", f"/CN={name}", "-addext",
                    f"subjectAltName=DNS:{name}"], check=True, capture_output=True)

    def start(address):
        return Server(tmp_path / f"log-{address}", "--write-root", tmp_path, "--threads", "1",
                      "--slots", "2", "--tls-cert", tmp_path / "tls.crt", "--tls-key",
                      tmp_path / "tls.key", *store.options("s3://models/replicas"),
                      listen=f"{address}:{port.number}")

    def at_work(server):
        return server.metrics()['linchpin_jobs_in_progress{kind="shard"}']

    addresses = ["127.0.0.1", "127.0.0.2", "127.0.0.3"]
    with HeldPort() as port, NameServer(addresses) as names:
        servers = [start(address) for address in addresses]
        linchpin = CommandLine("--endpoint", f"dns://{names.address}/{name}:{port.number}",
                               "--tls-ca", tmp_path / "tls.crt")
        file = tmp_path / "job.json"
        linchpin("plan", "s3://models/replicas/model", tmp_path / "out", "--save", file)
        store.gate.hold(from_request(0))
        running = linchpin.start("compress-shards", "--plan", file, "--workers", "6", "--json")
        await_that(lambda: all(at_work(server) for server in servers))
        servers[2].process.kill()
        store.gate.release()
        out, err = running.communicate(timeout=PATIENCE)
        assert running.returncode == 0, err
        linchpin("finalize", "--plan", file)
    counts = json.loads(out)
    assert counts["done"] + counts["skipped"] == 8
    assert [line.split(":")[0].strip() for line in err.splitlines() if " of 8 shards" in line] == [
        f"{i} of 8 shards" for i in range(1, 9)]
    for server in servers[:2]:
        assert server.metrics()['linchpin_jobs_total{kind="shard",result="ok"}'] > 0
        server.stop()
    servers[2].process.wait()
    assert digests(tmp_path / "out") == whole


@pytest.fixture(name="stores", scope="module")
def stores_fixture(tmp_path_factory, gated_store):
    """{name: (options and environment of a server that has it, how it is filled, what it holds)}."""
    with moto() as endpoint:
        yield {"s3rver": S3rverPlace(gated_store), "moto": MotoPlace(endpoint)}


@pytest.mark.parametrize("which", ["s3rver", "moto"])
def test_all_parts_in_an_object_store_make_the_same_bytes(start_server, stores, checkpoint, whole,
                                                          monkeypatch, tmp_path, which):
    """Source, shards and output lie there; two servers that share nothing else."""
    place = stores[which]
    place.put("parts/model", checkpoint)
    for name, value in place.credentials.items():
        monkeypatch.setenv(name, value)
    servers = [start_server("--s3-endpoint", place.endpoint, "--write-prefix", "s3://models/parts")
               for _ in range(2)]
    first, second = (CommandLine("--quiet", "--endpoint", server.endpoint) for server in servers)
    job = tmp_path / "job.json"
    first("plan", "s3://models/parts/model", "s3://models/parts/out", "--save", job)
    for index in range(8):
        (first, second)[index % 2]("compress-shard", "--plan", job, "--index", index)
    assert first("compress-shard", "--plan", job, "--index", 7, "--json").json["skipped"]
    second("finalize", "--plan", job)
    assert place.digests("parts/out") == whole
    first("verify", "s3://models/parts/out")
    assert not [key for key in place.keys("parts/out.")], "what the job kept is gone"


def test_no_byte_of_a_shard_is_moved_once_more_at_the_end(checkpoint, job, tmp_path):
    """By one server, where nobody is killed."""
    file, destination = job
    with Workers(tmp_path, 1) as server:
        linchpin = CommandLine("--quiet", "--endpoint", server.endpoint)

        def moved(*command):
            before = server.bytes_moved()
            linchpin(*command)
            return server.bytes_moved() - before

        moved("plan", checkpoint, tmp_path / "out", "--save", file)
        parts = moved("compress-shards", "--plan", file, "--workers", "1")
        end = moved("finalize", "--plan", file)
    size = sum(path.stat().st_size for path in destination.glob("*.safetensors"))
    print(f"output {size}, shards moved {parts}, finalize {end} bytes")
    # A sample of 64 KiB and the headers of each of eight shards; the small files.
    assert parts > 2 * size and end < size / 4
