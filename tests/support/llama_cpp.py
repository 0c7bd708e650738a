"""llama.cpp as the npm package node-llama-cpp brings it."""

import pytest

from support.npm import MODULES

BINARIES = MODULES / "@node-llama-cpp/linux-x64/bins"


def llama_cpp():
    """The directory that node_modules lies in."""
    if not BINARIES.is_dir():
        pytest.fail(f"llama.cpp is not installed in {MODULES}; run tests/install.sh")
    return MODULES.parent


def ggml_library():
    llama_cpp()
    library, *_ = sorted(BINARIES.glob("linux-x64/libggml-base.so"))
    return library
