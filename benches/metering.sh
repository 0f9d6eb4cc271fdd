#!/usr/bin/env bash
# What the feature `metrics` adds to a hot read over shared memory, between two processes: the same benchmark of two builds in turn,
# PAIRS times (default 24), and the median of the differences. Builds go to target/metering-*: `benches/metering.sh [PAIRS]`
set -euo pipefail
cd "$(dirname "$0")/.."
pairs=${1:-24}
target=${CARGO_TARGET_DIR:-target}
program() {
    CARGO_TARGET_DIR=$target/metering-$1 cargo bench --bench hot_read --features "$2" --no-run --message-format json \
        | sed -n 's/.*"name":"hot_read".*"executable":"\([^"]*\)".*/\1/p'
}
without=$(program without lab)
with=$(program with lab,metrics)
for _ in $(seq "$pairs"); do
    for build in "without $without" "with $with"; do
        read -r name path <<<"$build"
        "$path" --bench --noplot --discard-baseline 'hot_read/shm/spin/32' | awk -v name="$name" '$1 == "time:" || $2 == "time:" { print name, $0 }'
    done
done | python3 -c '
import re, statistics, sys
scale = {"ns": 1, "µs": 1e3, "us": 1e3}
found = {"without": [], "with": []}
for line in sys.stdin:
    name, rest = line.split(" ", 1)
    middle, unit = re.search(r"\[\S+ \S+ (\S+) (\S+)", rest).groups()
    found[name].append(float(middle) * scale[unit])
# The cores may have moved between two runs: a pair is one only if both met the same distance.
pairs = [(a, b) for a, b in zip(found["without"], found["with"]) if max(a, b) < 1.25 * min(a, b)]
more = sorted(b - a for a, b in pairs)
print("%d pairs, %d left out: %.0f ns without, %.0f ns more with it (quartiles %.0f and %.0f)" % (len(pairs), len(found["with"]) - len(pairs),
      statistics.median(a for a, _ in pairs), statistics.median(more), more[len(more) // 4], more[len(more) * 3 // 4]))'
