"""llama.cpp as the npm package node-llama-cpp brings it; tests/run.sh installs it."""

import pathlib

import pytest

PACKAGE = pathlib.Path(__file__).resolve().parents[2] / "build/llama_cpp"
BINARIES = "node_modules/@node-llama-cpp/linux-x64/bins"


def llama_cpp():
    """The directory that node_modules lies in."""
    if not (PACKAGE / BINARIES).is_dir():
        pytest.fail(f"llama.cpp is not installed in {PACKAGE}; run tests/run.sh")
    return PACKAGE


def ggml_library():
    library, *_ = sorted((llama_cpp() / BINARIES).glob("linux-x64/libggml-base.so"))
    return library
