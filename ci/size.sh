#!/usr/bin/env bash
# What GenVM takes on with a default build: how many crates, held against 25 and against README.md. With `--time`, by hand on an idle
# machine, also how long they and this one take to compile from nothing, in seconds, held against 20.
set -euo pipefail
cd "$(dirname "$0")/.."
most=25 longest=20
crates=$(cargo tree --edges normal,build --prefix none --format '{p}' | sed 's/ (.*//' | sort -u | grep -cv '^genvm-transport ')
echo "$crates crates"
[ "$crates" -le $most ] || { echo "more than $most"; exit 1; }
grep -q "pulls $crates crates" README.md || { echo "README.md says $(grep -o 'pulls [0-9]* crates' README.md)"; exit 1; }
[ "${1:-}" = --time ] || exit 0
target=$(mktemp -d)
trap 'rm -rf "$target"' EXIT
cargo fetch --quiet
started=$(date +%s)
CARGO_TARGET_DIR=$target cargo build --quiet
seconds=$(($(date +%s) - started))
echo "compiled in $seconds s on $(nproc) cores"
[ $seconds -le $longest ] || { echo "longer than $longest s"; exit 1; }
