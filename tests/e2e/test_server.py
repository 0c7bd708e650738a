"""A server on its own: roots, metrics, TLS, admission, its end; and a client in another language."""

import os
import signal
import socket
import subprocess

import grpc
import pytest
from google.protobuf import descriptor_pool, message_factory
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha.proto_reflection_descriptor_database import (
    ProtoReflectionDescriptorDatabase)

from conftest import CommandLine, binaries
from support.gated_store import from_request
from support.patience import PATIENCE
from support.tls_files import Authority


def call(server, *options):
    return CommandLine("--quiet", "--endpoint", server.endpoint, *options)


@pytest.fixture(name="roots")
def roots_fixture(tmp_path):
    """(read root, write root), both empty."""
    for name in ("read", "write"):
        (tmp_path / name).mkdir()
    return tmp_path / "read", tmp_path / "write"


@pytest.fixture(name="server")
def server_fixture(start_server, roots, linchpin):
    """A server confined to its roots, with a demonstration model at read/model."""
    linchpin("demo-model", roots[0] / "model")
    return start_server("--read-root", roots[0], "--write-root", roots[1])


def test_job_through_an_endpoint_shows_in_the_metrics(server, roots):
    read, write = roots
    before = server.metrics()
    assert before['linchpin_jobs_total{kind="compress",result="ok"}'] == 0
    linchpin = call(server)
    linchpin("compress", read / "model", write / "out")
    linchpin("verify", write / "out")
    after = server.metrics()
    assert after['linchpin_jobs_total{kind="compress",result="ok"}'] == 1
    assert after["linchpin_super_weights_detected_total"] == 1
    assert after['linchpin_tensors_total{action="quantized"}'] > 0
    assert after['linchpin_tensors_total{action="preserved"}'] == 1
    assert after["linchpin_compression_ratio_count"] == 1
    assert after['linchpin_jobs_in_progress{kind="compress"}'] == 0
    assert after["linchpin_admission_reserved_bytes"] == 0
    assert any("linchpin_stage_seconds_count" in name and value > 0
               for name, value in after.items())
    assert not any(str(read) in name or "model.layers" in name for name in after)


def test_path_outside_the_roots_is_refused_and_not_described(server, roots, tmp_path):
    read, write = roots
    (tmp_path / "secret").mkdir()
    linchpin = call(server)
    there = linchpin.run("detect", tmp_path / "secret")
    absent = linchpin.run("detect", tmp_path / "absent")
    for finished in (there, absent):
        assert finished.code == 42
        assert finished.error.endswith("[PATH_NOT_ALLOWED]")
    assert there.error.replace("secret", "X") == absent.error.replace("absent", "X")
    for destination in (read / "out", tmp_path / "out", write / "../out"):
        finished = linchpin.run("compress", read / "model", destination)
        assert finished.code == 42, finished.err
        assert finished.error.endswith("[PATH_NOT_ALLOWED]")
    assert sorted(os.listdir(read)) == ["model"]
    assert os.listdir(write) == []


def test_link_out_of_a_root_is_refused(server, roots, demo_model):
    (roots[0] / "link").symlink_to(demo_model)
    finished = call(server).run("detect", roots[0] / "link")
    assert finished.code == 42
    assert finished.error.endswith("[PATH_NOT_ALLOWED]")


def test_upload_needs_no_root(start_server, demo_model, tmp_path):
    server = start_server()
    call(server)("compress", demo_model, tmp_path / "out", "--upload")
    assert (tmp_path / "out/linchpin.json").exists()
    assert call(server).run("detect", demo_model).error.endswith("[PATH_NOT_ALLOWED]")


def test_upload_above_the_limit_is_refused(start_server, demo_model, tmp_path):
    server = start_server("--max-artifact-bytes", "100000")
    finished = call(server).run("compress", demo_model, tmp_path / "out", "--upload")
    assert finished.code == 42
    assert finished.error.endswith("[EXCEEDS_SERVER_LIMIT]")
    assert not (tmp_path / "out").exists()


def test_full_server_says_come_again(start_server, store, demo_model):
    store.put("full/model", demo_model)
    store.gate.hold(from_request(0))
    server = start_server("--read-root", "/", "--slots", "1", *store.options("s3://models/full"))
    busy = call(server).start("detect", "s3://models/full/model")
    assert store.gate.await_held(or_ended=lambda: busy.poll() is not None)
    finished = call(server).run("detect", demo_model)
    store.gate.release()
    assert busy.wait(PATIENCE) == 0
    busy.communicate()
    assert finished.code == 75
    assert finished.error.endswith("[BUSY]")


def test_nobody_there_means_try_again(linchpin):
    with socket.socket() as silent:  # has the port and does not listen
        silent.bind(("127.0.0.1", 0))
        port = silent.getsockname()[1]
        finished = linchpin.run("--endpoint", f"127.0.0.1:{port}", "capabilities")
    assert finished.code == 75
    assert f"127.0.0.1:{port}" in finished.error


def test_sigterm_ends_the_server_in_order(start_server):
    server = start_server()
    assert call(server).run("capabilities").code == 0
    server.process.send_signal(signal.SIGTERM)
    assert server.process.wait(timeout=PATIENCE) == 0


def test_plaintext_is_for_this_machine_only():
    result = subprocess.run([str(binaries() / "linchpin-server"), "--listen", "0.0.0.0:0",
                             "--metrics", "off"], capture_output=True, text=True, timeout=PATIENCE,
                            check=False)
    assert result.returncode != 0
    assert "--tls-cert" in result.stderr


def test_metrics_port_in_use_is_a_message(start_server):
    server = start_server()
    result = subprocess.run([str(binaries() / "linchpin-server"), "--listen", "127.0.0.1:0",
                             "--metrics", server.metrics_address], capture_output=True, text=True,
                            timeout=PATIENCE, check=False)
    assert result.returncode == 1
    assert server.metrics_address in result.stderr


@pytest.fixture(name="authority", scope="module")
def authority_fixture(tmp_path_factory):
    return Authority(tmp_path_factory.mktemp("tls"))


@pytest.fixture(name="stranger", scope="module")
def stranger_fixture(tmp_path_factory):
    """An authority that the server knows nothing of."""
    return Authority(tmp_path_factory.mktemp("stranger"))


@pytest.fixture(name="own_certificate", scope="module")
def own_certificate_fixture(authority):
    """The server's options."""
    certificate, key = authority.sign("server")
    return ["--tls-cert", certificate, "--tls-key", key]


def test_tls_needs_the_right_roots(start_server, authority, stranger, own_certificate):
    server = start_server(*own_certificate)
    assert call(server, "--tls-ca", authority.certificate).run("capabilities").code == 0
    wrong = call(server, "--tls-ca", stranger.certificate).run("capabilities")
    assert wrong.code == 75
    assert "certificate verify failed" in wrong.error and wrong.error.endswith("[UNAVAILABLE]")
    assert call(server).run("capabilities").code == 75  # plaintext to a TLS port


def test_mutual_tls_needs_a_client_certificate(start_server, authority, stranger, own_certificate):
    server = start_server(*own_certificate, "--tls-client-ca", authority.certificate)

    def answered(certificate, key):
        return call(server, "--tls-ca", authority.certificate, "--tls-cert", certificate, "--tls-key",
                    key).run("capabilities").code

    assert answered(*authority.sign("client")) == 0
    assert answered(*authority.sign("former", days=-1)) == 75
    assert answered(*stranger.sign("unknown")) == 75
    assert call(server, "--tls-ca", authority.certificate).run("capabilities").code == 75


@pytest.fixture(name="foreign")
def foreign_fixture(server):
    """What a client that has no .proto file learns by reflection: (channel, message class by name)."""
    with grpc.insecure_channel(server.endpoint) as channel:
        pool = descriptor_pool.DescriptorPool(ProtoReflectionDescriptorDatabase(channel))

        def message(name):
            return message_factory.GetMessageClass(
                pool.FindMessageTypeByName(f"linchpin.v1.{name}"))

        yield channel, message


def test_reflection_lists_the_services(server):
    with grpc.insecure_channel(server.endpoint) as channel:
        services = set(ProtoReflectionDescriptorDatabase(channel).get_services())
    assert {"linchpin.v1.CompressionService", "grpc.health.v1.Health"} <= services


def test_foreign_client_asks_what_the_server_can_do(foreign):
    channel, message = foreign
    method = channel.unary_unary(
        "/linchpin.v1.CompressionService/GetCapabilities",
        request_serializer=message("GetCapabilitiesRequest").SerializeToString,
        response_deserializer=message("GetCapabilitiesResponse").FromString)
    assert "llama" in method(message("GetCapabilitiesRequest")()).families


def test_foreign_client_finds_super_weights(foreign, roots, linchpin):
    channel, message = foreign
    method = channel.unary_stream(
        "/linchpin.v1.CompressionService/DetectSuperWeights",
        request_serializer=message("DetectSuperWeightsRequest").SerializeToString,
        response_deserializer=message("DetectSuperWeightsResponse").FromString)
    request = message("DetectSuperWeightsRequest")(source=str(roots[0] / "model"))
    *progress, last = list(method(request))
    assert all(part.WhichOneof("event") == "progress" for part in progress)
    weight, = last.result.detection.super_weights
    expected, = linchpin("detect", roots[0] / "model", "--json").json["super_weights"]
    assert (weight.tensor, weight.row, weight.column) == (
        expected["tensor"], expected["row"], expected["column"])


def test_health_answers(server):
    with grpc.insecure_channel(server.endpoint) as channel:
        stub = health_pb2_grpc.HealthStub(channel)
        for service in ("", "linchpin.v1.CompressionService"):
            assert stub.Check(health_pb2.HealthCheckRequest(service=service)).status == \
                health_pb2.HealthCheckResponse.SERVING
