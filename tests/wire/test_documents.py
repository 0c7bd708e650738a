"""Files that 0.1.0 wrote are read, and jobs that it began are gone on with, today (README.md beside this file)."""

import hashlib
import json
import os
import shutil
import struct

import pytest

from conftest import CommandLine
from support.gated_store import SUFFIX
from wire.documents import DOCUMENTS, KEY, KILLED, OUTPUTS, SOURCE, WRITTEN, losses, put_source


@pytest.fixture(name="remote")
def remote_fixture(start_server, store, tmp_path):
    """A command line whose server reads the model from the store, where it is the version that 0.1.0 saw."""
    put_source(store, DOCUMENTS / "model")
    server = start_server("--write-root", tmp_path, "--threads", "1", *store.options(f"s3://models/{KEY}"))
    yield CommandLine("--quiet", "--endpoint", server.endpoint)
    store.remove(KEY)


def contents(directory):
    """{name: bytes, or what a manifest says but for the version of the program}."""
    files = {path.name: path.read_bytes() for path in directory.iterdir() if path.name[0] != "."}
    return without_tool(files)


def without_tool(files):
    if "linchpin.json" in files:
        files["linchpin.json"] = {key: value for key, value in json.loads(files["linchpin.json"]).items()
                                  if key != "tool"}
    return files


@pytest.mark.parametrize("name", OUTPUTS)
def test_an_output_is_what_its_manifest_says(linchpin, name):
    said = linchpin("verify", DOCUMENTS / "outputs" / name, "--json").json
    assert said["matches"] and not said["mismatches"]
    assert said["files"] == len(list((DOCUMENTS / "outputs" / name).iterdir())) - 1
    (kept,) = said["kept"]
    assert (kept["tensor"], kept["row"], kept["column"]) == ("model.layers.0.mlp.down_proj.weight", 7, 23)
    assert kept["source_value"] == 3


def test_an_output_that_was_changed_since_is_not(linchpin, tmp_path):
    out = tmp_path / "out"
    shutil.copytree(DOCUMENTS / "outputs/w4a16", out)
    with open(out / "model-00002-of-00002.safetensors", "r+b") as file:
        file.seek(-1, 2)
        file.write(b"\x55")
    finished = linchpin.run("verify", out, "--json")
    assert finished.code == 3
    assert not finished.json["matches"]


def test_outputs_say_what_they_said(linchpin, tmp_path):
    """Read by the forward pass, their loss is the one that it was."""
    expected = json.loads((DOCUMENTS / "losses.json").read_text())
    assert losses(linchpin, DOCUMENTS / "outputs", tmp_path) == pytest.approx(expected, rel=1e-5)
    assert len({round(loss, 5) for loss in expected.values()}) == len(OUTPUTS)


@pytest.mark.parametrize("copied", [False, True], ids=["the same source", "another copy of it"])
def test_a_job_in_parts_is_gone_on_with(remote, store, copied):
    """Of two shards 0.1.0 made the first; where the source is no longer the same object, by its digest."""
    for part in (DOCUMENTS / "job").glob("out.*"):
        store.put(f"{KEY}/{part.name}", part)
    for path in (store.bucket / KEY).glob("out.*/*" + SUFFIX):  # without it the store copies no object
        path.with_name(path.name.removesuffix(SUFFIX) + "._S3rver_metadata.json").write_text("{}")
    if copied:
        for path in (store.bucket / KEY / "model").iterdir():
            os.utime(path, (WRITTEN + 1, WRITTEN + 1))
    job = DOCUMENTS / "job/job.json"
    unfinished = remote.run("finalize", "--plan", job)
    assert unfinished.code == 42 and "1 of 2 shards are not finished: 1" in unfinished.error
    assert remote("compress-shard", "--plan", job, "--index", 0, "--json").json["skipped"]
    assert not remote("compress-shard", "--plan", job, "--index", 1, "--json").json["skipped"]
    remote("finalize", "--plan", job)
    assert without_tool(store.objects(f"{KEY}/out")) == contents(DOCUMENTS / "outputs/w4a16")
    assert {name.split("/")[0] for name in store.objects(KEY)} == {"model", "out"}


@pytest.fixture(name="killed")
def killed_fixture(tmp_path):
    """A copy of what a killed run left beside tmp_path/out."""
    (left,) = (DOCUMENTS / "killed").iterdir()
    return shutil.copytree(left, tmp_path / left.name)


def noted(line):
    """A line of the notes of a run: a digest of it that a torn one lacks, and the note."""
    return f"{hashlib.sha256(line.encode()).hexdigest()[:16]} {line}\n"


def place_of(path, tensor):
    """Where the bytes of a tensor lie in a file of safetensors."""
    with open(path, "rb") as file:
        (length,) = struct.unpack("<Q", file.read(8))
        begin, end = json.loads(file.read(length))[tensor]["data_offsets"]
    return 8 + length + begin, end - begin


def weights(directory):
    return {path.name: path.read_bytes() for path in sorted(directory.glob("*.safetensors"))}


def test_a_run_that_was_killed_is_gone_on_with(remote, killed, tmp_path):
    """Bytes that were noted are kept as they stand: one that no run would write now tells."""
    file, notes = killed / "model-00001-of-00002.safetensors", killed / ".linchpin-notes"
    at, size = place_of(file, "model.embed_tokens.weight")
    data = bytearray(file.read_bytes())
    before = hashlib.sha256(data[at:at + size]).hexdigest()
    data[at + size - 1] ^= 1
    file.write_bytes(data)
    after = hashlib.sha256(data[at:at + size]).hexdigest()
    lines = [line.split(" ", 1)[1] for line in notes.read_text().splitlines()]
    assert sum(before in line for line in lines) == 1
    assert notes.read_text() == "".join(map(noted, lines)), "the form of a line"
    notes.write_text("".join(noted(line.replace(before, after)) for line in lines))
    expected = weights(killed)
    remote("compress", SOURCE, tmp_path / "out", *KILLED)
    assert weights(tmp_path / "out") == expected
    remote("verify", tmp_path / "out")
    assert not killed.exists()


def test_what_was_not_noted_is_made_again(remote, killed, tmp_path):
    """Of the notes the second half is lost, the last line torn, and of its weights nothing is right."""
    expected = weights(killed)
    file, notes = killed / "model-00002-of-00002.safetensors", killed / ".linchpin-notes"
    lines = notes.read_text().splitlines(keepends=True)
    kept = [line for line in lines if "identity" in line or json.loads(line[17:])["row"] < 10]
    assert 0 < len(kept) < len(lines)
    notes.write_text("".join(kept) + lines[-1][:40])
    file.write_bytes(b"\x55" * file.stat().st_size)
    remote("compress", SOURCE, tmp_path / "out", *KILLED)
    assert weights(tmp_path / "out") == expected
    assert not killed.exists()
