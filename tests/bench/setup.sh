# What the benchmarks have in common; they source it.
#
# LINCHPIN_BIN  folder of the programs; default build/release/bin
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."
bench=build/bench
bin=${LINCHPIN_BIN:-build/release/bin}
python=$([ -x build/venv/bin/python ] && echo build/venv/bin/python || echo python3)
mkdir -p "$bench"

# Of the columns that measure.py prints.
heading() { printf '%-44s%11s %11s %12s\n' "" "wall" "processor" "peak memory"; }
