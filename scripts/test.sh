#!/usr/bin/env bash
# Makes the environments and passes the tests. --all adds those that need Debian packages and forbids skips;
# other arguments go to pytest.
set -euo pipefail
cd "$(dirname "$0")/.."
source scripts/environment.sh
options=(-m "not debian")
if [ "${1:-}" = --all ]; then
    shift
    options=(--forbid-skips)
fi
make_environment .venv dev
make_environment .venv-gemini-legacy gemini-legacy test
# Google's older SDK cannot share an environment with the rest, so its tests have one of their own.
.venv-gemini-legacy/bin/python -m pytest -q -p no:cacheprovider -o filterwarnings=default \
    tests/simulator/legacy
.venv/bin/python -m pytest "${options[@]}" "$@"
