#!/usr/bin/env bash
# Peers in other languages: a host and a client in Python, over sockets and on the C library, recorded executions against both hosts;
# a program in C; the header. Without `python3` or `cc`, `cargo test` skips these tests with a notice; here that is a failure.
set -euo pipefail
cd "$(dirname "$0")/.."
export GENVM_FOREIGN_REQUIRED=1
target=${CARGO_TARGET_DIR:-target}/release
cargo test --all-features --test python --test capi
# With all features `unix://` asks for shared memory first; here nothing but the plain socket is compiled in.
cargo test --no-default-features --features uds --test python

# The library, built as README.md says, exports the functions of its header and nothing else.
cargo rustc --quiet --release --lib --features capi,shm --crate-type cdylib
declared=$(grep -o 'genvm_[a-z_]*(' include/genvm_transport.h | tr -d '(' | sort -u)
exported=$(nm --dynamic --defined-only "$target/libgenvm_transport.so" | awk '{ print $3 }' | sort)
diff <(echo "$declared") <(echo "$exported")
echo "$(wc -l <<<"$declared") functions exported, as declared"

# Recorded executions against the Python hosts, every byte compared.
cargo build --quiet --release --features lab --bin transport-lab
export PYTHONDONTWRITEBYTECODE=1
out=$(mktemp -d)
host=''
trap '[ -z "$host" ] || kill "$host" 2>/dev/null || true; wait; rm -rf "$out"' EXIT
for scheme in unix shm; do
    program=(host.py "$out/host.sock")
    [ "$scheme" = unix ] || program=(shm_host.py "$out/host.sock" --library "$target/libgenvm_transport.so")
    : >"$out/said" # what the last host said is not taken for this one's
    python3 "examples/python-host/${program[0]}" "${program[@]:1}" >>"$out/said" &
    host=$!
    until grep -q '^listening' "$out/said"; do
        kill -0 "$host"
        sleep 0.05
    done
    "$target/transport-lab" replay --connect "$scheme://$out/host.sock" --trace erc20 --verify
    kill "$host"
    wait "$host"
    host=''
    [ ! -e "$out/host.sock" ]
done
