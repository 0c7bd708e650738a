#!/usr/bin/env bash
# Makes the lock files of the tests anew from what they are made from: requirements.in, vllm/requirements.in and
# npm/package.json. Run it after a change of one of those, look at what changed, and commit both.
#
# torch.txt, torch_cpu.txt and models.txt are written by hand. vLLM asks for torch's build for the CPU: PIP_FIND_LINKS or
# UV_EXTRA_INDEX_URL names where it is.
set -euo pipefail
cd "$(dirname "$0")"
tools=../build/lock-venv
[ -x "$tools/bin/uv" ] || { python3 -m venv "$tools" && "$tools/bin/pip" install -q uv==0.13.9; }

# lock FOLDER: requirements.in to requirements.txt, for Debian 12's Python, without torch and what is built against it.
lock() {
  local package options=(${PIP_FIND_LINKS:+--find-links "$PIP_FIND_LINKS"})
  for package in torch torchvision torchaudio torchcodec; do options+=(--no-emit-package "$package"); done
  UV_CUSTOM_COMPILE_COMMAND=tests/lock.sh "$tools/bin/uv" pip compile --quiet --config-file uv.toml \
    --python-version 3.11 --generate-hashes --no-emit-find-links "${options[@]}" \
    --output-file "$1/requirements.txt" "$1/requirements.in"
  # What it names and leaves out is told at the end; such a file could not be installed by digests alone.
  sed -i '/^$/,$d' "$1/requirements.txt"
}

lock .
lock vllm
(cd npm && npm install --package-lock-only --ignore-scripts --omit=optional --no-audit --no-fund)
