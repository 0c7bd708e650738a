#!/usr/bin/env bash
# Times detect and compress on a synthetic 2.2 GB checkpoint, beside reading it, writing as much as comes
# out, a transformers script with hooks, and llm-compressor.
#
#   tests/bench/run.sh [MODEL]    MODEL: default build/bench/model, made if it is not there
#
# LINCHPIN_BIN  folder of the programs; default build/release/bin
# RUNS          of each command, the best counts; default 3
# PEER          no: leave llm-compressor out (it is installed into build/bench/venv)
#
# Everything is read once before, so that all commands find the files in the page cache.
set -euo pipefail
source "$(dirname "$0")/setup.sh"
model=${1:-$bench/model}

if [ ! -e "$model" ]; then
  "$python" tests/bench/make_checkpoint.py "$model"
fi
bytes=$(cat "$model"/*.safetensors | wc -c)

measure() { "$python" -B tests/bench/measure.py --runs "${RUNS:-3}" --bytes "$bytes" "$@"; }

printf '%s, %d MB of weights, %s, %d cores\n\n' "$model" $((bytes / 1000000)) \
  "$(grep -m1 'model name' /proc/cpuinfo | cut -d: -f2 | xargs)" "$(nproc)"
heading
measure "cat FILES > /dev/null" bash -c "cat '$model'/*.safetensors > /dev/null"
measure "pread of every byte, with Python" \
  "$python" tests/bench/read_all.py "$(nproc)" "$model"/*.safetensors
"$python" tests/bench/read_all.py "$(nproc)" "$model"/*.safetensors
measure "linchpin capabilities (start-up)" "$bin/linchpin" --quiet capabilities
rm -rf "$bench/small"
"$bin/linchpin" --quiet demo-model "$bench/small" > /dev/null
measure "linchpin detect, 6 MB (start-up, LibTorch)" "$bin/linchpin" --quiet detect "$bench/small"
rm -rf "$bench/small"
measure "linchpin detect" "$bin/linchpin" --quiet detect "$model"
for windows in 1 3; do
  "$python" -c "print([[1, *range(50, 305)]] * $windows)" > "$bench/windows.json"
  measure "linchpin detect --proof joint, $windows x 256 tokens" \
    "$bin/linchpin" --quiet detect "$model" --proof joint --proof-tokens "$bench/windows.json"
done
if "$python" -c "import torch, transformers" 2> /dev/null; then
  measure "transformers, bf16, hooks, with imports" "$python" tests/bench/hooks.py "$model"
fi
compress() {  # NAME OPTIONS...
  local name=$1
  shift
  measure --before "rm -rf $bench/out" "$name" "$bin/linchpin" --quiet compress "$model" "$bench/out" "$@"
}
compress "linchpin compress, w4a16, importance" --scheme w4a16
for scheme in w8a16 w8a8 fp8; do
  compress "linchpin compress, $scheme, signed" --scheme "$scheme" --scale signed
done
compress "linchpin compress, w4a16, signed" --scheme w4a16 --scale signed
compress "the same, detection off" --scheme w4a16 --detection off
compress "the same, and no digest of the source" --scheme w4a16 --detection off --source-digest off
size=$(cat "$bench"/out/* | wc -c)
rm -f "$bench/written"
measure --before "rm -f $bench/written" "dd of as many bytes as that wrote" \
  dd if=/dev/zero "of=$bench/written" bs=1M iflag=count_bytes "count=$size" status=none
measure --before "rm -f $bench/written" "the same, flushed as an output is" \
  dd if=/dev/zero "of=$bench/written" bs=1M iflag=count_bytes "count=$size" status=none conv=fsync
rm -f "$bench/written"
measure "linchpin verify" "$bin/linchpin" --quiet verify "$bench/out"
rm -rf "$bench/out"

if [ "${PEER:-yes}" != no ]; then
  venv=$bench/venv
  if [ ! -e "$venv/installed" ]; then
    python3 -m venv "$venv"
    "$venv/bin/pip" install --quiet --disable-pip-version-check torch==2.13.0
    "$venv/bin/pip" install --quiet --disable-pip-version-check llmcompressor
    touch "$venv/installed"
  fi
  measure --before "rm -rf $bench/out" "llm-compressor model_free_ptq, with imports" \
    "$venv/bin/python" tests/bench/peer.py "$model" "$bench/out"
  rm -rf "$bench/out"
  "$venv/bin/python" tests/bench/peer.py "$model" "$bench/out" 2> /dev/null | tail -1
  rm -rf "$bench/out"
fi
