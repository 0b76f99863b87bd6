#!/usr/bin/env bash
# Makes the environment and passes the tests. --all adds those that need Debian packages and forbids skips;
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
.venv/bin/python -m pytest "${options[@]}" "$@"
