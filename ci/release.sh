#!/usr/bin/env bash
# What has to hold before a release: `ci/release.sh DIR [COUNT [STEP…]]`, DIR as `results/2026-11-26-faults`. Every check of a change, and then
# what takes too long for each of them: the memory orders with more preemptions, every recorded execution, and the faults and the fuzzing with
# their full counts, whose figures go to DIR (`tests/soak.sh`, which goes on where a run was stopped; COUNT is for it). STEP is a part of a
# step's command. Goes through all steps, says at the end which held and how long they took, and fails if one did not.
set -euo pipefail
directory=$(realpath -m "${1:?usage: ci/release.sh DIR [COUNT [STEP…]]}")
count=${2:-full}
shift "$(($# < 2 ? $# : 2))"
cd "$(dirname "$0")/.."
git diff --quiet HEAD || { echo 'a release is of a commit, and there are changes'; exit 1; }

summary='' failed=0 ran=0
step() {
    local part wanted=$((${#parts[@]} == 0)) begun=$SECONDS result=held
    for part in "${parts[@]}"; do [[ $* != *$part* ]] || wanted=1; done
    [ $wanted = 1 ] || { summary+="left out         $*"$'\n'; return; }
    ran=1
    printf '\n##### %s\n' "$*"
    "$@" || case $? in
        77) result=skipped ;;
        *) result=FAILED failed=1 ;;
    esac
    summary+=$(printf '%-8s %6d s %s' $result $((SECONDS - begun)) "$*")$'\n'
}

parts=("$@")
step .ci/run
step ci/semver.sh
step ci/loom.sh 1
step ci/replay.sh
step tests/soak.sh "$directory" "$count"
printf '\n##### %s, count %s\n%s' "$(git rev-parse HEAD)" "$count" "$summary"
[ $ran = 1 ] || { echo "no step is called like that: ${parts[*]}"; exit 1; }
exit $failed
