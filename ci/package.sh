#!/usr/bin/env bash
# What would be published is whole, small, and nothing but what its users need: it builds by itself, and `cargo install` makes of it a lab
# that plays a recorded execution.
set -euo pipefail
cd "$(dirname "$0")/.."
target=${CARGO_TARGET_DIR:-$PWD/target}
out=$(mktemp -d)
host=''
trap '[ -z "$host" ] || kill "$host" 2>/dev/null || true; wait; rm -rf "$out"' EXIT

cargo package --quiet --allow-dirty # and builds what it packed
package=genvm-transport-$(cargo pkgid | sed 's/.*[#@]//')
tar --list --file "$target/package/$package.crate" | cut -d/ -f2- >"$out/files"
git ls-files | sort >"$out/tracked"
# Cargo adds these.
added='^(Cargo\.toml\.orig|\.cargo_vcs_info\.json)$'
if sort "$out/files" | grep -Ev "$added" | comm -23 - "$out/tracked" | grep .; then echo 'is packed, and in no commit'; exit 1; fi
if grep -E '^(results|fuzz|ci|\.)|^examples/executor' "$out/files" | grep -Ev "$added"; then echo 'has no business in the package'; exit 1; fi
for file in README.md CHANGELOG.md LICENSE-MIT LICENSE-APACHE Cargo.lock include/genvm_transport.h; do
    grep -qx "$file" "$out/files" || { echo "$file is missing"; exit 1; }
done
size=$(stat --format %s "$target/package/$package.crate")
echo "$package: $(wc -l <"$out/files") files, $((size / 1024)) KiB"
[ "$size" -le $((1024 * 1024)) ] || { echo 'more than 1 MiB'; exit 1; }

mkdir "$out/source"
tar --extract --file "$target/package/$package.crate" --directory "$out/source"
CARGO_TARGET_DIR=$target cargo install --quiet --debug --locked --features lab --path "$out/source/$package" --root "$out"
"$out/bin/transport-lab" host --listen "unix://$out/host.sock" >"$out/said" &
host=$!
until grep -q '^listening on ' "$out/said"; do
    kill -0 "$host"
    sleep 0.05
done
"$out/bin/transport-lab" replay --connect "unix://$out/host.sock" --trace storage --executions 0..1 --verify
