#!/usr/bin/env bash
# The documentation builds without a warning: no broken link, no undocumented public item.
set -euo pipefail
RUSTDOCFLAGS="-D warnings" cargo doc --all-features --no-deps
