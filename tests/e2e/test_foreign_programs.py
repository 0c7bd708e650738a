"""A program that other people wrote and that has no .proto file of ours: `buf curl`, by reflection."""

import base64
import json
import os
import subprocess

import pytest

from support.npm import BUF
from support.patience import PATIENCE

SERVICE = "linchpin.v1.CompressionService"


@pytest.fixture(name="curl")
def curl_fixture(start_server, demo_model, tmp_path):
    """curl(METHOD, REQUEST): its exit code, the messages it prints, and what it says of an error."""
    server = start_server("--read-root", demo_model, "--write-root", tmp_path)

    def curl(method, request):
        result = subprocess.run(
            [str(BUF), "curl", "--protocol", "grpc", "--http2-prior-knowledge", "--emit-defaults",
             "--data", json.dumps(request), f"http://{server.endpoint}/{SERVICE}/{method}"],
            capture_output=True, text=True, check=False, timeout=PATIENCE, stdin=subprocess.DEVNULL,
            env={**os.environ, "HOME": str(tmp_path)})
        return result.returncode, documents(result.stdout), result.stderr
    return curl


def documents(text):
    """The JSON documents that stand one after the other in a text."""
    decoder, found, text = json.JSONDecoder(), [], text.strip()
    while text:
        document, end = decoder.raw_decode(text)
        found.append(document)
        text = text[end:].lstrip()
    return found


def test_asks_what_the_server_can_do(curl):
    code, (answer,), _ = curl("GetCapabilities", {})
    assert code == 0
    assert "llama" in answer["families"]


def test_plans(curl, demo_model, tmp_path):
    code, (answer,), _ = curl("PlanCompression", {
        "source": str(demo_model), "destination": str(tmp_path / "out")})
    assert code == 0
    assert len(answer["jobKey"]) == 64


def test_compresses_with_progress_and_a_result(curl, demo_model, tmp_path, linchpin):
    code, events, _ = curl("CompressModel", {
        "source": str(demo_model), "destination": str(tmp_path / "out")})
    assert code == 0
    assert all("progress" in event for event in events[:-1])
    assert "result" in events[-1]
    linchpin("verify", tmp_path / "out")


def test_reads_the_reason_of_an_error(curl, tmp_path):
    code, events, error = curl("PlanCompression", {
        "source": "/etc", "destination": str(tmp_path / "out")})
    assert code != 0 and not events
    said = json.loads(error)
    assert said["code"] == "permission_denied"
    (detail,) = said["details"]
    assert detail["type"] == "google.rpc.ErrorInfo"
    value = base64.b64decode(detail["value"] + "==")  # protobuf: the strings stand in it
    assert b"PATH_NOT_ALLOWED" in value and b"linchpin" in value
