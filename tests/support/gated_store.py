"""A real S3 server (s3rver) behind a gate: requests wait there until a test lets them go on.

A job whose source or output lies in such a store is in the middle of whatever a test wants, for as long as it
wants, on any machine.
"""

import collections
import contextlib
import dataclasses
import os
import pathlib
import shutil
import socket
import socketserver
import subprocess
import threading

from support.held_port import HeldPort
from support.npm import MODULES, NODE
from support.patience import PATIENCE, await_that

ROOT = pathlib.Path(__file__).resolve().parents[2]
# What callers of s3rver must know.
CREDENTIALS = {"AWS_ACCESS_KEY_ID": "S3RVER", "AWS_SECRET_ACCESS_KEY": "S3RVER"}
SUFFIX = "._S3rver_object"


def answers(address):
    with socket.socket() as probe:
        return probe.connect_ex(address) == 0


@contextlib.contextmanager
def serving(command, **environment):
    """Runs command(port), a server; gives its address once it answers."""
    with HeldPort() as port:
        address = ("127.0.0.1", port.number)
        with subprocess.Popen(command(port.number), env={**os.environ, **environment},
                              stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
                              stderr=subprocess.DEVNULL) as process:
            try:
                await_that(lambda: process.poll() is not None or answers(address), "an answer")
                assert process.poll() is None, (
                    f"{command(port.number)}: does not serve: tests/run.sh installs it")
                yield address
            finally:
                process.kill()


def s3rver(data):
    """An S3 server that checks signatures, with a bucket "models" in the folder data/models."""
    return serving(lambda port: [str(NODE), str(ROOT / "tests/support/start_s3rver.cjs"), str(data),
                                 str(port)], NODE_PATH=str(MODULES))


def put_objects(bucket, key, directory):
    """Puts the files of a directory into the folder of a bucket of s3rver."""
    for path in sorted(directory.iterdir()):
        place = bucket / key / path.name
        place.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(path, place.with_name(place.name + SUFFIX))
        place.with_name(place.name + SUFFIX + ".md5").write_text("0" * 32)


def objects(bucket, key):
    """{name: bytes} of what the folder of a bucket of s3rver holds below a key, hidden keys among it."""
    top = bucket / key
    return {str(path.relative_to(top)).removesuffix(SUFFIX): path.read_bytes()
            for path in sorted(top.rglob("*" + SUFFIX))}


@dataclasses.dataclass(frozen=True)
class Request:
    """What came to the gate."""
    number: int  # among all, from 0
    method: str
    path: str  # with its query
    range: str  # "bytes=0-99", or nothing
    copies: bool  # the store is to copy an object of its own
    nth: int  # among those with the same method, path and range, from 1


class Gate:
    """Passes HTTP requests on to another server, each over connections of its own, unless they are held."""

    def __init__(self, upstream):
        self._upstream = upstream
        self._changed = threading.Condition()
        self._held = lambda request: False
        self._waiting = 0
        self._busy = 0
        self._seen = collections.Counter()
        self.requests = []
        gate = self

        class Handler(socketserver.BaseRequestHandler):
            def handle(self):
                with gate._changed:
                    gate._busy += 1
                with contextlib.suppress(OSError):
                    gate._pass(self.request)
                with gate._changed:
                    gate._busy -= 1

        self._server = socketserver.ThreadingTCPServer(("127.0.0.1", 0), Handler, False)
        self._server.daemon_threads = True
        self._server.request_queue_size = 128
        self._server.server_bind()
        self._server.server_activate()
        self.endpoint = "http://127.0.0.1:%d" % self._server.server_address[1]
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def close(self):
        self.release()
        self._server.shutdown()
        self._server.server_close()

    def hold(self, held):
        """From now on requests wait for which held(request) is true, until release."""
        with self._changed:
            self._held = held

    def release(self):
        """Lets all go on that wait, and sees them gone: the next hold would keep them."""
        self.hold(lambda request: False)
        with self._changed:
            self._changed.notify_all()
        await_that(lambda: self.waiting() == 0, "the end of all waiting")

    def forget(self):
        """Counts from nothing again."""
        with self._changed:
            self.requests = []
            self._seen.clear()

    def waiting(self):
        """How many requests wait."""
        with self._changed:
            return self._waiting

    def settle(self):
        """Until nothing is under way: what was asked is done, whoever still waits for it."""
        await_that(lambda: self._busy == 0, "the end of all requests")

    def await_held(self, or_ended=lambda: False):
        """Until a request waits, or `or_ended` is true; whether one waits."""
        await_that(lambda: self.waiting() or or_ended(), "a request that is held")
        return self.waiting() > 0

    def _enter(self, head):
        """Waits as long as it must."""
        lines = head.decode("latin-1").split("\r\n")
        headers = {name.lower(): value.strip() for name, value in
                   (line.split(":", 1) for line in lines[1:] if ":" in line)}
        method, path, _ = lines[0].split(" ")
        with self._changed:
            what = (method, path, headers.get("range", ""))
            self._seen[what] += 1
            request = Request(len(self.requests), *what, "x-amz-copy-source" in headers,
                              self._seen[what])
            self.requests.append(request)
            if self._held(request):
                self._waiting += 1
                self._changed.wait_for(lambda: not self._held(request))
                self._waiting -= 1
        return int(headers.get("content-length", 0))

    def _pass(self, caller):
        head = b""
        while b"\r\n\r\n" not in head:
            piece = caller.recv(65536)
            if not piece:
                return
            head += piece
        head, body = head.split(b"\r\n\r\n", 1)
        left = self._enter(head) - len(body)
        with socket.create_connection(self._upstream, timeout=PATIENCE) as store:
            store.sendall(head + b"\r\nConnection: close\r\n\r\n" + body)
            while left > 0 and (piece := caller.recv(min(left, 1 << 20))):
                store.sendall(piece)
                left -= len(piece)
            if left > 0:
                return  # the caller went away: the store would wait for the rest
            while piece := store.recv(1 << 20):
                caller.sendall(piece)


class GatedStore:
    """s3rver, the folder of its bucket "models", and the gate before it."""

    def __init__(self, data):
        self.bucket = data / "models"
        self._stack = contextlib.ExitStack()
        self.gate = Gate(self._stack.enter_context(s3rver(data)))
        self._stack.callback(self.gate.close)

    def close(self):
        self._stack.close()

    def put(self, key, directory):
        put_objects(self.bucket, key, directory)

    def objects(self, key):
        return objects(self.bucket, key)

    def visible(self, key):
        return {name: data for name, data in self.objects(key).items()
                if not any(part.startswith(".") for part in name.split("/"))}

    def remove(self, prefix):
        """All keys that begin so."""
        place = self.bucket / prefix
        for path in place.parent.glob(place.name + "*"):
            shutil.rmtree(path) if path.is_dir() else path.unlink()

    def options(self, *prefixes):
        """For a server that may read and write below these."""
        return ["--s3-endpoint", self.gate.endpoint,
                *(word for prefix in prefixes for word in ("--write-prefix", prefix))]


def from_request(number):
    """What a gate holds: all requests from so many on."""
    return lambda request: request.number >= number

