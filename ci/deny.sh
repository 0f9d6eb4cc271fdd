#!/usr/bin/env bash
# The dependencies are what deny.toml lets in. With cargo-deny installed it checks them, advisories included; without, what the lock
# file alone can tell is checked here: licences, sources and duplicates. Either way, nothing in deny.toml is left over.
set -euo pipefail
cd "$(dirname "$0")/.."
if command -v cargo-deny >/dev/null; then
    cargo deny check
fi
cargo metadata --format-version 1 --all-features | python3 -c '
import collections, json, re, sys, tomllib
rules = tomllib.load(open("deny.toml", "rb"))
meta = json.load(sys.stdin)
packages = {p["id"]: p for p in meta["packages"]}
root = meta["resolve"]["root"]
nodes = {n["id"]: n for n in meta["resolve"]["nodes"]}
wrong = []

allowed = set(rules["licenses"]["allow"])
exceptions = {e["crate"]: set(e["allow"]) for e in rules["licenses"]["exceptions"]}
needed, used = set(), set()
for p in meta["packages"]:
    mine = allowed | exceptions.get(p["name"], set())
    # An expression of licences, each "X" or "X WITH Y"; the old form has a slash for "or".
    expression = (p["license"] or "none").replace("/", " OR ")
    names = re.findall(r"[\w.+-]+(?: WITH [\w.-]+)?", re.sub(r"\b(AND|OR)\b", " ; ", expression))
    holds = lambda have: eval(re.sub(r"[\w.+-]+(?: WITH [\w.-]+)?", lambda m: {"AND": "and", "OR": "or"}.get(m[0], str(m[0] in have)), expression))
    if not holds(mine):
        wrong.append(p["name"] + " is under " + expression)
    needed |= {name for name in names if name in mine and not holds(mine - {name})}
    used |= {p["name"]} if p["name"] in exceptions and not holds(allowed) else set()
    if p["id"] != root and p["source"] != "registry+https://github.com/rust-lang/crates.io-index":
        wrong.append(p["name"] + " comes from " + str(p["source"]))
    if any(p["name"] == ban["crate"] for ban in rules["bans"]["deny"]):
        wrong.append(p["name"] + " is banned")
wrong += [name + " is an exception that nothing needs" for name in exceptions.keys() - used]
wrong += [name + " is allowed and nothing needs it" for name in allowed - needed]

skipped = {tree["crate"] for tree in rules["bans"]["skip-tree"]}
def reached(stops):
    seen, todo = set(), [root]
    while todo:
        at = todo.pop()
        if at not in seen and packages[at]["name"] not in stops:
            seen.add(at)
            todo += [d["pkg"] for d in nodes[at]["deps"] if any(k["kind"] != "dev" for k in d["dep_kinds"])]
    return seen
def duplicates(stops):
    versions = collections.defaultdict(set)
    for id in reached(stops):
        versions[packages[id]["name"]].add(packages[id]["version"])
    return {name: found for name, found in versions.items() if len(found) > 1}
wrong += [name + " is there in versions " + ", ".join(sorted(found)) for name, found in duplicates(skipped).items()]
wrong += [name + " is skipped without need" for name in skipped if not duplicates(skipped - {name})]

for what in wrong:
    print(what)
print(len(packages), "packages;", len(reached(set())), "of them not only for tests")
sys.exit(bool(wrong))'
