"""Every path that a call can name, against a policy that gives all but this one: refused before it is touched.

The fields come from the .proto files: a new one must be told here to be a path or none.  The server, its engine
and its stores, a local one and S3, are real.
"""

import hashlib
import json
import pathlib
import shutil
import time
import urllib.parse

import grpc
import pytest
from joserfc import jwt
from joserfc.jwk import ECKey, KeySet

from conftest import Server
from support.foreign_client import CHUNK, reason_of
from support.gated_store import CREDENTIALS
from support.gguf_models import write_gguf
from support.patience import PATIENCE
from support.service_description import (SERVICE, enum_value, message_class, methods, name_of, part_of,
                                         text_fields)
from support.watched_files import WatchedFiles

# Fields that are paths, and the list of a policy that must have them.
PATHS = {
    "PlanCompressionRequest.source": "sources",
    "PlanCompressionRequest.destination": "destinations",
    "DetectSuperWeightsRequest.source": "sources",
    "EvaluateCompressionRequest.source": "sources",
    "EvaluateCompressionRequest.against": "sources",
    "CompressModelRequest.source": "sources",
    "CompressModelRequest.destination": "destinations",
    "CompressionJob.source": "sources",
    "CompressionJob.destination": "destinations",
    "QuantizationOptions.gguf_donor": "sources",
    "VerifyArtifactRequest.directory": "sources",
    "CreateDemoModelRequest.destination": "destinations",
}
# Texts that reach nothing: names within an upload among them (artifact_upload_test.cc), which lies where no
# caller's path leads.
NO_PATHS = {
    "TokenSource.text", "QuantizationOptions.ignore", "QuantizationOptions.include",
    "DetectionOptions.ThresholdsEntry.key", "Analyses.ThresholdsEntry.key", "CompressionJob.detection_json",
    "CompressionJob.job_key", "CompressionJob.importance_sha256", "FileHeader.name", "FileChunk.data",
    "FileEnd.sha256",
}
# What a call needs beside its paths.  Without a detection there is no forward pass.
SKIP = {"detection": {"skip": True}}
BESIDES = {
    "PlanCompression": SKIP, "CompressModel": SKIP, "CompressArtifact": {"options": SKIP},
    "EvaluateCompression": {"tokens": {"sequences": [{"ids": [1, 2, 3, 4]}]}},
    "PrepareCompression": {"job": SKIP}, "CompressShard": {"job": SKIP}, "FinalizeCompression": {"job": SKIP},
}
# The calls of a compression in parts, in their order.
PARTS = ("PrepareCompression", "CompressShard", "FinalizeCompression")


def paths_of(method):
    """{path of a field: field} of those that are paths."""
    return {path: field for path, field in text_fields(methods()[method].input_type) if name_of(field) in PATHS}


CASES = [(method, path) for method in methods() for path in paths_of(method)]


def test_every_text_that_a_call_takes_is_known():
    """As a path, which is tested below, or as none."""
    taken = {name_of(field) for method in methods().values() for _, field in text_fields(method.input_type)}
    assert taken == PATHS.keys() | NO_PATHS
    assert len(CASES) == 21
    assert {method for method, _ in CASES} == methods().keys() - {"GetCapabilities"}


class LocalPlace:
    """A folder of a server's root per role that a path may have."""

    def __init__(self, root):
        self.root = str(root)
        self._watch = None

    def put(self, role, directory):
        shutil.copytree(directory, f"{self.root}/{role}/there")

    def make_folder(self, name):
        pathlib.Path(self.root, name).mkdir()

    def content(self, role):
        """The names of all that lies there."""
        return sorted(str(path) for path in pathlib.Path(self.root, role).rglob("*"))

    def begin(self, role):
        """From here on it is watched what is opened, read or changed there."""
        self.end()
        self._watch = WatchedFiles(f"{self.root}/{role}")

    def touched(self):
        return self._watch.touched()

    def end(self):
        if self._watch is not None:
            self._watch.close()
        self._watch = None


class ObjectPlace:
    """The same below a key of an object store behind a gate."""

    def __init__(self, store):
        self.root = "s3://models/policy"
        self._store = store
        self._role = None

    def put(self, role, directory):
        self._store.put(f"policy/{role}/there", directory)

    def make_folder(self, name):
        """Keys need none."""

    def content(self, role):
        return sorted(self._store.objects(f"policy/{role}"))

    def begin(self, role):
        self._role = role
        self._store.gate.forget()

    def touched(self):
        """The requests that name what lies there."""
        return [f"{request.method} {request.path}" for request in self._store.gate.requests
                if f"policy/{self._role}" in urllib.parse.unquote(request.path)]

    def end(self):
        """Nothing to be closed."""


ROLES = {"source": "sources", "against": "sources", "gguf_donor": "sources", "directory": "sources",
         "destination": "destinations"}


def grant_of(place, refused=None):
    """Every role's place, for what is done there.  A refused one may still be used in the other way, and a
    place may be used whose name is how it begins."""
    grant = {"sources": [], "destinations": []}
    for role, kind in ROLES.items():
        where = f"{place.root}/{role}"
        if role != refused:
            grant[kind].append(where)
            continue
        grant[kind].append(where[:-1])
        grant["sources" if kind == "destinations" else "destinations"].append(where)
    return grant


class Callers:
    """Calls a server under the names that its policy knows."""

    def __init__(self, endpoint, key, model):
        self._key = key
        self._model = model
        self._channel = grpc.insecure_channel(endpoint)

    def close(self):
        self._channel.close()

    def _token(self, subject):
        claims = {"iss": "issuer", "aud": "linchpin", "sub": subject, "exp": int(time.time()) + 600}
        return jwt.encode({"alg": "ES256", "kid": self._key.kid}, claims, self._key)

    def call(self, subject, method, request):
        """(None, the last answer), or (reason, message)."""
        described = methods()[method]
        kind = (("stream" if described.client_streaming else "unary") + "_"
                + ("stream" if described.server_streaming else "unary"))
        send = getattr(self._channel, kind)(
            f"/{SERVICE}/{method}", message_class(described.input_type).SerializeToString,
            message_class(described.output_type).FromString)
        sent = self._upload(request) if described.client_streaming else request
        try:
            answer = send(sent, metadata=[("authorization", f"Bearer {self._token(subject)}")], timeout=PATIENCE)
            return None, list(answer)[-1] if described.server_streaming else answer
        except grpc.RpcError as error:
            return reason_of(error), error.details()

    def _upload(self, options):
        """The messages of an upload of a model with these options."""
        message = type(options)
        yield options
        for path in sorted(self._model.iterdir()):
            data = path.read_bytes()
            yield message(file={"name": path.name, "size": len(data)})
            for offset in range(0, len(data), CHUNK):
                yield message(chunk={"offset": offset, "data": data[offset:offset + CHUNK]})
            yield message(end={"sha256": hashlib.sha256(data).hexdigest()})
        yield message(finish={})


@pytest.fixture(name="model", scope="module")
def model_fixture(tmp_path_factory, shared):
    """A checkpoint of 700 KB, and nothing besides."""
    folder = tmp_path_factory.mktemp("model")
    for name in ("config.json", "model.safetensors"):
        shutil.copyfile(shared / "oracles/families/llama" / name, folder / name)
    return folder


@pytest.fixture(name="places", scope="module")
def places_fixture(tmp_path_factory, gated_store, model, compressed):
    """{name: place}, each with models, an artifact and a donor."""
    folder = tmp_path_factory.mktemp("policy")
    artifact = compressed(model, "--detection", "off")
    donor = folder / "donor"
    donor.mkdir()
    write_gguf(model, donor / "model.gguf")
    places = {"local": LocalPlace(folder / "root"), "s3": ObjectPlace(gated_store)}
    for place in places.values():
        for role, directory in (("source", model), ("against", model), ("gguf_donor", donor),
                                ("directory", artifact), ("destination", model)):
            place.put(role, directory)
    return places


@pytest.fixture(name="callers", scope="module")
def callers_fixture(tmp_path_factory, gated_store, places, model):
    """A server that lets everybody reach all places, but for its policy."""
    folder = tmp_path_factory.mktemp("server")
    key = ECKey.generate_key("P-256", parameters={"kid": "key", "use": "sig"})
    (folder / "keys.json").write_text(json.dumps(KeySet([key]).as_dict(private=False)))
    grants = {f"token:{name}-{refused or 'whole'}": grant_of(place, refused)
              for name, place in places.items() for refused in (None, *ROLES)}
    grants |= {f"token:{name}-exact": grant_of(place) | {"destinations": [f"{place.root}/destination/exact"]}
               for name, place in places.items()}
    (folder / "policy.json").write_text(json.dumps({"identities": grants}))
    with pytest.MonkeyPatch.context() as environment:
        for name, value in CREDENTIALS.items():
            environment.setenv(name, value)
        root = places["local"].root
        server = Server(folder / "log", "--read-root", root, "--write-root", root,
                        *gated_store.options("s3://models/policy"), "--policy", folder / "policy.json",
                        "--token-keys", folder / "keys.json", "--token-issuer", "issuer",
                        "--token-audience", "linchpin")
    callers = Callers(server.endpoint, key, model)
    yield callers
    callers.close()
    assert server.stop() == 0


@pytest.fixture(name="place", params=["local", "s3"])
def place_fixture(request, places):
    """(its name, the place)."""
    yield request.param, places[request.param]
    places[request.param].end()


def request_of(method, place, output, donor):
    """A call that names all it can; a donor only where it is asked for."""
    request = message_class(methods()[method].input_type)(**BESIDES.get(method, {}))
    for path, field in paths_of(method).items():
        part, name = part_of(request, path)
        if field.name == "gguf_donor":
            if donor:
                part.gguf_donor = f"{place.root}/gguf_donor/there/model.gguf"
                part.format = enum_value("OutputFormat", "OUTPUT_FORMAT_GGUF")
                part.scheme = enum_value("Scheme", "SCHEME_Q8_0")
        else:
            entry = output if field.name == "destination" else "there"
            setattr(part, name, f"{place.root}/{field.name}/{entry}")
    return request


def plan(callers, subject, job):
    """Gives a job the key that a plan of the same has."""
    request = message_class(methods()["PlanCompression"].input_type)(
        source=job.source, quantization=job.quantization, detection=job.detection)
    reason, answer = callers.call(subject, "PlanCompression", request)
    assert reason is None, answer
    job.job_key = answer.job_key


@pytest.mark.parametrize("method, path", CASES, ids=[f"{method}-{path}" for method, path in CASES])
def test_a_path_that_the_policy_does_not_give_is_refused_untouched(callers, place, method, path):
    """Whether something is there or not; with that one path given as well, the same call is served."""
    name, place = place
    field = paths_of(method)[path]
    role, output = field.name, f"{method}-{path}/out"  # parts of all jobs of a folder lie together
    place.make_folder(f"destination/{method}-{path}")
    whole, less = f"{name}-whole", f"{name}-{role}"
    request = request_of(method, place, output, donor=role == "gguf_donor")
    if method in PARTS:
        plan(callers, whole, request.job)
    if method in PARTS and role != "gguf_donor":
        for earlier in PARTS[:PARTS.index(method)]:
            before = message_class(methods()[earlier].input_type)(job=request.job)
            assert callers.call(whole, earlier, before)[0] is None, earlier

    content = place.content("destination")
    place.begin(role)
    refusal = callers.call(less, method, request)
    assert refusal[0] == "PATH_NOT_ALLOWED", refusal
    other = type(request).FromString(request.SerializeToString())
    part, last = part_of(other, path)
    setattr(part, last, f"{place.root}/{role}/{'there' if role == 'destination' else 'absent'}")
    assert callers.call(less, method, other) == refusal
    assert place.touched() == []
    assert place.content("destination") == content

    reason, answer = callers.call(whole, method, request)
    in_parts = method in PARTS and role == "gguf_donor"  # which are not built
    assert reason == ("FEATURE_UNSUPPORTED" if in_parts else None), answer
    assert place.touched() != []
    if role == "destination":
        assert (place.content("destination") != content) == (method != "PlanCompression")


@pytest.mark.parametrize("method", PARTS)
def test_a_destination_without_what_stands_beside_it_is_no_place_for_parts(callers, place, method):
    """They are kept beside it until they are put together."""
    name, place = place
    request = request_of(method, place, "exact", donor=False)
    plan(callers, f"{name}-whole", request.job)
    content = place.content("destination")
    place.begin("destination")
    reason, message = callers.call(f"{name}-exact", method, request)
    assert reason == "PATH_NOT_ALLOWED", message
    assert place.touched() == []
    assert place.content("destination") == content
