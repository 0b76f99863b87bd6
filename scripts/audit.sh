#!/usr/bin/env bash
# Looks for known weaknesses of the locked dependencies; needs the internet:
#   scripts/audit.sh [LOCK]...      all locks by default
# Exit status: 0 none is known, 1 there are some, 2 they could not be looked up.
set -euo pipefail
cd "$(dirname "$0")/.."
source scripts/environment.sh
read -ra wanted <<<"${*:-$(locks)}"
make_tools .venv-audit audit
status=0
for lock in "${wanted[@]}"; do
    report=$(mktemp)
    # --strict: a package that could not be looked up is an error, and no package without weaknesses.
    .venv-audit/bin/pip-audit --strict --progress-spinner off --require-hashes --disable-pip --format json \
        --output "$report" -r "requirements/$lock.txt" || true
    .venv-audit/bin/python scripts/read_audit.py "$lock" "$report" || {
        found=$?
        status=$((found > status ? found : status))
    }
    rm -f "$report"
done
exit "$status"
