"""The image's entry point: what it starts the server with."""

import os
import pathlib
import subprocess

import pytest

ROOT = pathlib.Path(__file__).resolve().parents[2]
DEFAULTS = ["--listen", "unix:/run/linchpin/linchpin.sock", "--read-root", "/models",
            "--write-root", "/output"]


@pytest.fixture(name="entrypoint")
def entrypoint_fixture(tmp_path):
    """Runs the entry point with a server that only prints its arguments, one per line."""
    programs = tmp_path / "bin"
    programs.mkdir()
    server = programs / "linchpin-server"
    server.write_text('#!/bin/sh\nfor argument; do echo "$argument"; done\n')
    server.chmod(0o755)

    def run(*arguments, tls=()):
        directory = tmp_path / "tls"
        directory.mkdir(exist_ok=True)
        for name in tls:
            (directory / name).touch()
        environment = {"PATH": f"{programs}:{os.environ['PATH']}",
                       "LINCHPIN_TLS_DIR": str(directory)}
        result = subprocess.run([str(ROOT / "deploy/entrypoint.sh"), *arguments], env=environment,
                                capture_output=True, text=True, check=True)
        return result.stdout.splitlines(), result.stderr
    return run


def tls_arguments(tmp_path, client_ca):
    arguments = ["--listen", "0.0.0.0:50051", "--tls-cert", f"{tmp_path}/tls/tls.crt",
                 "--tls-key", f"{tmp_path}/tls/tls.key"]
    return arguments + (["--tls-client-ca", f"{tmp_path}/tls/ca.crt"] if client_ca else [])


def test_without_certificates_only_the_socket(entrypoint):
    assert entrypoint() == (DEFAULTS, "")


def test_with_certificates_a_port_for_known_clients(entrypoint, tmp_path):
    arguments, complaints = entrypoint(tls=("tls.crt", "tls.key", "ca.crt"))
    assert arguments == DEFAULTS + tls_arguments(tmp_path, client_ca=True)
    assert complaints == ""


def test_without_an_authority_it_says_that_anybody_may_call(entrypoint, tmp_path):
    arguments, complaints = entrypoint(tls=("tls.crt", "tls.key"))
    assert arguments == DEFAULTS + tls_arguments(tmp_path, client_ca=False)
    assert "every client" in complaints


def test_options_are_added(entrypoint, tmp_path):
    arguments, _ = entrypoint("--slots", "two words", tls=("tls.crt", "ca.crt"))
    assert arguments == DEFAULTS + tls_arguments(tmp_path, True) + ["--slots", "two words"]


def test_another_program_runs_instead(entrypoint):
    assert entrypoint("echo", "hello", "--slots") == (["hello --slots"], "")
