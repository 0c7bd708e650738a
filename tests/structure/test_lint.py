"""The API's definition and the sources are written as agreed."""

import pathlib
import shutil
import subprocess

import pytest

from support.npm import BUF

ROOT = pathlib.Path(__file__).resolve().parents[2]


def run(*command):
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)


def test_proto_passes_buf_lint():
    result = run(BUF, "lint")
    assert result.returncode == 0, result.stdout + result.stderr


def breaks(*source):
    """What `buf breaking` has against the API of a folder, by the rules of buf.yaml, beside 0.1.0's."""
    result = run(BUF, "breaking", *map(str, source), "--config", "buf.yaml", "--against",
                 "tests/wire/linchpin-0.1.0.binpb")
    assert bool(result.stdout) == (result.returncode != 0), result.stderr
    return result.stdout


def test_no_client_of_0_1_0_is_broken():
    """What stands in the way here breaks programs that are in use.

    Where that is wanted, once and knowingly, tests/wire/README.md says how the API as it was is replaced.
    """
    assert breaks() == ""


@pytest.mark.parametrize("edits, complaint", [
    # Both are varints: no program would notice before it wrote over somebody's model.
    ({"bool overwrite = 5;": "bool overwrite = 6;",
      "uint64 max_memory_bytes = 6;": "uint64 max_memory_bytes = 5;"}, "overwrite"),
    ({"rpc VerifyArtifact(": "rpc VerifyOutput("}, "VerifyArtifact"),
    ({"  uint64 max_memory_bytes = 6;\n": ""}, "max_memory_bytes"),
    ({"repeated int64 blocks = 2;": "repeated string blocks = 2;"}, "blocks"),
    ({"SCHEME_W8A8 = 3;": "SCHEME_W8A8 = 5;"}, 'value "3" on enum "Scheme"'),
    ({"optional double sparsity = 2;": "double sparsity = 2;"}, "sparsity"),
    ({"returns (stream DetectSuperWeightsResponse)": "returns (DetectSuperWeightsResponse)"},
     "DetectSuperWeights"),
], ids=["number", "method", "field", "type", "value", "presence", "stream"])
def test_what_breaks_clients_is_seen(tmp_path, edits, complaint):
    shutil.copytree(ROOT / "proto", tmp_path / "proto")
    shutil.copy(ROOT / "buf.yaml", tmp_path)
    file = tmp_path / "proto/linchpin/v1/compression.proto"
    text = file.read_text()
    for old, new in edits.items():
        assert text.count(old) == 1
        text = text.replace(old, new)
    file.write_text(text)
    assert complaint in breaks(tmp_path)


def test_sources_are_formatted():
    sources = [str(path.relative_to(ROOT)) for tree in ("client", "server", "tests")
               for suffix in ("h", "cc") for path in sorted((ROOT / tree).rglob(f"*.{suffix}"))]
    assert sources
    result = run("clang-format-14", "--dry-run", "--Werror", *sources)
    assert result.returncode == 0, result.stderr


def test_shell_scripts_parse_and_stop_at_errors():
    scripts = [path for tree in (".ci", "deploy", "tests") for path in (ROOT / tree).rglob("*")
               if path.is_file() and path.open("rb").read(2) == b"#!"
               and b"sh" in path.open("rb").readline()]
    assert scripts
    for script in scripts:
        result = run("bash", "-n", str(script))
        assert result.returncode == 0, result.stderr
        assert "set -e" in script.read_text(), script
