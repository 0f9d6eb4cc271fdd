#!/usr/bin/env bash
# Fuzzes each target for SECONDS (default 5): `ci/fuzz.sh [SECONDS [TARGET…]]`. An hour each: `ci/fuzz.sh 3600`; so many executions
# each: `ci/fuzz.sh 1000000x`.
# A stable compiler and a C++ compiler are enough: coverage comes from LLVM's own pass, libFuzzer from its crate. What was found
# stays in target/fuzz/corpus and is where the next run begins; an input that crashes stays in target/fuzz/artifacts.
set -euo pipefail
cd "$(dirname "$0")/../fuzz"
amount=${1:-5}
case $amount in
    *x) limit=-runs=${amount%x} ;;
    *) limit=-max_total_time=$amount amount+=' s' ;;
esac
shift || true
targets=("$@")
[ ${#targets[@]} -gt 0 ] || targets=(ring greeting codec_request codec_reply)
export CARGO_TARGET_DIR=$PWD/../target/fuzz

flags="--cfg fuzzing --cfg genvm_fuzz -C codegen-units=1 -C passes=sancov-module"
for option in level=4 inline-8bit-counters pc-table trace-compares; do
    flags+=" -C llvm-args=-sanitizer-coverage-$option"
done
# With --target the flags are for the targets alone: build scripts have nobody to report their coverage to.
host=$(rustc -vV | sed -n 's/^host: //p')
cargo fmt --check
RUSTFLAGS=$flags cargo build --quiet --release --target "$host"

for target in "${targets[@]}"; do
    corpus=$CARGO_TARGET_DIR/corpus/$target
    artifacts=$CARGO_TARGET_DIR/artifacts/$target
    log=$CARGO_TARGET_DIR/$target.log
    mkdir -p "$corpus" "$artifacts"
    printf -- '--- %s, %s\n' "$target" "$amount"
    "$CARGO_TARGET_DIR/$host/release/$target" "$limit" -timeout=10 -rss_limit_mb=1024 -max_len=1024 \
        -print_final_stats=1 -artifact_prefix="$artifacts/" "$corpus" >"$log" 2>&1 || { grep -A2 panicked "$log"; tail -8 "$log"; exit 1; }
    # A run without feedback would find nothing, and look as if there were nothing to find.
    found=$(grep -o 'cov: [0-9]*' "$log" | awk '{print $2}')
    first=$(head -1 <<<"$found") last=$(tail -1 <<<"$found")
    executions=$(sed -n 's/^stat::number_of_executed_units: *//p' "$log")
    inputs=$(find "$corpus" -type f | wc -l)
    echo "$executions executions, coverage ${first:-0} -> ${last:-0}, $inputs inputs kept"
    [ "${last:-0}" -gt 100 ] && [ "$inputs" -gt 10 ] || { echo "no coverage feedback"; exit 1; }
done
