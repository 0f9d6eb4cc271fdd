#!/usr/bin/env bash
# The stated minimum Rust version, checked without a second toolchain: clippy knows which std items are newer, and every
# dependency of the library and of the lab says what it needs. With that toolchain installed, `cargo +1.88 check` says the same.
set -euo pipefail
cargo clippy --quiet --all-features -- -D clippy::incompatible_msrv
cargo metadata --format-version 1 --all-features | python3 -c '
import json, sys
meta = json.load(sys.stdin)
packages = {p["id"]: p for p in meta["packages"]}
version = lambda text: tuple(int(n) for n in (text + ".0.0").split(".")[:3])
root = meta["resolve"]["root"]
ours = packages[root]["rust_version"]
nodes = {n["id"]: n for n in meta["resolve"]["nodes"]}
seen, todo = set(), [root]
while todo:  # what the crate is built from, without what only its tests need
    at = todo.pop()
    if at not in seen:
        seen.add(at)
        todo += [d["pkg"] for d in nodes[at]["deps"] if any(k["kind"] != "dev" for k in d["dep_kinds"])]
late = [p for p in map(packages.get, seen) if p["rust_version"] and version(p["rust_version"]) > version(ours)]
for p in late:
    print(p["name"], p["version"], "needs Rust", p["rust_version"], "but we promise", ours)
print(len(seen), "packages fit Rust", ours)
sys.exit(bool(late))'
