"""Programs of the npm registry, which tests/install.sh installs, with a Node.js of PyPI's to run them."""

from support.build import ROOT

NODE = ROOT / "build/venv/bin/node"
MODULES = ROOT / "build/npm/node_modules"
BUF = MODULES / "@bufbuild/buf-linux-x64/bin/buf"
