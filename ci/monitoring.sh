#!/usr/bin/env bash
# Alert rules and dashboard of docs/monitoring in Prometheus' own eyes: they are well formed, and the alerts fire when they should. Where there
# is no promtool (Debian: `prometheus`), this is skipped and says so; tests/monitoring.rs checks names and form without it.
set -euo pipefail
cd "$(dirname "$0")/../docs/monitoring"
promtool=$(command -v promtool || true)
[ -n "$promtool" ] || { echo "skipped: no promtool to read the rules with"; exit 0; }
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
"$promtool" check rules alerts.yml
"$promtool" test rules alerts_test.yml
# The dashboard's expressions as rules, since that is what promtool reads; Grafana puts a time in place of its variables.
python3 - dashboard.json >"$work/dashboard.yml" <<'PY'
import json, re, sys
panels = json.load(open(sys.argv[1]))["panels"]
exprs = [re.sub(r"\$__\w+", "5m", target["expr"]) for panel in panels for target in panel["targets"]]
assert len(exprs) >= len(panels) > 0
rules = [{"record": f"panel:{number}", "expr": expr} for number, expr in enumerate(exprs)]
print(json.dumps({"groups": [{"name": "dashboard", "rules": rules}]}))
PY
"$promtool" check rules "$work/dashboard.yml"
