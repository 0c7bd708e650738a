#!/usr/bin/env bash
# Compresses checkpoints of 0.2 to 8 GB: time grows with the bytes, memory does not.
#
#   tests/bench/growth.sh
#
# The checkpoints are zeros in sparse files, which take the time of any others but no room; what comes out
# takes some, a third of their size.
# LINCHPIN_BIN  folder of the programs; default build/release/bin
# LAYERS        default "1 6 13 31 64 118", of 67 MB each beside 0.13 GB of embeddings
set -euo pipefail
source "$(dirname "$0")/setup.sh"

heading
for layers in ${LAYERS:-1 6 13 31 64 118}; do
  model=$bench/sparse-$layers
  rm -rf "$model"
  size=$("$python" -B tests/support/sparse_model.py "$model" --layers "$layers" --hidden 2048 \
    --intermediate 2688 --vocab 16000)
  bytes=$(cat "$model"/*.safetensors | wc -c)
  "$python" -B tests/bench/measure.py --runs "${RUNS:-2}" --bytes "$bytes" --before "rm -rf $bench/out" \
    "w4a16, signed, detection off, $size" \
    "$bin/linchpin" --quiet compress "$model" "$bench/out" --detection off
  rm -rf "$model" "$bench/out"
done
