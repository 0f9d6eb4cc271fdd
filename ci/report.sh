#!/usr/bin/env bash
# Every page and plot in results/ is what the recorded data give, number by number; and in what people wrote of ADR-follow-up.md there is no
# number of a measurement. The model of `advise` is as near to them as it has to be.
set -euo pipefail
cd "$(dirname "$0")/.."
ci/source.sh
directories=()
for commands in results/*/commands.txt; do
    directories+=("$(dirname "$commands")")
done
lab() { cargo run --quiet --release --features lab --bin transport-lab -- "$@"; }
lab report --check "${directories[@]}"
for directory in "${directories[@]}"; do
    lab advise --check --results "$directory" --other-machine | diff "$directory/model.txt" -
done
echo "${#directories[@]} recorded directories say what their pages say"
