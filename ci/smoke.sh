#!/usr/bin/env bash
# `cargo lab compare --quick` runs to its end and its table is complete. No number is judged.
set -euo pipefail
out=$(mktemp -d)
trap 'rm -rf "$out"' EXIT
cargo lab compare --quick --json "$out/rows.json" | tee "$out/table.txt"
python3 - "$out/rows.json" <<'PY'
import json, sys
report = json.load(open(sys.argv[1]))
rows = report["rows"]
assert report["command"] and report["machine"]["kernel"]
cells = {}
for row in rows:
    cells.setdefault((row["transport"], row["wait"], row["workload"], row["placement"]), []).append(row)
want = {(t, w, l, p) for t in ("uds", "shm") for w in ("park", "adaptive", "spin")
        for l in ("read:32", "write:32", "trace:storage") for p in ("split", "same")}
assert set(cells) == want, set(cells) ^ want
for cell, filed in cells.items():
    assert sum(row["slices"] for row in filed) + filed[0]["moved"] > 0, cell
    assert len({row["distance"] for row in filed}) == len(filed), cell
for row in rows:
    assert row["errors"] == 0, row
    if row["slices"] == 0:
        continue  # the cores moved every time
    assert (row["distance"] in ("siblings", "near", "far")) == (row["placement"] == "split"), row
    assert 0 < row["p50_ns"] <= row["p90_ns"] <= row["p99_ns"] <= row["p999_ns"] <= row["max_ns"], row
    for field in ("calls", "calls_per_s", "mean_ns", "floor_ns", "ratio_floor"):
        assert row[field] > 0, (field, row)
    for field in ("client_cpu_ns", "host_cpu_ns", "client_switches", "host_switches"):
        assert row[field] >= 0, (field, row)
print(len(rows), "rows, complete")
PY
left=$(find /dev/shm /tmp -maxdepth 1 \( -name 'genvm-*' -o -name 'transport-lab-*' \) -newer "$out" 2>/dev/null || true)
[ -z "$left" ] || { echo "left behind: $left"; exit 1; }
