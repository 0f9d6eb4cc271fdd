#!/usr/bin/env bash
# Every recorded execution against a host that was seeded for it, every byte compared: each trace over each transport, at both
# revisions, with and without a cache of pages: `ci/replay.sh [TRACE…]`. Some minutes for all of them. Nothing is timed.
set -euo pipefail
cd "$(dirname "$0")/.."
# No other features: with `prefer-shm` a `unix://` address would be shared memory as well.
cargo build --quiet --release --features lab --bin transport-lab
lab=${CARGO_TARGET_DIR:-target}/release/transport-lab
out=$(mktemp -d)
host='' place='nothing'
ended() {
    status=$?
    [ -z "$host" ] || kill "$host" 2>/dev/null || true
    wait
    rm -rf "$out"
    [ "$status" = 0 ] || echo "failed: $place"
}
trap ended EXIT

traces=("$@")
if [ ${#traces[@]} = 0 ]; then
    for file in benches/traces/*.csv.gz; do
        name=$(basename "$file" .csv.gz)
        [ "$name" = transactions ] || traces+=("$name")
    done
fi

# Replays $trace over $scheme at $revision with $cache; what was printed is in $out/replay. Not to be called as a condition, where
# failures inside it would go unnoticed.
replay() {
    local address=$scheme://$out/host.sock
    [ "$scheme" != tcp ] || address=tcp://127.0.0.1:0
    : >"$out/host" # so that what the last host said is not taken for this one's
    "$lab" host --listen "$address" --seed-trace "$trace" --revision "$revision" >>"$out/host" &
    host=$!
    until grep -q '^listening on ' "$out/host"; do
        kill -0 "$host" 2>/dev/null
        sleep 0.01
    done
    address=$(sed -n 's/^listening on //p' "$out/host")
    "$lab" replay --connect "$address" --trace "$trace" --verify --seeded --revision "$revision" \
        --cache "$cache" --cache-writes deferred >"$out/replay"
    kill "$host"
    wait "$host"
    host=''
}

expected=''
for revision in 1 2; do
    for scheme in unix shm shm-named tcp; do
        for cache in 0 32; do
            executions=0 reads=0 bytes=0 answers=0 left_out=0
            for trace in "${traces[@]}"; do
                place="$trace over $scheme at revision $revision, cache $cache"
                replay
                read -r e r b a l < <(awk '/ executions, / { e = $2 } /^verified: / { r = $2; b = $4; a = $6 } /^left out: / { l = $3 }
                    END { print e + 0, r + 0, b + 0, a + 0, l + 0 }' "$out/replay")
                [ "$e" -gt 0 ]
                [ "$r" -gt 0 ]
                executions=$((executions + e)) reads=$((reads + r)) bytes=$((bytes + b)) answers=$((answers + a))
                left_out=$((left_out + l))
            done
            verified="${#traces[@]} traces, $executions executions, $reads reads, $bytes bytes, $answers other answers"
            echo "revision $revision, $scheme, cache $cache: $verified; $left_out calls left out"
            # However they are played, the same is read.
            [ "$verified" = "${expected:=$verified}" ]
        done
    done
done
