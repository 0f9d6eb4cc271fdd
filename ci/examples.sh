#!/usr/bin/env bash
# The examples as programs: each host serves the batching client and the miniature executor over both transports, at one address, and
# what contracts return is the same everywhere. `custom_transport` is a test besides (`cargo test --example custom_transport`).
set -euo pipefail
cd "$(dirname "$0")/.."
target=${CARGO_TARGET_DIR:-$PWD/target}
out=$(mktemp -d)
host=''
ended() {
    status=$?
    [ -z "$host" ] || kill "$host" 2>/dev/null || true
    wait
    [ "$status" = 0 ] || tail -n 20 "$out"/*.log 2>/dev/null || true
    rm -rf "$out"
}
trap ended EXIT

cargo build --quiet --features shm,metrics --examples
cargo_executor() {
    (cd examples/executor && CARGO_TARGET_DIR=$target/executor cargo "$@")
}
cargo_executor fmt --check
cargo_executor clippy --quiet --all-features -- -D warnings
# As GenVM is built today, and with the flag: one binary each.
cargo_executor build --quiet
cp "$target/executor/debug/executor" "$out/executor-today"
cargo_executor build --quiet --features transport-shm
executor=$target/executor/debug/executor

# Starts an example that listens, and waits until it does.
start() {
    name=$1 socket=$out/run/$1.sock
    "$target/debug/examples/$name" "unix://$socket" "${@:2}" >"$out/$name.log" 2>&1 &
    host=$!
    until grep -q '^listening on ' "$out/$name.log"; do
        kill -0 "$host"
        sleep 0.01
    done
}
# Ends it as a service manager would. It goes with no error and takes its socket file along.
stop() {
    kill "$host"
    wait "$host"
    host=''
    [ ! -e "$socket" ] || { echo "$name left $socket behind"; return 1; }
}

echo '--- custom_transport'
"$target/debug/examples/custom_transport"

for name in thread_host tokio_host; do
    echo "--- $name"
    start "$name"
    # Two contracts, so that both start from nothing: the first over the socket, the second over shared memory.
    "$out/executor-today" "unix://$socket" 1 3 >"$out/today.txt"
    "$executor" "unix://$socket" 2 3 >"$out/unix.txt"
    "$executor" "shm://$socket" 3 3 >"$out/shm.txt"
    [ "$(wc -l <"$out/today.txt")" = 3 ]
    cmp "$out/today.txt" "$out/unix.txt"
    cmp "$out/today.txt" "$out/shm.txt"
    cat "$out/shm.txt"
    [ ! -e "$out/first.txt" ] || cmp "$out/first.txt" "$out/shm.txt"
    cp "$out/shm.txt" "$out/first.txt"
    # Without the feature the same address says what is missing.
    ! "$out/executor-today" "shm://$socket" 2>"$out/refused.log" || false
    grep -q 'needs the cargo feature `shm`' "$out/refused.log"
    for address in "unix://$socket" "shm://$socket"; do
        "$target/debug/examples/batch_client" "$address"
    done
    stop
    [ "$(grep -c 'over unix: Some((Return, ' "$out/$name.log")" = 7 ]
    [ "$(grep -c 'over shm: Some((Return, ' "$out/$name.log")" = 4 ]
done

echo '--- metrics_host'
start metrics_host 127.0.0.1:0 "$out/snapshots.jsonl"
url=$(sed -n 's/^metrics at //p' "$out/metrics_host.log")
for address in "unix://$socket" "shm://$socket"; do
    "$target/debug/examples/batch_client" "$address" "$out/snapshots.jsonl"
done
python3 - "$url" <<'PY'
import sys, time, urllib.error, urllib.request
url = sys.argv[1]
def page(url=url):
    lines = urllib.request.urlopen(url, timeout=10).read().decode().splitlines()
    return dict(line.rsplit(" ", 1) for line in lines if line and not line.startswith("#"))
# What the host counts follows the answer that the client waited for.
wanted = {f'host_executions_total{{ended="finished",transport="{kind}"}}': "1" for kind in ("unix", "shm")}
deadline = time.time() + 10
while not wanted.items() <= page().items():
    assert time.time() < deadline, page()
    time.sleep(0.05)
# Asked again and again, each execution is counted once.
for kind in ("unix", "shm"):
    for method, status, calls in (("storage_read", "ok", 65), ("storage_write", "ok", 64), ("eth_call", "absent", 1),
                                  ("consume_result", "ok", 1)):
        name = f'genvm_host_calls_total{{method="{method}",status="{status}",transport="{kind}"}}'
        assert page()[name] == str(calls), (name, page())
# docs/monitoring asks for percentiles of these.
assert any(name.startswith("genvm_host_call_seconds_bucket{") for name in page()), page()
try:
    page(url.replace("/metrics", "/other"))
    sys.exit("other pages are not there")
except urllib.error.HTTPError as error:
    assert error.code == 404, error
print("metrics: two executions, each counted once")
PY
stop
