#!/usr/bin/env bash
# Peers in other languages: a host and a client in Python, over sockets and on the C library; a program in C; the header. Without
# `python3` or `cc`, `cargo test` skips these tests with a notice; here that is a failure.
set -euo pipefail
cd "$(dirname "$0")/.."
export GENVM_FOREIGN_REQUIRED=1
cargo test --all-features --test python --test capi
# With all features `unix://` asks for shared memory first; here nothing but the plain socket is compiled in.
cargo test --no-default-features --features uds --test python

# The library, built as README.md says, exports the functions of its header and nothing else.
cargo rustc --quiet --release --lib --features capi,shm --crate-type cdylib
declared=$(grep -o 'genvm_[a-z_]*(' include/genvm_transport.h | tr -d '(' | sort -u)
exported=$(nm --dynamic --defined-only "${CARGO_TARGET_DIR:-target}/release/libgenvm_transport.so" | awk '{ print $3 }' | sort)
diff <(echo "$declared") <(echo "$exported")
echo "$(wc -l <<<"$declared") functions exported, as declared"
