"""The server that a command starts for itself: it goes with the command, however that ends."""

import os
import pathlib
import signal
import subprocess

import pytest

from support.patience import PATIENCE, await_that


def children(pid):
    return [int(child) for task in pathlib.Path(f"/proc/{pid}/task").iterdir()
            for child in (task / "children").read_text().split()]


def alive(pid):
    try:
        return pathlib.Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except OSError:
        return False


@pytest.fixture(name="working")
def working_fixture(linchpin, store, demo_model, tmp_path):
    """A compress at work, whose source answers no more: (process, pid of its server, temporary folder,
    OUT)."""
    temporary = tmp_path / "tmp"
    temporary.mkdir()
    (tmp_path / "place").mkdir()
    out = tmp_path / "place/out"
    store.put("private/model", demo_model)
    store.gate.hold(lambda request: request.range not in ("", "bytes=0-0"))
    environment = {k: v for k, v in os.environ.items() if k != "XDG_RUNTIME_DIR"}
    process = linchpin.start("compress", "s3://models/private/model", out, env=environment | {
        "TMPDIR": str(temporary), "LINCHPIN_S3_ENDPOINT": store.gate.endpoint,
        "LINCHPIN_READ_PREFIX": "s3://models/private"})
    assert store.gate.await_held(or_ended=lambda: process.poll() is not None)
    server, = children(process.pid)
    yield process, server, temporary, out
    if process.poll() is None:
        process.kill()
    process.wait()


def test_killed_command_leaves_no_server_and_no_files(working):
    process, server, temporary, out = working
    assert list(temporary.iterdir()) == []
    process.kill()
    process.wait()
    await_that(lambda: not alive(server))
    assert list(out.parent.iterdir()) == []
    assert list(temporary.iterdir()) == []


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_interrupted_command_cleans_up_and_says_so(working, number):
    process, server, temporary, out = working
    process.send_signal(number)
    _, err = process.communicate(timeout=PATIENCE)
    assert process.returncode == 128 + number
    assert err.splitlines()[-1].startswith("error: interrupted: ")
    assert not alive(server)
    assert list(out.parent.iterdir()) == []
    assert list(temporary.iterdir()) == []


def test_command_ends_its_server(linchpin, tmp_path):
    environment = {k: v for k, v in os.environ.items() if k != "XDG_RUNTIME_DIR"}
    linchpin("capabilities", env=environment | {"TMPDIR": str(tmp_path)})
    assert list(tmp_path.iterdir()) == []


def test_server_is_found_on_the_path(linchpin, tmp_path):
    alone = tmp_path / "linchpin"
    alone.write_bytes(linchpin.program.read_bytes())
    alone.chmod(0o755)

    def run(path):
        return subprocess.run([str(alone), "capabilities"], env=os.environ | {"PATH": path},
                              capture_output=True, text=True, check=False)

    assert run(str(linchpin.program.parent)).returncode == 0
    lost = run("/nowhere")
    assert lost.returncode == 1
    assert lost.stderr.startswith("error: linchpin-server: not found ")


def test_server_that_does_not_start_is_an_error(linchpin, tmp_path):
    (tmp_path / "linchpin").write_bytes(linchpin.program.read_bytes())
    (tmp_path / "linchpin-server").write_text("#!/bin/sh\necho broken >&2\nexit 7\n")
    for program in ("linchpin", "linchpin-server"):
        (tmp_path / program).chmod(0o755)
    result = subprocess.run([str(tmp_path / "linchpin"), "capabilities"], capture_output=True,
                            text=True, check=False)
    assert result.returncode == 1
    assert result.stderr.splitlines()[0] == "broken"
    assert result.stderr.splitlines()[1].startswith("error: linchpin-server: ended before ")
