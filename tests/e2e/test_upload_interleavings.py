"""A caller of CompressArtifact that goes away, or stops sending, at any of its messages and of the server's:
over real gRPC, with the real engine.  The one slot is free afterwards, and an honest upload gets its bytes.
"""

import grpc
import pytest

from e2e.soak import parts_of
from support.directories import digests
from support.foreign_client import ForeignClient, reason_of
from support.patience import PATIENCE, await_that
from support.synthetic_model import make_model

OPTIONS = {"options": {"detection": {"skip": True}, "quantization": {"scale": "SCALE_RULE_MINMAX"}}}
SHARDS = 2
SENT = 1 + 3 * (2 + SHARDS) + 1  # options; header, chunk and end of config, index and shards; finish
ANSWERED = SENT + 2  # the same files and the manifest, without options and finish, and the result


@pytest.fixture(name="model", scope="module")
def model_fixture(tmp_path_factory):
    """In two shards, each of which is one chunk."""
    return make_model(tmp_path_factory.mktemp("interleaved") / "model", layers=SHARDS, hidden=128,
                      intermediate=256, vocab=64, heads=2, kv_heads=1, layers_per_shard=1)


@pytest.fixture(name="whole", scope="module")
def whole_fixture(linchpin, model, tmp_path_factory):
    out = tmp_path_factory.mktemp("whole") / "out"
    linchpin("compress", model, out, "--detection", "off", "--scale", "minmax")
    return out


@pytest.fixture(name="server")
def server_fixture(start_server):
    return start_server("--slots", "1", "--threads", "1")


def messages(model):
    return [OPTIONS, *list(parts_of(model))[1:]]


def received(answers, place):
    """The files that came back, each held against its announcement."""
    name, data = None, b""
    for answer in answers:
        part = answer.WhichOneof("part")
        if part == "file":
            name, size, data = answer.file.name, answer.file.size, b""
        elif part == "chunk":
            data += answer.chunk.data
        elif part == "end":
            assert len(data) == size
            (place / name).write_bytes(data)
    return place


def check_honest(client, server, model, whole, place):
    """The slot is free and nothing is held; the next caller notices nothing."""
    await_that(lambda: server.metrics()['linchpin_jobs_in_progress{kind="artifact"}'] == 0)
    assert server.metrics()["linchpin_admission_reserved_bytes"] == 0
    place.mkdir()
    answers = [answer for answer in client.upload(messages(model))
               if answer.WhichOneof("part") != "progress"]
    assert len(answers) == ANSWERED
    assert digests(received(answers, place)) == digests(whole)


def until(count, model, stop):
    """The first messages of an upload, then nothing, and no end, until `stop` is set."""
    yield from messages(model)[:count]
    await_that(stop)


def taken(server):
    """The calls that the server has taken, and those of them that have ended."""
    counts = server.metrics()
    return [sum(value for name, value in counts.items()
                if name.startswith(f"grpc_server_{what}_total") and "CompressArtifact" in name)
            for what in ("started", "handled")]


def test_a_caller_that_goes_away_while_it_sends(server, model, whole, tmp_path):
    with ForeignClient(server.endpoint) as client:
        for count in range(SENT):
            gone = []
            before = taken(server)[0]
            call = client.upload(until(count, model, lambda gone=gone: gone))
            await_that(lambda before=before: taken(server)[0] > before)
            call.cancel()
            gone.append(True)
            await_that(lambda: len(set(taken(server))) == 1, "the end of the call")
            if count % 5 == 0:
                check_honest(client, server, model, whole, tmp_path / f"{count}")


def test_a_caller_that_ends_its_stream_early(server, model, whole, tmp_path):
    with ForeignClient(server.endpoint) as client:
        for count in range(SENT):
            with pytest.raises(grpc.RpcError) as refused:
                list(client.upload(messages(model)[:count]))
            assert reason_of(refused.value) == "STREAM_INVALID", count
            if count % 5 == 0:
                check_honest(client, server, model, whole, tmp_path / f"{count}")


def test_a_caller_that_goes_away_while_it_is_answered(server, model, whole, tmp_path):
    with ForeignClient(server.endpoint) as client:
        for count in range(1, ANSWERED):
            call = client.upload(messages(model), timeout=PATIENCE)
            files = (answer for answer in call if answer.WhichOneof("part") != "progress")
            for _ in range(count):
                next(files)
            call.cancel()
            await_that(lambda: len(set(taken(server))) == 1, "the end of the call")
            if count % 5 == 0:
                check_honest(client, server, model, whole, tmp_path / f"{count}")


def test_a_caller_that_sends_after_its_finish_is_not_heard(server, model, whole, tmp_path):
    """What it asked for is done."""
    with ForeignClient(server.endpoint) as client:
        answers = [answer for answer in client.upload([*messages(model), *messages(model)])
                   if answer.WhichOneof("part") != "progress"]
        assert answers[-1].HasField("result")
        (tmp_path / "first").mkdir()
        assert digests(received(answers, tmp_path / "first")) == digests(whole)
        check_honest(client, server, model, whole, tmp_path / "second")
