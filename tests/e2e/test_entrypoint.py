"""The image's entry point, with the real server: it judges the options, and serves where they say."""

import dataclasses
import os
import pathlib
import re
import signal
import subprocess

import pytest

from conftest import CommandLine, binaries
from support.patience import PATIENCE
from support.tls_files import Authority

ROOT = pathlib.Path(__file__).resolve().parents[2]
DEFAULTS = ["--listen", "unix:/run/linchpin/linchpin.sock", "--read-root", "/models",
            "--write-root", "/output"]
PORT = ["--listen", "0.0.0.0:50051"]
# Stands before the real server: writes its arguments down, and puts the test's own places where the image has
# its own.
STAND_IN = """#!/bin/sh
printf '%s\\n' "$@" > {place}/arguments
count=$#
while [ $count -gt 0 ]; do
  argument=$1
  shift
  case $argument in
    unix:/run/linchpin/*) argument=unix:{place}${{argument#unix:}} ;;
    /models | /output) argument={place}$argument ;;
    0.0.0.0:50051) argument=0.0.0.0:0 ;;
  esac
  set -- "$@" "$argument"
  count=$((count - 1))
done
exec {server} "$@"
"""


@dataclasses.dataclass
class Started:
    """What became of an entry point."""
    process: subprocess.Popen
    log: pathlib.Path
    place: pathlib.Path
    endpoints: list  # where it serves; empty where it ended

    @property
    def arguments(self):
        """Those that the server got, without those of the test's own."""
        return (self.place / "arguments").read_text().splitlines()[:-2]

    @property
    def said(self):
        return self.log.read_text()

    @property
    def complaints(self):
        """The entry point's own."""
        return [line for line in self.said.splitlines() if line.startswith("linchpin-entrypoint:")]

    @property
    def port(self):
        return int(self.endpoints[1].rsplit(":", 1)[1])


@pytest.fixture(name="authority", scope="module")
def authority_fixture(tmp_path_factory):
    """What signed the image's certificate and a client's."""
    return Authority(tmp_path_factory.mktemp("authority"))


@pytest.fixture(name="entrypoint")
def entrypoint_fixture(tmp_path, authority):
    """entrypoint(*arguments, tls=("tls.crt", ...)): Started, with these files mounted."""
    for folder in ("bin", "run/linchpin", "models", "output", "tls"):
        (tmp_path / folder).mkdir(parents=True)
    server = tmp_path / "bin/linchpin-server"
    server.write_text(STAND_IN.format(place=tmp_path, server=binaries() / "linchpin-server"))
    server.chmod(0o755)
    certificate, key = authority.sign("server")
    mounted = {"tls.crt": certificate, "tls.key": key, "ca.crt": authority.certificate}
    environment = {"PATH": f"{server.parent}:{os.environ['PATH']}", "LINCHPIN_TLS_DIR": str(tmp_path / "tls"),
                   "LINCHPIN_METRICS": "127.0.0.1:0"}
    processes = []

    def run(*arguments, tls=()):
        for name in tls:
            (tmp_path / "tls" / name).write_bytes(mounted[name].read_bytes())
        ready_read, ready_write = os.pipe()
        with open(tmp_path / "log", "w", encoding="utf-8") as log:
            process = subprocess.Popen([ROOT / "deploy/entrypoint.sh", *arguments, "--ready-fd", str(ready_write)],
                                       env=environment, pass_fds=[ready_write], stdin=subprocess.DEVNULL,
                                       stdout=log, stderr=log)
        processes.append(process)
        os.close(ready_write)
        with os.fdopen(ready_read, encoding="utf-8") as ready:
            return Started(process, tmp_path / "log", tmp_path, ready.readline().split())

    yield run
    for process in processes:
        process.kill()
        process.wait(PATIENCE)


def tls_arguments(place, client_ca):
    arguments = [*PORT, "--tls-cert", f"{place}/tls/tls.crt", "--tls-key", f"{place}/tls/tls.key"]
    return arguments + (["--tls-client-ca", f"{place}/tls/ca.crt"] if client_ca else [])


def call(endpoint, *options):
    return CommandLine("--quiet", "--endpoint", endpoint, *options)


def test_without_certificates_only_the_socket(entrypoint, demo_model):
    started = entrypoint()
    assert started.arguments == DEFAULTS
    assert started.complaints == []
    socket, = started.endpoints
    assert socket == f"unix:{started.place}/run/linchpin/linchpin.sock"
    # /models is read, /output written, nothing else.
    (started.place / "models/model").symlink_to(demo_model)  # not followed
    linchpin = call(socket)
    linchpin("demo-model", started.place / "output/model")
    assert linchpin.run("demo-model", started.place / "models/new").error.endswith("[PATH_NOT_ALLOWED]")
    assert linchpin.run("detect", started.place / "models/absent").error.endswith("[SOURCE_NOT_FOUND]")
    assert linchpin.run("detect", demo_model).error.endswith("[PATH_NOT_ALLOWED]")
    started.process.send_signal(signal.SIGTERM)
    assert started.process.wait(PATIENCE) == 0, "the shell stands in nobody's way"


def test_with_certificates_a_port_for_known_clients(entrypoint, authority):
    started = entrypoint(tls=("tls.crt", "tls.key", "ca.crt"))
    assert started.arguments == DEFAULTS + tls_arguments(started.place, client_ca=True)
    assert started.complaints == []
    certificate, key = authority.sign("client")
    trusting = ["--tls-ca", authority.certificate]
    port = f"localhost:{started.port}"
    assert call(started.endpoints[0]).run("capabilities").code == 0
    assert call(port, *trusting, "--tls-cert", certificate, "--tls-key", key).run("capabilities").code == 0
    assert call(port, *trusting).run("capabilities").code == 75
    assert call(port).run("capabilities").code == 75


def test_without_an_authority_it_says_that_anybody_may_call(entrypoint, authority):
    started = entrypoint(tls=("tls.crt", "tls.key"))
    assert started.arguments == DEFAULTS + tls_arguments(started.place, client_ca=False)
    complaint, = started.complaints
    assert "every client" in complaint
    assert call(f"localhost:{started.port}", "--tls-ca", authority.certificate).run("capabilities").code == 0


def test_options_are_added(entrypoint):
    started = entrypoint("--slots", "7", tls=("tls.crt", "tls.key", "ca.crt"))
    assert started.arguments == DEFAULTS + tls_arguments(started.place, True) + ["--slots", "7"]
    assert len(started.endpoints) == 2
    assert re.search(r", 7 slots, ", started.said)


@pytest.mark.parametrize("options, says", [
    (["--slots", "two words"], '"two words" is not a whole number'),
    (["--no-such-option"], "--no-such-option")])
def test_an_option_that_the_server_refuses_ends_it(entrypoint, options, says):
    started = entrypoint(*options)
    assert started.process.wait(PATIENCE) == 2
    assert started.endpoints == []
    assert says in started.said, started.said


def test_a_certificate_without_its_key_ends_it(entrypoint):
    """Rather than to serve the socket alone."""
    started = entrypoint(tls=("tls.crt", "ca.crt"))
    assert started.process.wait(PATIENCE) == 1
    assert started.endpoints == []
    assert "tls.key" in started.said, started.said


def test_another_program_runs_instead(tmp_path):
    said = subprocess.run([ROOT / "deploy/entrypoint.sh", "echo", "hello", "--slots"], capture_output=True,
                          text=True, check=True, env={"PATH": os.environ["PATH"], "LINCHPIN_TLS_DIR": tmp_path})
    assert (said.stdout, said.stderr) == ("hello --slots\n", "")
