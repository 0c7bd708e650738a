#!/usr/bin/env bash
# Times `compress` from an F16 GGUF of 2.2 GB to each type, beside `cat` and the copy that it amounts to.
#
#   tests/bench/gguf.sh [FILE]    FILE: default build/bench/model-f16.gguf, made if it is not there
#
# LINCHPIN_BIN  folder of the programs; default build/release/bin
# RUNS          of each command, the best counts; default 3
# SCHEMES       default "q4_1 q4_0 q8_0 q4_k"
set -euo pipefail
source "$(dirname "$0")/setup.sh"
file=${1:-$bench/model-f16.gguf}

if [ ! -e "$file" ]; then
  "$python" tests/bench/make_gguf.py "$file"
fi
bytes=$(wc -c < "$file")

measure() { "$python" -B tests/bench/measure.py --runs "${RUNS:-3}" --bytes "$bytes" "$@"; }

printf '%s, %d MB, %s, %d cores\n\n' "$file" $((bytes / 1000000)) \
  "$(grep -m1 'model name' /proc/cpuinfo | cut -d: -f2 | xargs)" "$(nproc)"
heading
measure "cat FILE > /dev/null" bash -c "cat '$file' > /dev/null"
measure "linchpin detect" "$bin/linchpin" --quiet detect "$file"
for scheme in ${SCHEMES:-q4_1 q4_0 q8_0 q4_k}; do
  measure --before "rm -rf $bench/out" "linchpin compress, $scheme, minmax" \
    "$bin/linchpin" --quiet compress "$file" "$bench/out" --format gguf --scheme "$scheme" --scale minmax
done
measure --before "rm -rf $bench/out" "linchpin compress, q4_1, importance" \
  "$bin/linchpin" --quiet compress "$file" "$bench/out" --format gguf --scheme q4_1
rm -rf "$bench/out"
