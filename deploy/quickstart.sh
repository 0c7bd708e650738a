#!/usr/bin/env bash
# From a fresh Debian 12 to a compressed model whose super weights are proven and kept.
#
#   deploy/quickstart.sh [MODEL] [OUT]
#
# Installs what is needed from Debian, builds, starts linchpin-server, compresses MODEL through it into
# OUT, verifies OUT and shows what the server measured of the job.
#
# MODEL  a llama checkpoint (a directory with config.json and safetensors); default a small one that
#        the program makes, whose super weight is proven on its own text
# OUT    the directory to create; default under build/quickstart, made anew each time
set -euo pipefail
root=$(cd "$(dirname "$0")/.." && pwd)
linchpin=$root/build/release/bin/linchpin
work=$root/build/quickstart

say() { if [ -t 1 ]; then printf '\n\033[1m%s\033[0m\n' "$*"; else printf '\n%s\n' "$*"; fi; }
fail() {
  echo "quickstart.sh: $*" >&2
  exit 1
}

case ${1-} in -h | --help) sed -n '2,/^set/{/^set/d;s/^# \{0,1\}//;p}' "$0"; exit 0 ;; esac
[ $# -le 2 ] || fail "too many arguments: quickstart.sh [MODEL] [OUT]"
model=${1:+$(realpath -m "$1")}
out=${2:+$(realpath -m "$2")}
[ -z "$model" ] || [ -e "$model" ] || fail "$model: is not there: name a model directory"
[ -z "$out" ] || [ ! -e "$out" ] || fail "$out: exists: name a directory that does not, or remove it"
mkdir -p "$work"

scratch=$(mktemp -d)
server=
stop() {
  if [ -n "$server" ]; then
    kill "$server" 2> /dev/null || true
    wait "$server" 2> /dev/null || true
    server=
  fi
  rm -rf "$scratch"
}
trap stop EXIT
trap 'exit 130' INT
trap 'exit 143' TERM

build() {
  bash "$root/deploy/install_packages.sh" "$root/deploy/build-packages.txt" "$root/deploy/quickstart-packages.txt"
  cd "$root"
  { [ -f build/release/build.ninja ] || cmake --preset release; } > "$work/build.log" 2>&1 &&
    cmake --build --preset release -j "$(nproc)" --target linchpin linchpin-server >> "$work/build.log" 2>&1 ||
    { tail -n 40 "$work/build.log" >&2; fail "the build failed: see $work/build.log"; }
}

# A port of this machine that nobody listens on.
free_port() {
  local port
  for _ in $(seq 100); do
    port=$((20000 + RANDOM % 12000))
    if ! (: < "/dev/tcp/127.0.0.1/$port") 2> /dev/null; then
      echo "$port"
      return
    fi
  done
  fail "no free port was found for the metrics"
}

start_server() {
  metrics=127.0.0.1:$(free_port)
  "$root/build/release/bin/linchpin-server" --listen "unix:$scratch/socket" --metrics "$metrics" \
    --read-root / --write-root "$work" --write-root "$(dirname "$out")" --allow-symlinks --ready-fd 3 \
    3> "$scratch/ready" 2> "$work/server.log" &
  server=$!
  until [ -s "$scratch/ready" ]; do
    kill -0 "$server" 2> /dev/null || { cat "$work/server.log" >&2; fail "the server did not start"; }
    sleep 0.05
  done
  call=("$linchpin" --endpoint "unix:$scratch/socket")
}

started=$(date +%s.%N)
say "Building (the first time takes some minutes)"
build

if [ -z "$model" ]; then
  model=$work/model
  demo_model=yes
fi
if [ -z "$out" ]; then
  out=$work/$(basename "$model")-w4a16
  rm -rf "$out"
fi
mkdir -p "$(dirname "$out")"
start_server
say "linchpin-server listens on a socket of its own, its metrics on http://$metrics/metrics"

proof=()
if [ -n "${demo_model-}" ]; then
  say "Writing the demonstration model"
  rm -rf "$model"
  "${call[@]}" demo-model "$model"
fi
if [ -f "$model/tokens.json" ]; then
  proof=(--proof joint --proof-tokens "$model/tokens.json")
elif [ -f "$model/tokenizer.json" ]; then
  proof=(--proof joint --proof-text "$root/LICENSE")  # some English text
fi

say "Compressing $model"
"${call[@]}" compress "$model" "$out" ${proof[@]+"${proof[@]}"}

say "Verifying $out"
"${call[@]}" verify "$out"

say "What the server measured"
curl -fsS "http://$metrics/metrics" > "$scratch/metrics"
grep -E '^linchpin_(jobs_total|tensors_total|super_weights_detected_total|stage_seconds_(sum|count)|stage_bytes_total|compression_ratio_(sum|count))' \
  "$scratch/metrics" | grep -vE ' 0$'

stop
printf '\nDone in %.1f s: the compressed model is in %s\n' \
  "$(echo "$(date +%s.%N) - $started" | awk '{print $1 - $3}')" "$out"
