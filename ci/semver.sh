#!/usr/bin/env bash
# Whether the public API breaks with an older one, in every feature that GenVM and hosts use: `ci/semver.sh [REVISION]`, the last tag without
# one. By hand, before a release; needs cargo-semver-checks (`cargo install --locked cargo-semver-checks`). The exit code is 77 where it could
# not be asked.
set -euo pipefail
cd "$(dirname "$0")/.."
cargo semver-checks --version >/dev/null 2>&1 || { echo "skipped: cargo-semver-checks is not installed"; exit 77; }
revision=${1:-$(git describe --tags --abbrev=0 2>/dev/null || true)}
[ -n "$revision" ] || { echo "skipped: there is no tag to compare with; name a revision"; exit 77; }
cargo semver-checks --baseline-rev "$revision" --only-explicit-features --features uds,shm-named,tcp,prefer-shm,metrics,capi
