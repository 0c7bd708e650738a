"""Models in S3, through the command line and a server that may use one prefix of one bucket."""

import pathlib
import socket
import subprocess

import pytest

from conftest import CommandLine
from support.gated_store import from_request, objects as objects_below, s3rver
from support.patience import PATIENCE, await_that
from support.sparse_model import write_sparse_model

SECRET = "S3RVER"


@pytest.fixture(name="bucket", scope="module")
def bucket_fixture(tmp_path_factory):
    """(endpoint of a real S3 server that checks signatures, the folder of its bucket)."""
    data = tmp_path_factory.mktemp("s3") / "data"
    with s3rver(data) as (host, port):
        yield f"http://{host}:{port}", data / "models"


@pytest.fixture(name="roots")
def roots_fixture(tmp_path):
    (tmp_path / "local").mkdir()
    return tmp_path / "local"


@pytest.fixture(name="server")
def server_fixture(start_server, bucket, roots, monkeypatch):
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "S3RVER")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", SECRET)
    return start_server("--write-root", roots, "--s3-endpoint", bucket[0],
                        "--write-prefix", "s3://models/work", "--read-prefix", "s3://models/shared")


@pytest.fixture(name="call")
def call_fixture(server):
    return CommandLine("--quiet", "--endpoint", server.endpoint)


def objects(bucket, place):
    return objects_below(bucket[1], place)


def test_a_model_goes_from_s3_to_s3_as_from_disk_to_disk(call, bucket, roots, server):
    assert call("capabilities", "--json").json["uri_schemes"] == ["file", "s3"]
    call("demo-model", "s3://models/work/model")
    call("demo-model", roots / "model")
    call("compress", "s3://models/work/model", "s3://models/work/out")
    call("compress", f"file://{roots}/model", f"file://{roots}/out")
    local = {path.name: path.read_bytes() for path in (roots / "out").iterdir()}
    assert objects(bucket, "work/out") == local
    call("verify", "s3://models/work/out")
    counted = server.metrics()
    assert counted['linchpin_upstream_requests_total{code_class="2xx",scheme="s3"}'] > 10
    assert counted['linchpin_upstream_requests_total{code_class="5xx",scheme="s3"}'] == 0


def test_what_stands_there_is_kept_unless_told_otherwise(call, bucket):
    call("demo-model", "s3://models/work/kept/model")
    call("compress", "s3://models/work/kept/model", "s3://models/work/kept/out")
    before = objects(bucket, "work/kept/out")
    refused = call.run("compress", "s3://models/work/kept/model", "s3://models/work/kept/out",
                       "--scale", "minmax")
    assert refused.error.endswith("[OUTPUT_EXISTS]")
    assert objects(bucket, "work/kept/out") == before
    call("compress", "s3://models/work/kept/model", "s3://models/work/kept/out", "--overwrite",
         "--scale", "minmax")
    after = objects(bucket, "work/kept/out")
    assert after.keys() == before.keys() and after != before
    # A destination that meets its source would destroy it.
    refused = call.run("compress", "s3://models/work/kept/model/", "s3://models/work/kept/model",
                       "--overwrite")
    assert refused.error.endswith("[OPTION_INVALID]")


@pytest.mark.parametrize("uri", [
    "s3://models/elsewhere/model", "s3://models/workshop", "s3://models/work/../elsewhere",
    "s3://other/work/model", "gs://models/work/model", "https://127.0.0.1/model",
    "http://169.254.169.254/latest", "hf://owner/model", "ftp://models/work", "file:///etc",
])
def test_what_no_prefix_covers_is_refused_without_a_look(call, server, uri):
    refused = call.run("detect", uri)
    assert refused.code == 42
    assert refused.error.endswith("[PATH_NOT_ALLOWED]")
    asked = [value for name, value in server.metrics().items() if "upstream_requests" in name]
    assert len(asked) == 20 and sum(asked) == 0
    assert server.metrics()['linchpin_security_rejections_total{reason="path_not_allowed"}'] == 1


def test_a_prefix_for_reading_is_not_written(call, bucket):
    refused = call.run("demo-model", "s3://models/shared/model")
    assert refused.error.endswith("[PATH_NOT_ALLOWED]")
    assert objects(bucket, "shared") == {}
    absent = call.run("detect", "s3://models/shared/model")
    assert absent.error.endswith("[SOURCE_NOT_FOUND]")


def test_wrong_keys_say_so_and_the_secret_stays_one(start_server, bucket, tmp_path, monkeypatch):
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "S3RVER")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "planted-secret")
    server = start_server("--s3-endpoint", bucket[0], "--read-prefix", "s3://models/work",
                          "--log-level", "debug")
    refused = CommandLine("--endpoint", server.endpoint).run("detect", "s3://models/work/model")
    assert "[PATH_NOT_ALLOWED]" in refused.err and "credentials" in refused.err
    server.stop()
    said = refused.err + refused.out + "".join(
        pathlib.Path(log).read_text(encoding="utf-8") for log in tmp_path.glob("server-*.log"))
    assert "planted-secret" not in said


def test_prefixes_that_are_none_are_told_at_the_start(tmp_path):
    program = CommandLine().program.parent / "linchpin-server"
    for prefix in ("models/work", "ftp://x", "file:///x", "s3://", "s3://a/../b"):
        result = subprocess.run([program, "--listen", f"unix:{tmp_path}/s", "--metrics", "off",
                                 "--read-prefix", prefix], capture_output=True, text=True,
                                check=False, timeout=PATIENCE)
        assert result.returncode == 1 and "[OPTION_INVALID]" in result.stderr, prefix


def test_a_caller_that_goes_ends_the_wait_for_a_silent_store(start_server, monkeypatch):
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "key")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
    with socket.socket() as silent:
        silent.settimeout(PATIENCE)
        silent.bind(("127.0.0.1", 0))
        silent.listen(8)
        server = start_server("--s3-endpoint", f"http://127.0.0.1:{silent.getsockname()[1]}",
                              "--read-prefix", "s3://models")
        caller = CommandLine("--endpoint", server.endpoint).start("detect", "s3://models/x")
        connection, _ = silent.accept()  # and says nothing

        def running():
            return server.metrics()['linchpin_jobs_in_progress{kind="detect"}']

        assert running() == 1
        caller.kill()
        await_that(lambda: running() == 0)
        caller.communicate()
        connection.close()


def test_a_server_that_is_killed_leaves_nothing_visible_and_the_call_can_be_made_again(
        start_server, store, linchpin, demo_model, tmp_path):
    """At every request that it makes, from the first to the last of its commit."""
    store.put("killed/model", demo_model)
    linchpin("compress", demo_model, tmp_path / "whole")
    expected = {path.name: path.read_bytes() for path in (tmp_path / "whole").iterdir()}

    def start():
        return start_server(*store.options("s3://models/killed"), "--threads", "1")

    def compress(server, name):
        return CommandLine("--quiet", "--endpoint", server.endpoint).start(
            "compress", "s3://models/killed/model", f"s3://models/killed/{name}")

    store.gate.forget()
    undisturbed = start()
    assert compress(undisturbed, "first").wait(PATIENCE) == 0
    assert store.visible("killed/first") == expected
    requests = len(store.gate.requests)
    seen = set()
    for number in range(0, requests, 3):
        store.gate.forget()
        store.gate.hold(from_request(number))
        server = start()
        caller = compress(server, number)
        assert store.gate.await_held(or_ended=lambda caller=caller: caller.poll() is not None)
        server.process.kill()
        caller.communicate()
        store.gate.release()
        store.gate.settle()  # what it asked for last is carried out
        there = store.visible(f"killed/{number}")
        seen.add(len(there))
        if "linchpin.json" not in there:
            # A commit that was cut off is taken over once its lease is over, not before.
            again = compress(undisturbed, number)
            _, said = again.communicate(timeout=PATIENCE)
            assert again.returncode == 0 or "another writer" in said, said
            if again.returncode != 0:
                continue
        assert store.visible(f"killed/{number}") == expected
    assert 0 in seen and max(seen) > 0, "before the commit and within it"


def put_sparse_model(bucket, place, **sizes):
    """A checkpoint in one shard, which takes no room on the disk, as s3rver keeps objects; its bytes."""
    total = write_sparse_model(bucket[1] / place, **sizes, layers_per_shard=sizes["layers"])
    for path in list((bucket[1] / place).iterdir()):
        path.with_name(path.name + "._S3rver_object.md5").write_text("0" * 32)
        path.rename(path.with_name(path.name + "._S3rver_object"))
    return total


def peak_bytes(server):
    for line in pathlib.Path(f"/proc/{server.process.pid}/status").read_text().splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) * 1024
    raise AssertionError("no VmHWM")


def test_a_shard_is_never_held_whole(start_server, bucket, monkeypatch):
    """From S3 to S3: what the server takes at its peak does not grow with the shard, be it that which is read
    or that which is written."""
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "S3RVER")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", SECRET)
    read, written, peaks = [], [], []
    for layers in (8, 40):
        place = f"work/sparse/{layers}"
        read.append(put_sparse_model(bucket, place, layers=layers, hidden=1024, intermediate=4096))
        server = start_server("--s3-endpoint", bucket[0], "--write-prefix", "s3://models/work",
                              "--threads", "2")
        call = CommandLine("--quiet", "--endpoint", server.endpoint)
        call("compress", f"s3://models/{place}", f"s3://models/{place}-out", "--scale", "minmax")
        peaks.append(peak_bytes(server))
        written.append(sum(map(len, objects(bucket, f"{place}-out").values())))
    print("read, written, at the peak, in MB:",
          [[round(n / 1e6) for n in numbers] for numbers in (read, written, peaks)])
    # Half of the least that a whole shard would add, and many times what it does.
    assert peaks[1] - peaks[0] < (written[1] - written[0]) / 2 < (read[1] - read[0]) / 2
