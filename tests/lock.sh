#!/usr/bin/env bash
# Makes the lock files of the tests anew from what they are made from: requirements.in, vllm/requirements.in and
# npm/package.json. Run it after a change of one of those, look at what changed, and commit both.
#
# torch.txt and models.txt are written by hand.
set -euo pipefail
cd "$(dirname "$0")"
tools=../build/lock-venv
[ -x "$tools/bin/pip-compile" ] || { python3 -m venv "$tools" && "$tools/bin/pip" install -q pip-tools==7.6.2; }

# lock FOLDER: requirements.in to requirements.txt, without torch and what is built against it.
lock() {
  (
    cd "$1"
    export CUSTOM_COMPILE_COMMAND="tests/lock.sh"
    "$OLDPWD/$tools/bin/pip-compile" --quiet --generate-hashes --strip-extras \
      --no-emit-index-url --no-emit-find-links --unsafe-package torch --unsafe-package torchvision \
      --unsafe-package torchaudio --unsafe-package torchcodec --output-file requirements.txt requirements.in
    # What it names and leaves out is told at the end; such a file could not be installed by digests alone.
    sed -i '/^# The following packages were not pinned/,$d' requirements.txt
  )
}

lock .
lock vllm
(cd npm && npm install --package-lock-only --ignore-scripts --omit=optional --no-audit --no-fund)
