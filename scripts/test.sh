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

# Google's older SDK cannot share an environment with the rest; it is made and tested beside the other tests.
test_gemini_legacy() {
    make_environment .venv-gemini-legacy gemini-legacy test
    .venv-gemini-legacy/bin/python -m pytest -q -p no:cacheprovider -o filterwarnings=default tests/simulator/legacy
}

if [ $# -gt 0 ]; then
    exec .venv/bin/python -m pytest "${options[@]}" "$@"
fi
report=$(mktemp)
trap 'rm -f "$report"' EXIT
(set -e; test_gemini_legacy) >"$report" 2>&1 &
legacy=$!
status=0
.venv/bin/python -m pytest "${options[@]}" || status=$?
wait "$legacy" || status=$?
echo "google-generativeai, in its own environment:"
cat "$report"
exit "$status"
