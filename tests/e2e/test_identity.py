"""Who is let in: every method that reflection lists, with tokens that another library signs."""

import json
import pathlib
import time

import grpc
import pytest
from google.protobuf import descriptor_pool
from grpc_health.v1 import health_pb2
from grpc_reflection.v1alpha.proto_reflection_descriptor_database import (
    ProtoReflectionDescriptorDatabase)
from joserfc import jwt
from joserfc.jwk import ECKey, KeySet, RSAKey

from conftest import CommandLine
from support.foreign_client import reason_of
from support.patience import PATIENCE

OURS = "linchpin.v1.CompressionService"
HEALTH = "grpc.health.v1.Health"
# What must turn up nowhere.
SECRETS = ("PLANTED-SIGNATURE", "PLANTED-HEADER", "PLANTED-PASSWORD")


@pytest.fixture(name="keys", scope="module")
def keys_fixture():
    """Private keys by algorithm."""
    return {"RS256": RSAKey.generate_key(2048, parameters={"kid": "rsa", "use": "sig"}),
            "ES256": ECKey.generate_key("P-256", parameters={"kid": "ec", "use": "sig"})}


@pytest.fixture(name="token", scope="module")
def token_fixture(keys):
    """token(subject, algorithm="ES256", key=None, **claims): a signed token."""
    def make(subject, algorithm="ES256", key=None, **claims):
        body = {"iss": "https://issuer.example.org", "aud": "linchpin", "sub": subject,
                "exp": int(time.time()) + 600, **claims}
        key = key or keys[algorithm]
        return jwt.encode({"alg": algorithm, "kid": key.kid}, body, key)
    return make


@pytest.fixture(name="server")
def server_fixture(start_server, keys, tmp_path, linchpin):
    """Asks for tokens: `admin` may do everything, `reader` verify below /read, others nothing."""
    read, write = tmp_path / "read", tmp_path / "write"
    read.mkdir()
    write.mkdir()
    linchpin("demo-model", read / "model")
    (tmp_path / "keys.json").write_text(json.dumps(
        KeySet(list(keys.values())).as_dict(private=False)))
    (tmp_path / "policy.json").write_text(json.dumps({"identities": {
        "token:admin": {},
        "token:reader": {"rpcs": ["DetectSuperWeights"], "sources": [str(read / "model")]},
        "token:nobody": {"rpcs": []}}}))
    return start_server("--read-root", read, "--write-root", write,
                        "--token-keys", tmp_path / "keys.json",
                        "--token-issuer", "https://issuer.example.org",
                        "--token-audience", "linchpin", "--policy", tmp_path / "policy.json")


def bearer(token):
    return (("authorization", f"Bearer {token}"),)


class WithToken(grpc.UnaryUnaryClientInterceptor, grpc.StreamStreamClientInterceptor):
    """Sends a token with every call: the reflection client takes no metadata."""

    def __init__(self, token):
        self.token = token

    def _details(self, details):
        details = details._asdict() if hasattr(details, "_asdict") else vars(details)
        return type("Details", (grpc.ClientCallDetails,), {
            "method": details["method"], "timeout": details.get("timeout"),
            "metadata": bearer(self.token), "credentials": None, "wait_for_ready": None,
            "compression": None})()

    def intercept_unary_unary(self, continuation, client_call_details, request):
        return continuation(self._details(client_call_details), request)

    def intercept_stream_stream(self, continuation, client_call_details, request_iterator):
        return continuation(self._details(client_call_details), request_iterator)


def all_methods(channel, token):
    """Every method that the server says it has, as descriptors."""
    database = ProtoReflectionDescriptorDatabase(
        grpc.intercept_channel(channel, WithToken(token)))
    pool = descriptor_pool.DescriptorPool(database)
    # gRPC's own health service is listed but not described.
    described = {HEALTH: health_pb2.DESCRIPTOR.services_by_name["Health"]}
    return [method for service in database.get_services()
            for method in (described.get(service) or pool.FindServiceByName(service)).methods]


def outcome_of(channel, method, metadata):
    """(status, reason) of a call with one empty message."""
    path = f"/{method.containing_service.full_name}/{method.name}"
    requests = iter([b""]) if method.client_streaming else b""
    kind = (("stream" if method.client_streaming else "unary") + "_"
            + ("stream" if method.server_streaming else "unary"))
    try:
        call = getattr(channel, kind)(path)(requests, metadata=metadata, timeout=PATIENCE)
        if method.server_streaming:
            next(iter(call), None)
            call.cancel()
        return grpc.StatusCode.OK, None
    except grpc.RpcError as error:
        return error.code(), reason_of(error)


def test_no_method_answers_without_the_right_identity(server, token):
    with grpc.insecure_channel(server.endpoint) as channel:
        methods = all_methods(channel, token("admin"))
        names = {f"{m.containing_service.full_name}/{m.name}" for m in methods}
        assert {f"{OURS}/CompressModel", f"{OURS}/CompressArtifact", f"{HEALTH}/Check"} <= names
        assert any("ServerReflection" in name for name in names)
        for method in methods:
            service = method.containing_service.full_name
            for metadata in (None, bearer("none"), bearer(token("admin") + "x")):
                code, reason = outcome_of(channel, method, metadata)
                refused = code == grpc.StatusCode.UNAUTHENTICATED
                assert refused == (service != HEALTH), method.full_name
                # What other services refuse ends within gRPC, which takes no details.
                assert service != OURS or reason == "UNAUTHENTICATED", method.full_name
            for subject in ("nobody", "stranger"):
                if service == OURS:
                    assert outcome_of(channel, method, bearer(token(subject))) == (
                        grpc.StatusCode.PERMISSION_DENIED, "POLICY_REFUSED"), method.full_name


@pytest.mark.parametrize("algorithm", ["RS256", "ES256"])
def test_tokens_of_another_library_are_understood(server, token, tmp_path, algorithm):
    (tmp_path / "token").write_text(token("admin", algorithm) + "\n")
    linchpin = CommandLine("--quiet", "--endpoint", server.endpoint,
                           "--token-file", tmp_path / "token")
    assert linchpin("capabilities").out


def test_tokens_that_do_not_hold_are_refused(server, token, tmp_path):
    stranger = ECKey.generate_key("P-256", parameters={"kid": "ec"})
    now = int(time.time())
    wrong = {"expired": token("admin", exp=now - 600), "early": token("admin", nbf=now + 600),
             "issuer": token("admin", iss="https://other.example.org"),
             "audience": token("admin", aud="other"), "key": token("admin", key=stranger)}
    for name, text in wrong.items():
        (tmp_path / "token").write_text(text)
        finished = CommandLine("--quiet", "--endpoint", server.endpoint, "--token-file",
                               tmp_path / "token").run("capabilities")
        assert finished.code == 42, name
        assert finished.error.endswith("[UNAUTHENTICATED]"), finished.error
        assert text not in finished.err


def test_a_caller_stays_within_its_policy(server, token, tmp_path):
    (tmp_path / "token").write_text(token("reader"))
    linchpin = CommandLine("--quiet", "--endpoint", server.endpoint, "--token-file",
                           tmp_path / "token")
    assert linchpin("detect", tmp_path / "read/model").out
    assert linchpin.run("verify", tmp_path / "read/model").error.endswith("[POLICY_REFUSED]")
    (tmp_path / "read/other").mkdir()
    for path in ("read/other", "read/model/../other", "read/absent"):
        finished = linchpin.run("detect", tmp_path / path)
        assert finished.code == 42 and finished.error.endswith("[PATH_NOT_ALLOWED]")


def test_every_job_leaves_one_line_and_no_secret(server, token, tmp_path):
    secret_token = token("admin")
    (tmp_path / "token").write_text(secret_token)
    linchpin = CommandLine("--quiet", "--endpoint", server.endpoint, "--token-file",
                           tmp_path / "token")
    linchpin("compress", tmp_path / "read/model", tmp_path / "write/out")
    said = []
    for source in (f"/read/{SECRETS[2]}", f"https://user:{SECRETS[2]}@example.org/model",
                   f"s3://bucket/model?X-Amz-Signature={SECRETS[0]}"):
        finished = linchpin.run("detect", source)
        assert finished.code != 0
        if "?" in source or "@" in source:
            said.append(finished.err)
    with grpc.insecure_channel(server.endpoint) as channel:
        with pytest.raises(grpc.RpcError) as raised:
            channel.unary_unary(f"/{OURS}/PlanCompression")(
                b"", metadata=bearer(secret_token) + (("x-api-key", SECRETS[1]), (
                    "traceparent", "00-0123456789abcdef0123456789abcdef-0123456789abcdef-01")))
        said.append(str(raised.value))
    server.stop()
    log = next(tmp_path.glob("server-*.log")).read_text()
    jobs = [json.loads(line[line.index("{"):]) for line in log.splitlines() if '{"job"' in line]
    assert [job["job"] for job in jobs] == ["compress", "detect", "detect", "detect", "plan"]
    assert {job["caller"] for job in jobs} == {"token:admin"}
    assert jobs[0]["result"] == "ok" and jobs[-1]["result"] == "failed"
    assert jobs[-1]["trace"] == "0123456789abcdef0123456789abcdef"
    written = [path.read_text() for path in pathlib.Path(tmp_path / "write/out").glob("*.json")]
    assert len(written) >= 2
    for text in (log, *said, *written):
        for secret in (*SECRETS, secret_token):
            assert secret not in text
