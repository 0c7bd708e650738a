"""An upgrade as a cluster does it: the old server drains while the new one serves the same roots under the same
policy, whatever stage its jobs are in; and policy and keys that an operator replaces, by bad ones too."""

import http.client
import json
import signal
import threading
import time

import grpc
import pytest
from joserfc import jwt
from joserfc.jwk import ECKey, KeySet

from conftest import CommandLine
from e2e.test_upload_interleavings import messages, received
from support.directories import digests
from support.foreign_client import ForeignClient, reason_of
from support.gated_store import from_request
from support.patience import PATIENCE, await_that
from support.synthetic_model import make_model

SOURCE = "s3://models/upgrade/model"
OPTIONS = ["--detection", "off", "--scale", "minmax"]


@pytest.fixture(name="model", scope="module")
def model_fixture(gated_store, tmp_path_factory):
    """In two shards, each of which is one chunk; also at SOURCE."""
    path = make_model(tmp_path_factory.mktemp("upgraded") / "model", layers=2, hidden=128, intermediate=256,
                      vocab=64, heads=2, kv_heads=1, layers_per_shard=1)
    gated_store.put("upgrade/model", path)
    return path


@pytest.fixture(name="whole", scope="module")
def whole_fixture(linchpin, model, tmp_path_factory):
    out = tmp_path_factory.mktemp("whole") / "out"
    linchpin("compress", model, out, *OPTIONS)
    return digests(out)


def remote(server, *options):
    return CommandLine("--quiet", "--endpoint", server.endpoint, *options)


def test_the_new_server_serves_while_the_old_one_drains(start_server, store, model, whole, tmp_path):
    """They share their roots; a job of the old one ends as if nothing were."""
    options = ["--read-root", "/", "--write-root", tmp_path, "--read-prefix", "s3://models/upgrade",
               "--s3-endpoint", store.gate.endpoint, "--drain-seconds", str(2 * PATIENCE)]
    old = start_server(*options)
    store.gate.hold(from_request(5))
    job = remote(old).start("compress", SOURCE, tmp_path / "old", *OPTIONS)
    assert store.gate.await_held(or_ended=lambda: job.poll() is not None)
    new = start_server(*options)
    old.process.send_signal(signal.SIGTERM)
    await_that(lambda: old.metrics()["linchpin_draining"] == 1)
    refused = remote(old).run("compress", model, tmp_path / "new", *OPTIONS)
    assert refused.code == 75 and refused.error.endswith("[DRAINING]")
    remote(new)("compress", model, tmp_path / "new", *OPTIONS)
    assert digests(tmp_path / "new") == whole
    assert job.poll() is None and not (tmp_path / "old").exists()
    store.gate.release()
    _, error = job.communicate(timeout=PATIENCE)
    assert job.returncode == 0, error
    assert old.process.wait(timeout=PATIENCE) == 0
    assert digests(tmp_path / "old") == whole
    assert not list(tmp_path.glob(".*.linchpin*"))


# How many messages are sent, and how many of the answer are read, before SIGTERM.
STAGES = {"before a file": (1, 0), "in a file": (2, 0), "between files": (4, 0), "before finish": (13, 0),
          "at work or done": (14, 0), "in the answer": (14, 1), "before the result": (14, 15)}


class Upload:
    """One that stands still at a stage until it is told to go on."""

    def __init__(self, client, model, stage):
        self.sent, self.read = STAGES[stage]
        self.goes_on, self.stands = threading.Event(), threading.Event()
        self.call = client.upload(self._parts(messages(model)))
        self.answers = []
        self.stands.wait(PATIENCE)
        self._take(self.read)

    def _parts(self, parts):
        yield from parts[:self.sent]
        self.stands.set()
        if parts[self.sent:]:
            self.goes_on.wait(PATIENCE)
            yield from parts[self.sent:]

    def _take(self, count):
        while len(self.answers) < count:
            answer = next(self.call)
            if answer.WhichOneof("part") != "progress":
                self.answers.append(answer)

    def go_on(self):
        """All of the answer."""
        self.goes_on.set()
        self.answers += [answer for answer in self.call if answer.WhichOneof("part") != "progress"]
        return self.answers


def drains_or_ended(server):
    """It may end at any time: its job may be done."""
    try:
        return server.process.poll() is not None or server.metrics()["linchpin_draining"] == 1
    except (OSError, http.client.HTTPException):
        return False


@pytest.mark.parametrize("stage", STAGES)
def test_an_upload_ends_whole_in_a_server_that_drains(start_server, model, whole, tmp_path, stage):
    server = start_server("--drain-seconds", str(2 * PATIENCE))
    with ForeignClient(server.endpoint) as client:
        upload = Upload(client, model, stage)
        await_that(lambda: sum(value for name, value in server.metrics().items()
                               if name.startswith("linchpin_jobs") and 'kind="artifact"' in name))
        server.process.send_signal(signal.SIGTERM)
        await_that(lambda: drains_or_ended(server))
        answers = upload.go_on()
    assert answers[-1].HasField("result")
    (tmp_path / "out").mkdir()
    assert digests(received(answers, tmp_path / "out")) == whole
    assert server.process.wait(timeout=PATIENCE) == 0


@pytest.mark.parametrize("stage", ["before a file", "in a file", "between files", "before finish"])
def test_an_upload_that_outlasts_the_drain_is_told_to_come_again(start_server, model, tmp_path, stage):
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    server = start_server("--drain-seconds", "0", "--scratch-dir", scratch, "--max-scratch", "1GiB")
    with ForeignClient(server.endpoint) as client:
        upload = Upload(client, model, stage)
        await_that(lambda: server.metrics()['linchpin_jobs_in_progress{kind="artifact"}'] == 1)
        server.process.send_signal(signal.SIGTERM)
        with pytest.raises(grpc.RpcError) as ended:
            list(upload.call)
        upload.goes_on.set()
    assert reason_of(ended.value) == "DRAINING"
    assert server.process.wait(timeout=PATIENCE) == 0
    assert not list(scratch.iterdir()), "nothing of it is left"


class Operator:
    """Who keeps a server's policy and keys."""

    def __init__(self, place):
        self.policy, self.keys, self.place = place / "policy.json", place / "keys.json", place
        self.key = None
        self.new_key()
        self.allow("admin")

    def allow(self, *subjects):
        self.replace(self.policy, json.dumps({"identities": {f"token:{name}": {} for name in subjects}}))

    def new_key(self):
        self.key = ECKey.generate_key("P-256", parameters={"kid": f"key-{time.monotonic_ns()}", "use": "sig"})
        self.replace(self.keys, json.dumps(KeySet([self.key]).as_dict(private=False)))

    def replace(self, path, text):
        path.with_suffix(".next").write_text(text)
        path.with_suffix(".next").rename(path)

    def token(self, subject):
        body = {"iss": "https://issuer.example.org", "aud": "linchpin", "sub": subject,
                "exp": int(time.time()) + 600}
        return jwt.encode({"alg": "ES256", "kid": self.key.kid}, body, self.key)


@pytest.fixture(name="guarded")
def guarded_fixture(start_server, tmp_path):
    """(the operator; served(token): the reason that a caller hears, or None)."""
    operator = Operator(tmp_path)
    server = start_server("--token-keys", operator.keys, "--token-issuer", "https://issuer.example.org",
                          "--token-audience", "linchpin", "--policy", operator.policy)

    def served(token):
        with grpc.insecure_channel(server.endpoint) as channel:
            try:
                channel.unary_unary("/linchpin.v1.CompressionService/GetCapabilities")(
                    b"", metadata=(("authorization", f"Bearer {token}"),), timeout=PATIENCE)
            except grpc.RpcError as error:
                return reason_of(error)
        return None
    return operator, served


def stays(condition, seconds=2.5):
    """Whether it is true all the time; files are looked at once a second."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if not condition():
            return False
        time.sleep(0.05)
    return True


def test_a_bad_policy_leaves_the_old_one_in_force_and_a_good_one_takes_over(guarded):
    operator, served = guarded
    admin, other = operator.token("admin"), operator.token("other")
    assert served(admin) is None and served(other) == "POLICY_REFUSED"
    for bad in ("", '{"identities": {"token:other": {"rpc": []}}}'):
        operator.replace(operator.policy, bad)
        assert stays(lambda: served(admin) is None and served(other) == "POLICY_REFUSED"), bad
    operator.allow("other")
    await_that(lambda: served(other) is None)
    assert served(admin) == "POLICY_REFUSED"


def test_bad_keys_leave_the_old_ones_in_force_and_good_ones_take_over(guarded):
    operator, served = guarded
    before = operator.token("admin")
    assert served(before) is None
    for bad in ("", '{"keys": 1}'):
        operator.replace(operator.keys, bad)
        assert stays(lambda: served(before) is None), bad
    operator.new_key()
    after = operator.token("admin")
    await_that(lambda: served(after) is None)
    assert served(before) == "UNAUTHENTICATED"
