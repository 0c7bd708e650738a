"""Random sequences of the calls of a compression in parts, held call by call against a small model of them.

Servers are killed and calls cancelled in the middle, answers are lost, sources and options change, two jobs
want one destination.  LINCHPIN_SEQUENCES sets how many sequences (default 8); each is made from its number
alone.  One that fails is cut down to the steps that it takes and printed.
"""

import copy
import itertools
import json
import os
import random
import shutil
import time

import grpc
import pytest

from conftest import Server
from e2e.job_model import OPTIONS, PLACES, SHARDS, SOURCES, Job, Model, draw, is_drawn, shrunk
from support.directories import digests
from support.foreign_client import SERVICE, ForeignClient, reason_of
from support.patience import PATIENCE, await_that
from support.synthetic_model import make_model

SEQUENCES = int(os.environ.get("LINCHPIN_SEQUENCES", "8"))
STEPS = 40
REQUESTS = {
    "importance": {},
    "dense": {"quantization": {"format": "OUTPUT_FORMAT_DENSE", "scale": "SCALE_RULE_MINMAX"}},
    "off": {"detection": {"skip": True}, "quantization": {"scale": "SCALE_RULE_MINMAX"}}}
COMMAND_LINE = {"importance": [], "dense": ["--format", "dense", "--scale", "minmax"],
                "off": ["--detection", "off", "--scale", "minmax"]}
METHODS = {"plan": "PlanCompression", "prepare": "PrepareCompression", "shard": "CompressShard",
           "finalize": "FinalizeCompression", "compress": "CompressModel", "verify": "VerifyArtifact"}


def other_bytes(source, path):
    """A copy of a model whose second shard ends in another weight, where every key of a job looks."""
    shutil.copytree(source, path)
    with open(path / f"model-00002-of-0000{SHARDS}.safetensors", "r+b") as shard:
        shard.seek(-2, 2)
        shard.write(b"\x80\x3e")  # 0.25


@pytest.fixture(name="truth", scope="module")
def truth_fixture(linchpin, tmp_path_factory):
    """(directory of the sources, {(options, source): (directory that one process writes, key of the job)})."""
    top = tmp_path_factory.mktemp("truth")
    (top / "a").mkdir()
    make_model(top / "a/model", layers=SHARDS, hidden=128, intermediate=256, vocab=64, heads=2,
               kv_heads=1, layers_per_shard=1)
    (top / "b").mkdir()
    other_bytes(top / "a/model", top / "b/model")
    made = {}
    server = Server(top / "log", "--read-root", top)
    with ForeignClient(server.endpoint) as client:
        for options, source in itertools.product(OPTIONS, SOURCES):
            model, out = top / source / "model", top / f"{options}-{source}"
            linchpin("compress", model, out, *COMMAND_LINE[options])
            plan = client.call("PlanCompression", source=str(model), **REQUESTS[options])
            made[options, source] = out, plan.job_key
    server.stop()
    assert len({key for _, key in made.values()}) == len(made)
    assert len({json.dumps(digests(out)) for out, _ in made.values()}) == len(made)
    return top, made


class World:
    """A source, two destinations and a server, which is another one after each kill."""

    def __init__(self, top, truth):
        self.top, (self.sources, self.truth) = top, truth
        self.digests = {which: digests(out) for which, (out, _) in self.truth.items()}
        self.keys = {key: which for which, (_, key) in self.truth.items()}
        self.prepared = {}  # (options, source): what PrepareCompression said first
        self.server = self.client = None
        self.starts = 0

    def start(self):
        self.starts += 1
        self.server = Server(self.top / f"log-{self.starts}", "--read-root", self.top, "--write-root",
                             self.top, "--drain-seconds", "0", "--threads", "1")
        self.client = ForeignClient(self.server.endpoint)

    def end(self, how):
        """The server, at once or as soon as it can."""
        self.client.channel.close()
        if how == "kill":
            self.server.process.kill()
            self.server.process.wait()
        else:
            assert self.server.stop() == 0
        self.server = None

    def begin(self, name):
        """A place of its own for a sequence."""
        if self.server is None:
            self.start()
        self.place = self.top / name
        self.place.mkdir()
        self.set_source("a")

    def set_source(self, which):
        """By other files of the same names, as a download does it."""
        model = self.place / "model"
        if which == "touch":
            for path in model.iterdir():
                path.write_bytes(path.read_bytes())
            return
        shutil.rmtree(model, ignore_errors=True)
        shutil.copytree(self.sources / which / "model", model)

    def fields(self, model, step):
        """Those of a request."""
        name, place, *rest = step
        destination = str(self.place / place)
        if name == "verify":
            return {"directory": destination}
        ends = {"source": str(self.place / "model"), "destination": destination}
        if name in ("plan", "compress"):
            return ends | REQUESTS[rest[0]] | ({"overwrite": rest[1]} if name == "compress" else {})
        options, job = rest[0], model.jobs[place, rest[0]]
        which = options, job.source
        fields = ends | REQUESTS[options] | {"job_key": self.truth[which][1]}
        if job.prepared and name != "prepare":
            fields |= self.prepared[which]
        return {"job": fields} | ({"index": rest[1]} if name == "shard" else {}) | (
            {"overwrite": rest[1]} if name == "finalize" else {})

    def ask(self, name, **fields):
        """The answer: a message, or the reason of an error."""
        try:
            return self.client.call(METHODS[name], **fields)
        except grpc.RpcError as error:
            return reason_of(error) or str(error)

    def check_answer(self, expected, answer):
        """Against what the model says in its own words."""
        if expected == "matches":
            assert answer.matches and not answer.mismatches, answer
        elif isinstance(expected, str):
            assert answer == expected
        else:
            assert not isinstance(answer, str), (expected, answer)
            what, *which = expected
            which, rest = tuple(which[:2]), which[2:]
            assert answer.job_key == self.truth[which][1]
            manifest = (self.truth[which][0] / "linchpin.json").read_text(encoding="utf-8")
            if what == "planned":
                assert len(answer.shards) == SHARDS
            elif what == "prepared":
                self.check_prepared(which, answer, json.loads(manifest))
            elif what == "shard":
                index, skipped = rest
                file = f"model-0000{index + 1}-of-0000{SHARDS}.safetensors"
                assert answer.skipped == skipped and answer.sha256 == self.digests[which][file]
            else:
                assert answer.manifest_json == manifest

    def check_prepared(self, which, answer, manifest):
        said = {"detection_json": answer.detection_json,
                "importance_sha256": answer.importance_sha256}
        assert self.prepared.setdefault(which, said) == said
        found = json.loads(answer.detection_json) if answer.detection_json else None
        assert found == manifest["detection"]
        assert bool(answer.importance_sha256) == (which[0] == "importance")

    def stands(self):
        """(outputs, parts) as the model has them, of what lies in the place."""
        outputs, parts = {}, {}
        for path in self.place.iterdir():
            name, _, part = path.name.partition(".shard-")
            if path.name.startswith(".") or name not in PLACES:
                continue
            if not part:
                found = digests(path)
                which = [which for which, files in self.digests.items() if files == found]
                assert which, f"{path.name} is no output of a single process: {sorted(found)}"
                outputs[name] = which[0]
                continue
            key, part = part.split("-")
            (which,) = [which for full, which in self.keys.items() if full.startswith(key)]
            parts.setdefault((name, *which), set()).add(int(part) if part.isdigit() else part)
        return outputs, parts

    def part(self, model, place, options, index):
        key = self.truth[options, model.jobs[place, options].source][1]
        return self.place / f"{place}.shard-{key[:12]}-{index:05}"

    def cut(self, model, how, delay, step):
        """A call that is given up, or its server ended, in its middle or before or after."""
        function, request = self.client.method(METHODS[step[0]])

        def count(what):
            return sum(value for name, value in self.server.metrics().items()
                       if name.startswith(f"grpc_server_{what}_total") and SERVICE in name)
        before = count("started")
        call = function(request(**self.fields(model, step)), timeout=PATIENCE)
        if how == "cancel":  # or nobody knew when a call that never arrived has ended
            await_that(lambda: count("started") > before)
        time.sleep(delay)  # to be somewhere in the call: any place is right
        if how == "cancel":
            call.cancel()
            await_that(lambda: count("handled") == count("started"))
        else:
            self.end(how)
            self.start()


def settle(model, after, world):
    """What stands after a call that was cut: what stood before, or what it makes, or some of its parts."""
    outputs, parts = world.stands()
    assert outputs in (model.outputs, after.outputs), outputs
    for which in model.parts.keys() | after.parts.keys() | parts.keys():
        was, becomes = model.parts.get(which, {}), after.parts.get(which, {})
        names = parts.get(which, set())
        assert was.keys() & becomes.keys() <= names <= was.keys() | becomes.keys(), (which, names)
        model.parts[which] = {name: was.get(name, True) for name in names}
    model.outputs = outputs


def check_place(model, world):
    outputs, parts = world.stands()
    assert outputs == model.outputs
    assert parts == {which: set(names) for which, names in model.parts.items() if names}


def take(model, world, step):
    """One step, in the world and in the model."""
    name, *arguments = step
    if name == "source":
        world.set_source(arguments[0])
        model.source = arguments[0] if arguments[0] in SOURCES else model.source
    elif name == "remove":
        shutil.rmtree(world.place / arguments[0], ignore_errors=True)
        model.outputs.pop(arguments[0], None)
    elif name == "cut":
        how, delay, call = arguments
        after = copy.deepcopy(model)
        getattr(after, call[0])(*call[1:])
        world.cut(model, how, delay, call)
        settle(model, after, world)
    elif name == "changed":  # the same job by another's options
        fields = world.fields(model, ("shard", *arguments))
        job = {name: fields["job"][name] for name in ("source", "destination", "job_key")}
        job |= REQUESTS["off" if arguments[1] == "dense" else "dense"]
        assert world.ask("shard", job=job, index=arguments[2]) == "SOURCE_CHANGED"
    elif name in ("lose", "damage"):
        place, options, index = arguments
        parts = model.parts[place, options, model.jobs[place, options].source]
        if name == "lose":
            shutil.rmtree(world.part(model, *arguments))
            del parts[index]
        else:
            change_a_byte(world.part(model, *arguments))
            parts[index] = False
    else:
        answer = world.ask(name, **world.fields(model, step))
        world.check_answer(getattr(model, name)(*arguments), answer)
    check_place(model, world)


def change_a_byte(part):
    """Of the weights, at a place of which a sample is taken."""
    (weights,) = part.glob("*.safetensors")
    data = bytearray(weights.read_bytes())
    data[-1] ^= 1
    weights.write_bytes(data)


def finish(model, world):
    """Whatever has happened, a job that is begun anew comes to its end."""
    world.set_source("a")
    model.source = "a"
    for place, options in zip(PLACES, OPTIONS):
        model.jobs[place, options] = Job("a")
        parts = model.parts.setdefault((place, options, "a"), {})
        for index in parts.keys() & range(SHARDS):  # its bytes may have changed
            take(model, world, ("lose", place, options, index))
        steps = [("prepare", place, options), *(("shard", place, options, i) for i in range(SHARDS)),
                 ("finalize", place, options, True), ("verify", place)]
        for step in steps:
            if is_drawn(model, step):
                take(model, world, step)
        assert model.outputs[place] == (options, "a")


def play(world, steps, name, model=None):
    """The sequence, from nothing; an AssertionError says at which step it went wrong."""
    model = model or Model()
    world.begin(name)
    last = None
    for number, step in enumerate(steps):
        step = last if step[0] == "again" else step
        if step is None or not is_drawn(model, step):
            continue
        try:
            take(model, world, step)
        except AssertionError as error:
            raise AssertionError(f"step {number}, {step}: {error}") from error
        if step[0] in METHODS:
            last = step
    finish(model, world)


@pytest.fixture(name="world", scope="module")
def world_fixture(truth, tmp_path_factory):
    world = World(tmp_path_factory.mktemp("world"), truth)
    yield world
    if world.server is not None:
        world.end("term")


def failure(world, steps, name, make=Model):
    """What goes wrong, or nothing."""
    try:
        play(world, steps, name, make())
    except AssertionError as error:
        return str(error)
    return ""


@pytest.mark.parametrize("number", range(SEQUENCES))
def test_any_sequence_of_calls_is_answered_as_the_model_says(world, number):
    steps = draw(random.Random(number), STEPS)
    if not (said := failure(world, steps, f"{number}")):
        return
    tries = iter(range(10_000))
    fewest = shrunk(steps, lambda some: failure(world, some, f"{number}-{next(tries)}"))
    pytest.fail(f"{said}\nin the sequence {number}; as few steps as fail:\n"
                + "\n".join(map(str, fewest)))


class SourcesMayChange(Model):
    """Takes no notice of a source that changed."""

    def shard(self, place, options, index):
        source, self.source = self.source, self.jobs[place, options].source
        try:
            return super().shard(place, options, index)
        finally:
            self.source = source


class PartsStay(Model):
    """Removes nothing at the end."""

    def finalize(self, place, options, overwrite):
        parts = copy.deepcopy(self.parts)
        answer = super().finalize(place, options, overwrite)
        self.parts = parts
        return answer


class OutputsAreReplaced(Model):
    """As if overwrite were always given."""

    def finalize(self, place, options, overwrite):
        return super().finalize(place, options, True)


@pytest.mark.parametrize("wrong, number", [(SourcesMayChange, 1), (PartsStay, 0),
                                           (OutputsAreReplaced, 6)])
def test_a_server_that_did_otherwise_would_be_found(world, wrong, number):
    """By one of the sequences above: a model that is wrong differs from the server."""
    assert failure(world, draw(random.Random(number), STEPS), wrong.__name__, wrong)


def test_a_sequence_is_cut_down_to_what_fails():
    steps = draw(random.Random(1), STEPS)
    assert shrunk(steps, lambda some: steps[5] in some and steps[11] in some) == [steps[5], steps[11]]
