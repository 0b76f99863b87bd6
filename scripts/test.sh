#!/usr/bin/env bash
# Makes the environments and passes the tests. --all adds those that need Debian packages and forbids skips;
# other arguments go to pytest, and leave out the tests that have an environment of their own.
set -euo pipefail
cd "$(dirname "$0")/.."
source scripts/environment.sh
options=(-m "not debian")
if [ "${1:-}" = --all ]; then
    shift
    options=(--forbid-skips)
fi
make_environment .venv dev
if [ $# -gt 0 ]; then
    exec .venv/bin/python -m pytest "${options[@]}" "$@"
fi

# Tests of whole fleets mostly wait; those that compute run beside them, politely.
quick=(tests/unit tests/simulator tests/backend)

# Google's older SDK cannot share an environment with the rest, so its tests have one of their own.
beside() {
    echo "=== ${quick[*]}"
    nice .venv/bin/python -m pytest -q -p no:cacheprovider "${options[@]}" "${quick[@]}"
    echo "=== google-generativeai, in its own environment"
    make_environment .venv-gemini-legacy gemini-legacy test
    nice .venv-gemini-legacy/bin/python -m pytest -q -p no:cacheprovider -o filterwarnings=default \
        tests/simulator/legacy
}

report=$(mktemp)
trap 'rm -f "$report"' EXIT
(beside) >"$report" 2>&1 &
others=$!
status=0
.venv/bin/python -m pytest "${options[@]}" "${quick[@]/#/--ignore=}" || status=$?
wait "$others" || status=$?
cat "$report"
exit "$status"
