"""LibTorch lies in a module of its own, which only what needs a forward pass loads."""

import shutil

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from conftest import CommandLine, Server
from support.patience import PATIENCE


@pytest.fixture(name="without_libtorch")
def without_libtorch_fixture(linchpin, tmp_path):
    """The programs by themselves, without the module that a forward pass needs."""
    place = tmp_path / "alone"
    place.mkdir()
    for program in ("linchpin", "linchpin-server"):
        shutil.copy(linchpin.program.parent / program, place)
    alone = CommandLine("--quiet")
    alone.program = place / "linchpin"
    return alone


def test_what_needs_no_forward_pass_works_without_libtorch(linchpin, without_libtorch, demo_model, tmp_path):
    assert linchpin("capabilities", "--json").json["libtorch_version"]
    assert without_libtorch("capabilities", "--json").json["libtorch_version"] == ""
    assert "without LibTorch" in without_libtorch("capabilities").out
    without_libtorch("plan", demo_model)
    without_libtorch("detect", demo_model, "--weights-only")
    for name, program in (("with", linchpin), ("without", without_libtorch)):
        program("compress", demo_model, tmp_path / name, "--scale", "signed", "--detection", "off")
    without_libtorch("verify", tmp_path / "without")
    for path in (tmp_path / "with").iterdir():
        assert path.read_bytes() == (tmp_path / "without" / path.name).read_bytes(), path.name


@pytest.mark.parametrize("arguments", [["detect"], ["compress", "OUT"], ["evaluate", "--tokens", "TOKENS"]], ids=lambda a: a[0])
def test_what_needs_one_names_the_module_that_is_missing(without_libtorch, demo_model, tmp_path, arguments):
    command, *more = arguments
    out = tmp_path / "out"
    given = {"OUT": out, "TOKENS": demo_model / "tokens.json"}
    refused = without_libtorch.run(command, demo_model, *(given.get(word, word) for word in more))
    module = without_libtorch.program.parent / "linchpin-libtorch.so"
    assert refused.code == 1
    assert refused.error.startswith(f"error: {module}: it is neither there nor in "), refused.err
    assert refused.error.endswith("[INTERNAL]")
    assert not out.exists()


def test_a_server_that_stays_serves_without_the_module_and_says_so(linchpin, without_libtorch, monkeypatch,
                                                                    tmp_path):
    """Health tells of what runs, work without a pass among it; the log, a metric and capabilities of the rest."""
    for name, program, version in (("with", linchpin, "1"), ("without", without_libtorch, "")):
        monkeypatch.setenv("LINCHPIN_BIN", str(program.program.parent))
        server = Server(tmp_path / f"{name}.log")
        assert server.metrics()["linchpin_forward_pass_available"] == (name == "with")
        with grpc.insecure_channel(server.endpoint) as channel:
            health = health_pb2_grpc.HealthStub(channel)
            answer = health.Check(health_pb2.HealthCheckRequest(), timeout=PATIENCE)
        assert answer.status == health_pb2.HealthCheckResponse.SERVING
        remote = CommandLine("--quiet", "--endpoint", server.endpoint)
        assert remote("capabilities", "--json").json["libtorch_version"].startswith(version)
        assert server.stop() == 0
    said = (tmp_path / "without.log").read_text().splitlines()
    assert "linchpin-libtorch.so: it is neither there nor in " in said[0]
    assert " listens on " in said[1]
    assert "libtorch" not in (tmp_path / "with.log").read_text()
