#!/usr/bin/env bash
# Installs what the tests need, builds, runs every test there is and counts them.
#
#   tests/run.sh              the last line reads "N passed, N failed"; exit 1 if any failed
#
# LINCHPIN_SHARED  models, text and expected values; default ../shared beside the repository
# JOBS             compilers and tests at once; default one per core
#
# Reports of each runner, and what each test took, stay in build/reports. tests/README.md says what is run and why.
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

# build NAME CONFIGURE-ARGUMENTS... -- BUILD-ARGUMENTS...: configures and builds build/NAME.
build() {
  local name=$1 configure=()
  shift
  while [ $# -gt 0 ] && [ "$1" != -- ]; do
    configure+=("$1")
    shift
  done
  shift
  cmake "${configure[@]}" > "$reports/$name.configure.log" 2>&1 || { cat "$reports/$name.configure.log"; return 1; }
  cmake --build "$@" -j "$jobs" > "$reports/$name.build.log" 2>&1 || {
    grep -E -A20 'error|FAILED' "$reports/$name.build.log" || cat "$reports/$name.build.log"
    return 1
  }
}

# The engine alone, and of its tests those that come to LibTorch.
build_with_current_torch() {
  local wheel
  wheel=$(dirname "$("$venv/bin/python" -c 'import torch; print(torch.__file__)')")
  build torch2 -S . -B build/torch2 -G Ninja -DCMAKE_BUILD_TYPE=Dev -DLINCHPIN_BUILD_SERVICE=OFF \
    "-DLINCHPIN_TESTS=forward_test;importance_test;libtorch_module_test;detect_test;pipeline_test" \
    "-DCMAKE_MODULE_PATH=$root/tests/torch_wheel" "-DTORCH_WHEEL=$wheel" -- build/torch2
}

# Test runners: a failure is counted at the end, not here.
run_ctest() {
  ctest --test-dir "build/$1" -j "$jobs" --output-on-failure --no-tests=error \
    --output-junit "$reports/$1.xml" | grep -vE ' (Passed|Start) ' || true
}
# A file of tests stays in one process; that many processes have the cores for themselves, so servers and torch take a thread.
run_pytest() {
  LINCHPIN_THREADS=1 OMP_NUM_THREADS=1 "$venv/bin/python" -B -m pytest -q -p no:cacheprovider -n "$jobs" --dist loadfile \
    --junit-xml "$reports/pytest.xml" "$@" || true
  rm -rf "$root/build/outputs"
}

versions() {
  "$venv/bin/python" -c 'import importlib.metadata as m
for name in ("torch", "transformers", "compressed-tensors", "gguf"): print(name, m.version(name))'
  echo "node $("$venv/bin/node" --version), $(c++ --version | head -n 1)"
  echo "instruction sets: $(grep -m 1 ^flags /proc/cpuinfo | grep -oE 'avx2|avx512[a-z_]+|amx_[a-z0-9]+' | tr '\n' ' ')"
}

# In a function, so that the whole script is read before it runs.
main() {
  rm -rf "$reports" "$root/build/outputs"
  mkdir -p "$reports"
  trap 'echo "tests/run.sh did not come to its end"; echo "0 passed, 1 failed"' EXIT
  step "what the tests need"; bash tests/install.sh
  versions
  step "build what ships, with its tests"; build release --preset check -- --preset check
  step "C++ tests"; run_ctest release
  step "Python tests"; run_pytest tests
  step "build the engine with the LibTorch of PyPI's torch"; build_with_current_torch
  step "C++ tests of that engine"; run_ctest torch2
  step "build with sanitizers"; build sanitize --preset sanitize -- --preset sanitize
  step "tests with sanitizers"; run_ctest sanitize
  step "fuzzing"; bash tests/fuzz/fuzz.sh 20 || true
  step "done"
  "$venv/bin/python" tests/timings.py "$reports"/*.xml | tee "$reports/timings.txt"
  trap - EXIT
  "$venv/bin/python" tests/count_tests.py "$reports"/{release,torch2,sanitize,fuzz,pytest}.xml
}

main
exit
