#!/usr/bin/env bash
# What a GPU makes of this project, checked and timed. Two halves, for the machine that builds is seldom the one with the GPU:
#
#   bench/cuda.sh build          builds everything for CUDA and packs it: target/gro-cuda.tar.xz
#   bench/cuda.sh run [RESULTS]  on a machine with a GPU, from that archive unpacked or where `build` ran, meant for 10 minutes:
#                                our kernels against the CPU, parity with the authors' numbers, a small pipeline on CPU and
#                                GPU, then the time of training, GRO, generation and distillation beside the floor of each
#
# DEVICE=cpu checks the script itself: everything but our kernels runs there too. QUICK=1 takes fewer measurements, two minutes' worth.
set -euo pipefail
cd "$(dirname "$0")/.."

target=${CARGO_TARGET_DIR:-target}
package=$target/gro-cuda
device=${DEVICE:-cuda:0}

build() {
  local features=train/cuda,defend/cuda,attack/cuda,evaluate/cuda,kernels/cuda,acceptance/cuda,benchmarks/cuda
  # Always the same packages with the same features, of which cargo takes the union: what differs is compiled anew.
  cargo() {
    make --no-print-directory -s cuda-cargo \
      ARGUMENTS="$1 --features $features $(printf -- '-p %s ' preprocess train defend attack evaluate kernels acceptance benchmarks) $2"
  }
  rm -rf "$package"
  mkdir -p "$package/release/deps" "$package/bench"
  cargo "build --release" --bins
  cp "$target"/release/gro-{preprocess,train,defend,attack,evaluate} "$package/release/"
  # Executables of the tests and benchmarks, which cargo names with a hash.
  cargo "test --no-run" "--lib --test parity --test pipeline --bench suite --message-format=json" | python3 -c '
import json, sys
for line in sys.stdin:
    line = json.loads(line) if line.startswith("{") else {}
    if line.get("executable") and line["profile"]["test"] and line["target"]["name"] in ("kernels", "parity", "pipeline", "suite"):
        print(line["target"]["name"], line["executable"])' | while read -r name executable; do
    cp "$executable" "$package/release/deps/$name"
  done
  cp -r tests/golden "$package/golden"
  cp bench/cuda.sh "$package/bench/"
  # Much of each binary is the same text; a window wide enough sees it.
  XZ_OPT=--lzma2=preset=3,dict=128MiB tar -cJf "$package.tar.xz" -C "$(dirname "$package")" "$(basename "$package")"
  ls -l "$package/release" "$package/release/deps" "$package.tar.xz"
}

# check NAME COMMAND...: runs it, says how it went, and goes on.
failed=()
check() {
  local name=$1 begun=$SECONDS
  shift
  printf '\n== %s\n' "$name"
  if "$@"; then
    printf -- '-- %s: ok, %s s\n' "$name" $((SECONDS - begun))
  else
    printf -- '-- %s: FAILED, %s s\n' "$name" $((SECONDS - begun))
    failed+=("$name")
  fi
}

run() {
  results=$(realpath -m "${1:-cuda-results}")
  mkdir -p "$results"
  # The archive holds `release` beside `bench`.
  [ -d release ] || cd "$package"
  nvidia-smi --query-gpu=name,driver_version,memory.total --format=csv,noheader 2> /dev/null || echo "no nvidia-smi"
  if [ "$device" != cpu ]; then
    check "kernels against the CPU" env GRO_DEVICE="$device" release/deps/kernels \
      --include-ignored cuda::tests twins_agree all_ways_agree
  fi
  check "parity with the authors' numbers" env GOLDEN_DIR="$PWD/golden" GRO_DEVICE="$device" release/deps/parity
  # The test compares two ways to compute; without a GPU the other way is the plain operations on the CPU.
  local other=(GRO_DEVICE="$device")
  [ "$device" != cpu ] || other=(-u GRO_DEVICE)
  check "a pipeline on the CPU and here" \
    env "${other[@]}" release/deps/pipeline plain_kernels_end_where_fused_ones_do_but_for_rounding
  check "time beside the floor" \
    env GRO_BENCH_DIR="$results" GRO_DEVICE="$device" release/deps/suite --bench ${QUICK:+--quick} '^(machine|training|gro|generation|distillation)/'
  if [ ${#failed[@]} -gt 0 ]; then
    printf '\nfailed: %s\n' "${failed[*]}"
    exit 1
  fi
  printf '\nall well, %s s; the figures are in %s\n' "$SECONDS" "$results/bench.json"
}

case ${1:-} in
  build) build ;;
  run) shift; run "$@" ;;
  *) sed -n '2,9s/^# \{0,1\}//p' "$0"; exit 2 ;;
esac
