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

fleets() { # fleets FOLDER...: one fleet for all tests of these
    .venv/bin/python -m pytest -p no:cacheprovider --durations=10 "${options[@]}" "$@"
}

# Two at once, as long as each other.
reports=$(mktemp -d)
trap 'rm -rf "$reports"' EXIT
(beside; fleets tests/monitoring tests/faults) >"$reports/beside" 2>&1 &
others=$!
status=0
fleets tests/process tests/workflow || status=$?
wait "$others" || status=$?
cat "$reports/beside"
exit "$status"
