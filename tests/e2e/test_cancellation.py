"""A caller that goes away at any stage of a job: the work ends within a second of computing."""

import time

import pytest

from e2e.killed_workers import cpu_seconds
from support.foreign_client import ForeignClient
from support.synthetic_model import make_model

FULL_PROOF = {"proof": "PROOF_LEVEL_FULL", "proof_windows": {"size": 256, "count": 8}}
DENSE = {"format": "OUTPUT_FORMAT_DENSE", "scale": "SCALE_RULE_MINMAX"}


@pytest.fixture(name="model", scope="module")
def model_fixture(tmp_path_factory):
    """Large enough for every stage to be met: 0.4 GB."""
    path = tmp_path_factory.mktemp("cancelled") / "model"
    make_model(path, layers=12, hidden=1024, intermediate=4096, vocab=16000, heads=16, kv_heads=4)
    return path


@pytest.mark.parametrize("kind, name, stage, options", [
    ("detect", "DetectSuperWeights", "forward", {}),
    ("detect", "DetectSuperWeights", "detect", {"detection": FULL_PROOF}),
    ("compress", "CompressModel", "forward", {}),
    ("compress", "CompressModel", "quantize", {}),
    ("compress", "CompressModel", "quantize", {"quantization": DENSE}),
], ids=["detect-forward", "detect-proof", "compress-forward", "compress-quantize", "compress-dense"])
def test_work_ends_with_its_caller(start_server, model, tmp_path, kind, name, stage, options):
    server = start_server("--read-root", model.parent, "--write-root", tmp_path, "--threads", "1")
    fields = {"source": str(model), **options}
    if kind == "compress":
        fields["destination"] = str(tmp_path / "out")
    with ForeignClient(server.endpoint) as client:
        function, request = client.method(name)
        call = function(request(**fields), timeout=300)
        seen = []
        for message in call:
            seen.append(message.progress.stage)
            if seen[-1] == stage:
                break
        assert seen[-1] == stage, sorted(set(seen))
        before = cpu_seconds(server.process.pid)
        call.cancel()
        deadline = time.monotonic() + 30
        running = f'linchpin_jobs_in_progress{{kind="{kind}"}}'
        while server.metrics()[running] > 0:
            assert time.monotonic() < deadline
            time.sleep(0.02)
        # In processor time: whatever else runs on this machine does not count.
        assert cpu_seconds(server.process.pid) - before < 1.0
    assert server.metrics()[f'linchpin_jobs_total{{kind="{kind}",result="cancelled"}}'] == 1
    assert not [path for path in tmp_path.iterdir() if not path.name.startswith("server-")]
