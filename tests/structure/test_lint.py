"""The API's definition and the sources are written as agreed."""

import pathlib
import subprocess

ROOT = pathlib.Path(__file__).resolve().parents[2]


def run(*command):
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)


def test_proto_passes_buf_lint():
    result = run("build/npm/node_modules/.bin/buf", "lint")
    assert result.returncode == 0, result.stdout + result.stderr


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
