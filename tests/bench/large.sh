#!/usr/bin/env bash
# Detects on a checkpoint of 40 GB, and on its first layers alone: the peak of memory is the same.
#
#   tests/bench/large.sh
#
# The checkpoint is zeros in sparse files and takes no room, but reading it passes through the page cache.
# LINCHPIN_BIN  folder of the programs; default build/release/bin
set -euo pipefail
source "$(dirname "$0")/setup.sh"

heading
for layers in 2 60; do
  model=$bench/sparse-$layers
  rm -rf "$model"
  size=$("$python" -B tests/support/sparse_model.py "$model" --layers "$layers")
  "$python" -B tests/bench/measure.py --runs 1 "linchpin detect, $layers layers, $size" \
    "$bin/linchpin" --quiet detect "$model"
  rm -rf "$model"
done
