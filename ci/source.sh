#!/usr/bin/env bash
# How much source there is of what ADR-003 weighs: results/source.csv. Code only: no empty lines, no comments, no tests and no models; unsafe
# blocks, functions and implementations; places where an order of memory is named.
#
#   ci/source.sh            the table is up to date within a tenth, or as it was made
#   ci/source.sh --write    makes it anew; `cargo lab report` brings it onto its page
set -euo pipefail
cd "$(dirname "$0")/.."
table=results/source.csv

count() {
    local part=$1
    shift
    # Names of tests and models end the list: they are compiled for nobody else.
    find "$@" -name '*.rs' ! -name tests.rs ! -name documented.rs ! -name orders.rs ! -name model.rs ! -name fuzzing.rs -print0 |
        sort -z | xargs -0 awk -v part="$part" '
            FNR == 1 { files++; over = 0 }
            /^#\[cfg\(test\)\]$/ { over = 1 } # a module of tests is the end of its file
            over || /^[ \t]*(\/\/|$)/ { next }
            { lines++; sub(/[ \t]\/\/ .*/, "") }
            { unsafes += gsub(/(^|[^_[:alnum:]])unsafe (\{|fn|impl|extern)/, "&") }
            !/^ *(pub(\([a-z]+\))? )?use / { orders += gsub(/(^|[^_[:alnum:]])(Relaxed|Acquire|Release|AcqRel|SeqCst)([^_[:alnum:]]|$)/, "&") }
            END { printf "%s,%d,%d,%d,%d\n", part, files, lines, unsafes, orders }'
}

made=$(
    echo part,files,lines,unsafe,orderings
    count 'Unix socket' src/uds.rs src/socket
    count 'shared memory' src/shm src/sync.rs
    count 'waiting (both)' src/wait.rs
    count 'cache of pages' src/storage
    count 'batches' src/protocol/batch.rs src/protocol/window.rs
)
case ${1:-} in
    --write) echo "$made" >"$table" ;;
    '')
        # Exact numbers would change with every commit; what is argued from them does not.
        paste -d, <(echo "$made") "$table" | awk -F, '
            NR == 1 { if ($1 FS $2 FS $3 FS $4 FS $5 != $6 FS $7 FS $8 FS $9 FS $10) { print "other columns"; bad = 1 } next }
            $1 != $6 { print "counted " $1 ", the table has " $6; bad = 1 }
            { for (i = 2; i <= 5; i++) if (($i - $(i + 5)) ^ 2 > ($(i + 5) / 10) ^ 2 && ($i - $(i + 5)) ^ 2 > 4) { print $1 ": " $i ", the table has " $(i + 5); bad = 1 } }
            END { exit bad }' || { echo "$table is no longer true: ci/source.sh --write, then cargo lab report"; exit 1; }
        echo "$table is true within a tenth"
        ;;
    *) echo "usage: ci/source.sh [--write]"; exit 2 ;;
esac
