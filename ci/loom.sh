#!/usr/bin/env bash
# The real ring, doorbell and channel under the model checker, in every order or, where those are too many, in each with few
# preemptions: `src/shm/orders.rs`. Takes half a minute once it is built. `ci/loom.sh MORE` allows so many more preemptions.
set -euo pipefail
export GENVM_LOOM_MORE=${1:-0}
export CARGO_TARGET_DIR=${CARGO_TARGET_DIR:-target}/loom
RUSTFLAGS="--cfg genvm_loom -D warnings" cargo test --quiet --release --no-default-features --features shm --lib shm::orders
