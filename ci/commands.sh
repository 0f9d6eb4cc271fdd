#!/usr/bin/env bash
# What the pages say to type does what it says: every line of a block of shell is run, from the root and in its order; a `Cargo.toml` is
# given to cargo, JSON is parsed. Rust is run by `cargo test --test docs`, which also gives the lab every command that stands in a sentence.
# A line is left out only where a comment before its block, which nobody sees on the page, names its beginning and the reason:
#     <!-- not run: cargo bench (4 minutes) -->
set -euo pipefail
cd "$(dirname "$0")/.."
target=${CARGO_TARGET_DIR:-target}
work=$(mktemp -d)
record=$(dirname "$(printf '%s\n' results/*/commands.txt | tail -1)") # the newest
hosts=()
ended() {
    for host in "${hosts[@]}"; do kill "$host" 2>/dev/null || true; done
    wait
    rm -rf "$work"
}
trap ended EXIT
export PYTHONDONTWRITEBYTECODE=1
ran=0 left_out=0

complain() { echo "$page: $*" >&2; exit 1; }

run_sh() {
    local line command excuse number excused used=()
    for line in "${lines[@]}"; do
        command=$(sed -E 's/ +# .*//; s#/(run|tmp)/host\.sock#'"$work"'/host.sock#g; s#target/release#'"$target"'/release#g; s#results/(DIRECTORY|DATE-MACHINE)#'"$record"'#g' <<<"$line")
        [[ $command != *"lab advise"* ]] || command+=' --other-machine' # the record is not of whoever runs this
        [ -n "$command" ] || continue
        excused=
        for number in "${!excuses[@]}"; do
            excuse=${excuses[number]}
            if [[ $command == "${excuse%% (*}"* ]]; then excused=$excuse used[number]=1; fi
        done
        if [ -n "$excused" ]; then
            echo "$page: not run: $excused"
            left_out=$((left_out + 1))
            continue
        fi
        echo "$page: $command"
        ran=$((ran + 1))
        case $line in
            *'until Ctrl-C'*)
                eval "$command" '>"$work/said" &'
                hosts+=($!)
                until [ -e "$work/host.sock" ]; do kill -0 "${hosts[-1]}" || complain 'it ended'; sleep 0.05; done
                ;;
            *) eval "$command" >"$work/out" </dev/null || { cat "$work/out"; complain "that failed"; } ;;
        esac
    done
    [ ${#used[@]} = ${#excuses[@]} ] || complain "a comment excuses what is not in its block: ${excuses[*]}"
    for host in "${hosts[@]}"; do kill "$host"; wait "$host" || complain 'a host did not end well'; done
    hosts=()
    [ ! -e "$work/host.sock" ] || complain 'a host left its socket behind'
}

run_toml() {
    mkdir -p "$work/crate/src"
    : >"$work/crate/src/lib.rs"
    {
        printf '[package]\nname = "reader"\nversion = "0.0.0"\nedition = "2024"\n[dependencies]\n'
        printf '%s\n' "${lines[@]}"
        printf '[patch.crates-io]\ngenvm-transport = { path = "%s" }\n' "$PWD"
    } >"$work/crate/Cargo.toml"
    cp Cargo.lock "$work/crate/"
    echo "$page: ${lines[*]}"
    cargo tree --quiet --manifest-path "$work/crate/Cargo.toml" --depth 1 | grep -q genvm-transport || complain 'cargo does not take that'
    ran=$((ran + 1))
}

run_json() { printf '%s\n' "${lines[@]}" | python3 -m json.tool >/dev/null || complain 'that is no JSON'; }
run_rust() { :; } # tests/docs.rs
run_text() { :; }

for page in README.md CONTRIBUTING.md docs/*.md docs/*/README.md benches/README.md examples/*/README.md results/README.md; do
    block='' excuses=()
    while IFS= read -r line <&3; do
        if [ -n "$block" ]; then
            if [ "$line" = '```' ]; then "run_$block"; block='' excuses=(); else lines+=("$line"); fi
            continue
        fi
        case $line in
            '<!-- not run: '*' ('*') -->') line=${line#'<!-- not run: '} excuses+=("${line%' -->'}") ;;
            '```rust'*) block=rust lines=() ;;
            '```'*) block=${line#'```'} lines=(); [[ $(type -t "run_$block") == function ]] || complain "what is $line?" ;;
        esac
    done 3<"$page"
    [ -z "$block" ] || complain 'a block has no end'
done
[ $ran -gt 8 ] || { echo "only $ran commands were found"; exit 1; }
echo "$ran commands run, $left_out left out for their reasons"
