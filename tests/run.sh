#!/usr/bin/env bash
# Installs what the tests need, builds, runs every test there is and counts them.
#
#   tests/run.sh              the last line reads "N passed, N failed"; exit 1 if any failed
#
# LINCHPIN_SHARED  models, text and expected values; default ../shared beside the repository
# JOBS             compilers at once; default one per core
set -euo pipefail
cd "$(dirname "$0")/.."
root=$PWD
export CI=true
export LINCHPIN_SHARED=${LINCHPIN_SHARED:-$root/../shared}
export PYTHONDONTWRITEBYTECODE=1
jobs=${JOBS:-$(nproc)}
reports=$root/build/reports
venv=$root/build/venv
exec < /dev/null

step() { printf '\n== %s (%d:%02d)\n' "$*" $((SECONDS / 60)) $((SECONDS % 60)); }

# logged NAME COMMAND...: runs a command; shows what it said only if it fails.
logged() {
  local log=$reports/$1.log
  shift
  "$@" > "$log" 2>&1 || { tail -n 100 "$log"; return 1; }
}

install_packages() {
  bash deploy/install_packages.sh deploy/build-packages.txt tests/packages.txt
  command -v npm > /dev/null || echo npm | bash deploy/install_packages.sh -
}

# LibTorch's wheel first: installed together, pip may settle on another one.
install_python() {
  local wanted
  wanted=$(sha256sum < tests/requirements.txt)
  if [ "$(cat "$venv/installed" 2> /dev/null)" = "$wanted" ]; then return; fi
  rm -rf "$venv"
  python3 -m venv "$venv"
  logged pip "$venv/bin/pip" install "$(grep '^torch==' tests/requirements.txt)"
  logged pip "$venv/bin/pip" install -r tests/requirements.txt
  echo "$wanted" > "$venv/installed"
}

# install_npm DIRECTORY ARGUMENTS...: npm install into build/DIRECTORY.
install_npm() {
  local folder=build/$1
  shift
  if [ "$(cat "$folder/installed" 2> /dev/null)" = "$*" ]; then return; fi
  mkdir -p "$folder"
  logged npm npm install --no-audit --no-fund --ignore-scripts --prefix "$folder" "$@"
  echo "$*" > "$folder/installed"
}
install_buf() { install_npm npm @bufbuild/buf@1.75.0; }
# An S3 server that checks signatures.
install_s3rver() { install_npm s3rver @20minutes/s3rver@4.0.3; }
# Without its optional packages: they are the same for other machines and for GPUs.
install_llama_cpp() {
  install_npm llama_cpp --omit=optional node-llama-cpp@3.22.1 @node-llama-cpp/linux-x64@3.22.1
}

# build NAME CONFIGURE-ARGUMENTS...: configures and builds build/NAME.
build() {
  local name=$1
  shift
  logged "$name.configure" cmake "$@"
  cmake --build "build/$name" -j "$jobs" > "$reports/$name.build.log" 2>&1 || {
    grep -E -A20 'error|FAILED' "$reports/$name.build.log" || cat "$reports/$name.build.log"
    return 1
  }
}

# Where the wheel keeps its CMake files, and its folder itself: or else they find Debian's libtorch.so.
torch_prefixes() {
  "$venv/bin/python" -c \
    'import os, torch; print(torch.utils.cmake_prefix_path, os.path.dirname(torch.__file__), sep=";")'
}

# Test runners: a failure is counted at the end, not here.
run_ctest() {
  ctest --test-dir "build/$1" -j "$jobs" --output-on-failure --no-tests=error \
    --output-junit "$reports/$1.xml" | grep -vE ' (Passed|Start) ' || true
}
run_pytest() {
  "$venv/bin/python" -B -m pytest -q -p no:cacheprovider --durations=5 \
    --junit-xml "$reports/pytest.xml" "$@" || true
}

# In a function, so that the whole script is read before it runs.
main() {
  rm -rf "$reports"
  mkdir -p "$reports"
  trap 'echo "tests/run.sh did not come to its end"; echo "0 passed, 1 failed"' EXIT
  step "packages"; install_packages
  step "python"; install_python
  step "buf"; install_buf
  step "s3rver"; install_s3rver
  step "llama.cpp"; install_llama_cpp
  step "build with Debian's LibTorch"; build dev --preset dev
  step "C++ tests"; run_ctest dev
  step "build what ships"; build release --preset release
  step "build the engine with the LibTorch of PyPI's torch"
  build torch2 -S . -B build/torch2 -G Ninja -DCMAKE_BUILD_TYPE=Dev -DLINCHPIN_BUILD_SERVICE=OFF \
    "-DCMAKE_PREFIX_PATH=$(torch_prefixes)"
  step "C++ tests of that engine"; run_ctest torch2
  step "Python tests"; run_pytest tests
  step "done"
  trap - EXIT
  "$venv/bin/python" tests/count_tests.py "$reports"/{dev,torch2,pytest}.xml
}

main
exit
