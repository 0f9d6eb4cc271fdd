#!/usr/bin/env bash
# The fault catalogue with its full counts, in a release build, as a table: before a release, or to look for what is rare. Takes some hours
# on an idle machine, and wants it idle: a full run fails where a fault took longer than allowed.
#
#   tests/soak.sh TABLE.md [COUNT] [FAULT…]
#
# COUNT is `full` (the default) or a number of trials for everything; FAULT is a part of a test's name, such as `killed::` or `soak`.
# The table is written even if something failed; the exit code says whether it did. GENVM_FAULTS_SEED repeats a run.
set -euo pipefail
table=$(realpath -m "${1:?usage: tests/soak.sh TABLE.md [COUNT] [FAULT…]}")
export GENVM_FAULTS=${2:-full}
shift "$(($# < 2 ? $# : 2))"
cd "$(dirname "$0")/.."

log=$(mktemp)
trap 'rm -f "$log"' EXIT
command="GENVM_FAULTS=$GENVM_FAULTS cargo test --release --all-features --test faults -- --nocapture --test-threads=1${*:+ $*}"
begun=$(date -u '+%F %H:%M')
failed=0
cargo test --release --all-features --test faults -- --nocapture --test-threads=1 "$@" 2>&1 | tee "$log" || failed=1

mkdir -p "$(dirname "$table")"
{
    echo '# The fault catalogue'
    echo
    echo "- begun: $begun UTC, ended: $(date -u '+%F %H:%M') UTC, $([ $failed = 0 ] && echo 'nothing failed' || echo '**something failed**')"
    echo "- commit: $(git rev-parse HEAD)$(git diff --quiet HEAD || echo ', with changes')"
    echo "- kernel: $(uname -srm); $(nproc) × $(sed -n 's/^model name[^:]*: //p' /proc/cpuinfo | head -1)"
    echo "- load when it ended: $(cut -d' ' -f1-3 /proc/loadavg)"
    echo "- command: \`$command\`"
    echo
    echo 'Times are in microseconds. What is measured, and what is allowed, is at the head of each module of `tests/faults/`.'
    echo
    echo '| fault | on | trials | failures | measured | p50 | p99 | max | allowed p99/max | left behind | seconds | seed |'
    echo '| --- | --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: | --- | ---: | --- |'
    grep -o 'fault name=.*' "$log" | awk '{
        delete of
        for (i = 2; i <= NF; i++) { at = index($i, "="); of[substr($i, 1, at - 1)] = substr($i, at + 1) }
        gsub("_", " ", of["skipped"])
        if ("skipped" in of && of["skipped"] != "") printf "| %s | %s | not run: %s | | | | | | | | | |\n", of["name"], of["on"], of["skipped"]
        else printf "| %s | %s | %s | %s | %s | %s | %s | %s | %s | %s | %s | %s |\n", of["name"], of["on"], of["trials"], of["failures"],
            of["measured"], of["p50_us"], of["p99_us"], of["max_us"], of["allowed_us"], of["left"], of["seconds"], of["seed"]
    }' || true
} > "$table"
exit $failed
