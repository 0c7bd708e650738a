#!/usr/bin/env bash
# Runs the fuzz targets of the preset `sanitize` and says how each fared.
#
#   tests/fuzz/fuzz.sh SECONDS [TARGET...]    so many seconds of each target, or of those named
#   tests/fuzz/fuzz.sh merge [TARGET...]      adds to tests/fuzz/corpus/ what runs found that it lacks
#
# What a run finds lies in build/fuzz/inputs/TARGET and is taken up by the next one.  A run of
# less than a minute starts from the corpus alone, with the same random numbers every time: what it
# says depends on the code.  Exit 1, naming target and input, if an invariant was violated, a
# sanitizer spoke, or a run took more than 10 seconds or 2 GiB.
#
# JOBS    targets at once; default 2
# SEED    of the random numbers; default 1 below a minute, else any
# BUILD   where the targets are; default build/sanitize
set -euo pipefail
cd "$(dirname "$0")/../.."
programs=${BUILD:-build/sanitize}/fuzz
corpus=tests/fuzz/corpus
work=build/fuzz
reports=build/reports
kMinute=60

# An input is as long as what the target reads tends to be.
longest_input() {
  case $1 in
    gguf_* | importance_* | lora_* | coded_*) echo 16384 ;;
    uri_* | confined_* | bearer_*) echo 512 ;;
    # Time grows with layers x entries of a list (ModelConfig::Parse).
    model_config_*) echo 2048 ;;
    *) echo 4096 ;;
  esac
}

dictionary_of() {
  case $1 in
    gguf_vocabulary_*) echo json ;;
    gguf_* | lora_*) echo gguf ;;
    s3_*) echo xml ;;
    http_* | remote_*) echo http ;;
    *) echo json ;;
  esac
}

# Where addresses are random, AddressSanitizer of clang 14 at times finds its own taken.
fixed_addresses=()
if setarch -R true 2> /dev/null; then fixed_addresses=(setarch -R); fi

fuzz_program() {
  ASAN_OPTIONS=${ASAN_OPTIONS:-} LSAN_OPTIONS=report_objects=1 \
    UBSAN_OPTIONS=print_stacktrace=1 "${fixed_addresses[@]}" "$programs/$1" "${@:2}"
}

# stat LOG NAME: a number of libFuzzer's last lines; empty if the run did not come to them.
stat() { sed -n "s/^stat::$2: *//p" "$1"; }

# run_target NAME SECONDS: leaves a line of the table in build/fuzz/NAME.result.
run_target() {
  local name=$1 seconds=$2 begun=$SECONDS verdict=ok
  local log=$work/$name.log inputs=$work/inputs/$name
  local seed=${SEED:-$([ "$seconds" -lt $kMinute ] && echo 1 || echo 0)}
  if [ "$seconds" -lt $kMinute ]; then rm -rf "$inputs"; fi
  mkdir -p "$inputs"
  timeout $((seconds + 120)) bash "$0" program "$name" "$inputs" "$corpus/$name" \
    -max_total_time="$seconds" -seed="$seed" -timeout=10 -rss_limit_mb=2048 -malloc_limit_mb=1024 \
    -max_len="$(longest_input "$name")" -dict="tests/fuzz/dictionaries/$(dictionary_of "$name").dict" \
    -artifact_prefix="$work/crash-$name-" -print_final_stats=1 -verbosity=1 > "$log" 2>&1 || verdict=FAILED
  local runs
  runs=$(stat "$log" number_of_executed_units)
  if [ "${runs:-0}" -eq 0 ]; then verdict=FAILED; fi
  printf '%s %s %s %s %s %s %s\n' "$name" $((SECONDS - begun)) "${runs:-0}" \
    "$(sed -n 's/.* cov: \([0-9]*\).*/\1/p' "$log" | tail -n 1 | grep . || echo 0)" \
    "$(find "$inputs" -type f | wc -l)" "$(stat "$log" peak_rss_mb | grep . || echo 0)" "$verdict" \
    > "$work/$name.result"
}

# What stands in the log of a target that failed, for the report.
why() {
  grep -E 'violated:|ERROR: |runtime error:|ALARM:|Test unit written' "$work/$1.log" | head -n 5 ||
    tail -n 5 "$work/$1.log"
}

escaped() { sed 's/&/\&amp;/g; s/</\&lt;/g; s/>/\&gt;/g; s/"/\&quot;/g'; }

# A testcase per target, as tests/count_tests.py reads them.
write_report() {
  {
    echo '<?xml version="1.0" encoding="UTF-8"?>'
    echo '<testsuite name="fuzz">'
    local name seconds verdict
    while read -r name seconds _ _ _ _ verdict; do
      echo "<testcase classname=\"fuzz\" name=\"$name\" time=\"$seconds\">"
      if [ "$verdict" != ok ]; then echo "<failure>$(why "$name" | escaped)</failure>"; fi
      echo '</testcase>'
    done
    echo '</testsuite>'
  } > "$reports/fuzz.xml"
}

print_table() {
  printf '%-26s %8s %10s %10s %6s %10s  %s\n' target seconds runs coverage new 'peak MiB' ''
  local line
  while read -r -a line; do printf '%-26s %8s %10s %10s %6s %10s  %s\n' "${line[@]}"; done
}

targets() {
  if [ $# -gt 0 ]; then printf '%s\n' "$@"; else
    sed -n 's/^ *linchpin_fuzz(\(.*\)\.cc .*/\1/p' tests/fuzz/CMakeLists.txt
  fi
}

fuzz() {
  local seconds=$1 names
  mapfile -t names < <(targets "${@:2}")
  mkdir -p "$work" "$reports"
  rm -f "$work"/*.result
  printf '%s\n' "${names[@]}" |
    xargs -P "${JOBS:-2}" -I NAME bash "$0" target NAME "$seconds" < /dev/stdin
  cat "$work"/*.result | tee >(write_report) | print_table
  wait
  local name verdict failed=0
  while read -r name _ _ _ _ _ verdict; do
    if [ "$verdict" = ok ]; then continue; fi
    failed=1
    printf '\n%s, more in %s:\n%s\n' "$name" "$work/$name.log" "$(why "$name")"
  done < <(cat "$work"/*.result)
  return $failed
}

# Of inputs that reach the same, the smallest is taken.
merge() {
  local name
  for name in $(targets "$@"); do
    if [ ! -d "$work/inputs/$name" ]; then continue; fi
    fuzz_program "$name" -merge=1 -timeout=10 -rss_limit_mb=2048 "$corpus/$name" \
      "$work/inputs/$name" > "$work/$name.merge.log" 2>&1 || { tail "$work/$name.merge.log"; return 1; }
    echo "$name: $(du -sb "$corpus/$name" | cut -f 1) bytes"
  done
}

case ${1:-} in
  '') sed -n '2,/^set/{/^#/s/^# \{0,1\}//p}' "$0"; exit 2 ;;
  target) run_target "$2" "$3" ;;
  program) fuzz_program "${@:2}" ;;
  merge) merge "${@:2}" ;;
  *) fuzz "$@" ;;
esac
