#!/usr/bin/env bash
# Features are additive and independent: each alone, and none, compiles without a warning and passes its tests.
set -euo pipefail
for features in "" uds shm shm-named tcp prefer-shm capi metrics lab; do
    printf -- '--- features: %s\n' "${features:-none}"
    cargo clippy --quiet --all-targets --no-default-features --features "$features" -- -D warnings
    cargo test --quiet --no-default-features --features "$features"
done
# `lab` and more rows, which are tested with all features.
printf -- '--- features: peers\n'
cargo clippy --quiet --all-targets --no-default-features --features peers -- -D warnings
