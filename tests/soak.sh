#!/usr/bin/env bash
# The fault catalogue and the fuzz targets with their full counts, in a release build: before a release, or to look for what is rare.
#
#   tests/soak.sh DIR [COUNT] [FAULT…]
#
# Each row of figures is a process of its own, and is appended to DIR/faults.tsv when it ends; DIR/faults.md is made from that file.
# So a run that is stopped loses one row, and the same command goes on where it was: what DIR has, of the same src/ (but for the lab) and with as many
# trials, is not run again. COUNT is `full` (the default), a part of it such as `full/10` (parts add up), or a number of trials for
# everything. FAULT is a part of a row's name, such as `killed@shm` or `fuzz`. Takes some hours on an idle machine, and wants it idle: a
# full run also fails where a fault took longer than allowed. The exit code says whether anything failed.
set -euo pipefail
directory=$(realpath -m "${1:?usage: tests/soak.sh DIR [COUNT] [FAULT…]}")
count=${2:-full}
shift "$(($# < 2 ? $# : 2))"
cd "$(dirname "$0")/.."
mkdir -p "$directory"
rows=$directory/faults.tsv
columns=(date commit src count fault on trials full failures measured p50_us p99_us max_us allowed_us left seconds seed result load machine command seen)
[ -s "$rows" ] || (IFS=$'\t' && echo "${columns[*]}") >"$rows"

scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
export GENVM_FAULTS=$count
tests=$(cargo test --quiet --release --all-features --test faults --no-run --message-format=json |
    sed -n 's/.*"executable":"\([^"]*\/faults-[^"]*\)".*/\1/p')
machine="$(uname -srm), $(nproc) × $(sed -n 's/^model name[^:]*: //p' /proc/cpuinfo | head -1)"
commit=$(git rev-parse --short=12 HEAD)
src=$(git ls-tree -r HEAD src | grep -v '\ssrc/\(lab\|bin\)/' | git hash-object --stdin | cut -c1-12) # the lab takes no part
[ "$(cut -d' ' -f41 /proc/$$/stat)" != 2 ] || scheduled=', SCHED_RR' # what else runs on the machine has to wait
git diff --quiet HEAD -- src tests fuzz Cargo.toml Cargo.lock || { commit+=+ src+=+; } # such rows are run again

# Every row, its trials now and in a full run.
{
    GENVM_FAULTS_LIST=1 "$tests" --nocapture --test-threads=1 |
        sed -n 's/.*fault name=\([^ ]*\) on=\([^ ]*\) /\1@\2 /; s/ skipped=.*/ 1 1/; s/ trials=\(.*\) full=/ \1 /; /@/p'
    case $count in
        full) fuzz=100000 ;;
        full/*) fuzz=$(((100000 + ${count#full/} - 1) / ${count#full/})) ;;
        *) fuzz=$((count < 100 ? 100 : count)) ;; # less finds too little to tell that anything guides it
    esac
    printf "fuzz@%s $fuzz 100000\n" ring greeting codec_request codec_reply
} >"$scratch/all"

# Those that are wanted and that the directory has not, and about how many seconds each takes, going by the last time it was run.
# shellcheck disable=SC2046 # paths in results/ have no spaces
awk -F'\t' -v rows="$rows" -v all="$scratch/all" -v src="$src" -v count="$count" -v faults="$*" '
    FILENAME == all {
        split($0, row, " ")
        some = split(faults, wanted, " ")
        for (i = 1; i <= some; i++) if (index(row[1], wanted[i])) break
        if (some && i > some || have[row[1]] >= (count ~ /^full/ ? row[3] : row[2])) next
        print row[1], row[2], row[3], row[1] in pace ? int(pace[row[1]] * row[2] + 1) : "-"
        next
    }
    $18 != "ok" && $18 != "skipped" { next }
    { key = $5 "@" $6 }
    $7 > 0 { pace[key] = $16 / $7 }
    FILENAME == rows && $3 == src && src !~ /\+$/ && ($4 ~ /^full/) == (count ~ /^full/) { have[key] += $18 == "ok" ? $7 : 1 }
' $(find results -name faults.tsv) "$rows" "$scratch/all" >"$scratch/wanted"
awk -v count="$count" '{ if ($4 == "-") unknown++; seconds += $4 }
    END { printf "%d rows at %s, about %.1f minutes%s\n", NR, count, seconds / 60, unknown ? ", and " unknown " that were never timed" : "" }' "$scratch/wanted"
sed 's/^\(.*\) \(.*\) \(.*\) \(.*\)$/  \1: \2 of \3, \4 s/' "$scratch/wanted"

failed=0
while read -r row trials full _; do
    name=${row%@*} on=${row#*@} result=ok begun=$SECONDS
    printf '%s %s: ' "$(date -u +%H:%M:%S)" "$row"
    if [ "$name" = fuzz ]; then
        # A trial is a thousand executions.
        ci/fuzz.sh "${trials}000x" "$on" >"$scratch/log" 2>&1 </dev/null || result=failed
        executed=$(sed -n 's/ executions, .*//p' "$scratch/log")
        line="fault trials=$((${executed:-0} / 1000)) failures=$([ $result = ok ]; echo $?) measured=0 seconds=$((SECONDS - begun))"
    else
        GENVM_FAULTS_ROW=$row "$tests" --nocapture --test-threads=1 >"$scratch/log" 2>&1 </dev/null || result=failed
        # A watchdog that barks, or a panic outside of a trial, leaves no figures.
        line=$(grep -o 'fault name=.*' "$scratch/log") || { result=died line="fault trials=0 failures=1 seconds=$((SECONDS - begun))"; }
        [[ $line != *skipped=* ]] || { result=skipped line="fault trials=0 failures=0 left=${line##*skipped=}"; }
    fi
    echo "$result, ${line#fault }" | sed 's/name=.* trials=/trials=/'
    line+=" date=$(date -u +%FT%RZ) commit=$commit src=$src count=$count fault=$name on=$on full=$full result=$result"
    awk -v line="$line" -v columns="${columns[*]}" -v load="$(cut -d' ' -f1-3 /proc/loadavg)${scheduled:-}" -v machine="$machine" \
        -v command="tests/soak.sh DIR $count $row" 'BEGIN {
            pairs = split(line, pair, " ")
            for (i = 2; i <= pairs; i++) { at = index(pair[i], "="); of[substr(pair[i], 1, at - 1)] = substr(pair[i], at + 1) }
            of["load"] = load; of["machine"] = machine; of["command"] = command
            width = split(columns, column, " ")
            for (i = 1; i <= width; i++) printf "%s%s", of[column[i]] == "" ? "-" : of[column[i]], i < width ? "\t" : "\n"
        }' >>"$rows"
    [ $result = ok ] || [ $result = skipped ] || { failed=1; grep -v '^test .* ok$' "$scratch/log"; }
done <"$scratch/wanted"

# Of each fault and way the latest row, or what the latest parts of a full run come to: a percentile of the whole is not greater than the
# greatest of its parts. Then those that were never run.
awk -F'\t' -v OFS='\t' -v all="$scratch/all" '
    function greater(a, b) { return b == "-" || a != "-" && a + 0 > b + 0 ? a : b }
    FILENAME == all {
        split($0, row, " ")
        if (!(row[1] in latest)) { missing++; split(row[1], of, "@"); never = never "| " of[1] " | " of[2] " | 0 of " row[3] " | not run yet |\n" }
        next
    }
    FNR == 1 { next }
    {
        key = $5 "@" $6
        if (!(key in latest)) keys[++n] = key
        machines[$20]
        if ($18 != "ok" && $18 != "skipped") {
            bad_runs = bad_runs "| " $1 " | " $5 " | " $6 " | " $18 " | " $4 " | " $9 " of " $7 " | " $12 "/" $13 " | " $14 " | " $15 " | " $19 " | " $17 " | " $2 " |\n"
            latest[key] = $0
            next
        }
        split(sum[key], of)
        if ($4 ~ /^full\// && of[4] ~ /^full\// && of[3] == $3) {
            $7 += of[7]; $9 += of[9]; $10 += of[10]; $16 += of[16]
            for (i = 11; i <= 13; i++) $i = greater($i, of[i])
            $17 = ++parts[key] " parts"
        } else parts[key] = 1
        latest[key] = sum[key] = $0
    }
    END {
        for (k = 1; k <= n; k++) {
            split(latest[keys[k]], of)
            if (of[18] == "skipped") {
                skipped++
                gsub("_", " ", of[15])
                of[9] = "not run: " of[15]; of[15] = "-"
            } else {
                trials += of[7]; failures += of[9]
                if (of[18] != "ok") { bad++; of[9] = "**" of[9] ", " of[18] "**" }
                if (of[7] + 0 < of[8] + 0) { below++; of[7] = of[7] " of " of[8] }
            }
            table = table "| " of[5] " | " of[6] " | " of[7] " | " of[9]
            for (i = 10; i <= 16; i++) table = table " | " of[i]
            gsub(",", ", ", of[22])
            table = table " | " of[19] " | " of[17] " | " of[2] " | " of[1] " | " of[22] " |\n"
        }
        print "# The fault catalogue\n"
        printf "%d rows, %d trials, %d failures. %d rows did not hold, %d have fewer trials than a full run, %d could not be run here, %d are still to be run.\n\n",
            n, trials, failures, bad, below, skipped, missing
        for (machine in machines) print "- on " machine
        print "- made by `tests/soak.sh` from `faults.tsv`, which has every run, its command, and a hash of what of `src/` was run\n"
        print "Times are in microseconds; what is measured and what is allowed says the head of each module of `tests/faults/`. A trial of `wakeups`,"
        print "`soak` and `fuzz` is a thousand calls or executions. Where parts were added up, a time is the greatest of any part. The load is that of"
        print "the machine when the row ended, the row itself included.\n"
        print "| fault | on | trials | failures | measured | p50 | p99 | max | allowed p99/max | left behind | seconds | load | seed | commit | ended | seen |"
        print "| --- | --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: | --- | ---: | --- | --- | --- | --- | --- |"
        printf "%s%s", table, never
        if (bad_runs != "") {
            print "\n## Runs that did not hold\n"
            print "| ended | fault | on | result | count | failures | p99/max | allowed | left behind | load | seed | commit |"
            print "| --- | --- | --- | --- | --- | ---: | ---: | ---: | --- | --- | --- | --- |"
            printf "%s", bad_runs
        }
    }' "$rows" "$scratch/all" >"$scratch/faults.md"
mv "$scratch/faults.md" "$directory/faults.md"
if [ $failed = 0 ]; then echo "nothing failed: $directory/faults.md"; else echo "something failed: $directory/faults.md"; fi
exit $failed
