#!/usr/bin/env bash
# Every page and plot in results/ is what the recorded data give, number by number; and in what people wrote of ADR-follow-up.md there is no
# number of a measurement.
set -euo pipefail
cd "$(dirname "$0")/.."
ci/source.sh
directories=()
for commands in results/*/commands.txt; do
    directories+=("$(dirname "$commands")")
done
cargo run --quiet --release --features lab --bin transport-lab -- report --check "${directories[@]}"
echo "${#directories[@]} recorded directories say what their pages say"
