"""What the Python tests share: the programs under test, the models, a server to talk to.

LINCHPIN_BIN     folder of linchpin and linchpin-server (support/build.py)
LINCHPIN_SHARED  models, text and expected values; default ../shared beside the repository
"""

import dataclasses
import functools
import json
import os
import pathlib
import re
import subprocess
import sys
import urllib.request

import pytest

ROOT = pathlib.Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "tests"))  # for `from support.smollm2 import smollm2`
from support.build import binaries  # noqa: E402  (the path comes first)
from support.gated_store import CREDENTIALS, GatedStore  # noqa: E402
from support.outputs import compressed  # noqa: E402
from support.patience import PATIENCE  # noqa: E402


@dataclasses.dataclass
class Finished:
    """What a command said and how it ended."""
    code: int
    out: str
    err: str

    @property
    def json(self):
        """Standard output as exactly one JSON document."""
        return json.loads(self.out)

    @property
    def error(self):
        """The one line that standard error consists of."""
        lines = self.err.splitlines()
        assert len(lines) == 1, self.err
        assert lines[0].startswith("error: "), self.err
        return lines[0]


class CommandLine:
    """The program linchpin, with options that every call gets."""

    def __init__(self, *options):
        self.program = binaries() / "linchpin"
        self.options = options

    def command(self, *arguments):
        return [str(self.program), *self.options, *map(str, arguments)]

    def run(self, *arguments, timeout=1800, **popen):
        """Runs a command to its end, whatever it is."""
        result = subprocess.run(self.command(*arguments), capture_output=True, text=True,
                                check=False, timeout=timeout, stdin=subprocess.DEVNULL, **popen)
        return Finished(result.returncode, result.stdout, result.stderr)

    def __call__(self, *arguments, **popen):
        """Runs a command that must succeed."""
        finished = self.run(*arguments, **popen)
        assert finished.code == 0, f"{arguments}: exit {finished.code}: {finished.err}"
        return finished

    def start(self, *arguments, **popen):
        return subprocess.Popen(self.command(*arguments), stdin=subprocess.DEVNULL,
                                stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, **popen)


class Server:
    """A linchpin-server of the test's own on a free port, with its metrics on another."""

    def __init__(self, log, *options, listen="127.0.0.1:0", prefix=()):
        ready_read, ready_write = os.pipe()
        with open(log, "w", encoding="utf-8") as stderr:
            self.process = subprocess.Popen(
                [*prefix, str(binaries() / "linchpin-server"), "--listen", listen, "--metrics",
                 "127.0.0.1:0", "--ready-fd", str(ready_write), *map(str, options)],
                pass_fds=[ready_write], stdin=subprocess.DEVNULL, stderr=stderr)
        os.close(ready_write)
        with os.fdopen(ready_read, encoding="utf-8") as ready:
            self.endpoint = ready.readline().strip()
        said = pathlib.Path(log).read_text(encoding="utf-8")
        assert self.endpoint, said
        self.metrics_address = re.search(r", metrics (127\.0\.0\.1:\d+),", said)[1]

    def metrics(self):
        """{name with labels: value} as a scraper reads it."""
        with urllib.request.urlopen(f"http://{self.metrics_address}/metrics", timeout=PATIENCE) as page:
            lines = page.read().decode().splitlines()
        return {name: float(value) for name, value in
                (line.rsplit(" ", 1) for line in lines if line and not line.startswith("#"))}

    def stop(self):
        self.process.terminate()
        return self.process.wait(timeout=PATIENCE)


@pytest.fixture(name="linchpin", scope="session")
def linchpin_fixture():
    """The command line with a private server per call."""
    return CommandLine("--quiet")


@pytest.fixture(name="compressed", scope="session")
def compressed_fixture(linchpin):
    """compressed(source, *options): what `compress` writes, made once.  Not to be written to."""
    return functools.partial(compressed, linchpin)


@pytest.fixture(name="start_server")
def start_server_fixture(tmp_path):
    """start_server(*options, listen=...): a running Server, stopped at the end of the test."""
    servers = []

    def start(*options, **settings):
        servers.append(Server(tmp_path / f"server-{len(servers)}.log", *options, **settings))
        return servers[-1]

    yield start
    for server in servers:
        if server.process.poll() is None:
            server.stop()


@pytest.fixture(name="gated_store", scope="session")
def gated_store_fixture(tmp_path_factory):
    """A real S3 server behind a gate; each test has keys of its own in it."""
    store = GatedStore(tmp_path_factory.mktemp("gated"))
    yield store
    store.close()


@pytest.fixture(name="store")
def store_fixture(gated_store, monkeypatch):
    """The same, open, with its credentials in the environment of what is started."""
    for name, value in CREDENTIALS.items():
        monkeypatch.setenv(name, value)
    gated_store.gate.forget()
    yield gated_store
    gated_store.gate.release()


@pytest.fixture(name="shared", scope="session")
def shared_fixture():
    """The folder of shared models and expected values."""
    path = pathlib.Path(os.environ.get("LINCHPIN_SHARED", ROOT.parent / "shared"))
    if not path.is_dir():
        if os.environ.get("CI"):
            pytest.fail(f"{path} is not there: set LINCHPIN_SHARED")
        pytest.skip(f"{path} is not there")
    return path


@pytest.fixture(name="demo_model", scope="session")
def demo_model_fixture(linchpin, tmp_path_factory):
    """The demonstration checkpoint.  Not to be written to."""
    path = tmp_path_factory.mktemp("demo") / "model"
    linchpin("demo-model", path)
    return path


@pytest.fixture(name="demo_proof", scope="session")
def demo_proof_fixture(demo_model):
    """The options that prove on the demonstration model's own text."""
    return ["--proof", "joint", "--proof-tokens", str(demo_model / "tokens.json")]


@pytest.fixture(name="smollm2", scope="session")
def smollm2_fixture():
    """smollm2("bf16" or "f32"): the directory of the real model."""
    from support.smollm2 import smollm2
    return smollm2
