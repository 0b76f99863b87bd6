#!/usr/bin/env bash
# Measures on this machine: bench.sh limits [--scenario a] [--quick] [--json] | observability [--json] | startup [--json] |
# journal | simulator. See bench/README.md.
set -euo pipefail
cd "$(dirname "$0")/.."
source scripts/environment.sh
make_environment .venv dev
what=${1:-}
[ $# -gt 0 ] && shift
case "$what" in
limits) exec .venv/bin/python -m bench.limits "$@" ;;
observability | pause | startup | law) exec .venv/bin/python -m "bench.$what" "$@" ;;
journal | simulator) exec .venv/bin/python "bench/$what.py" "$@" ;;
*)
    echo "usage: scripts/bench.sh limits|observability|pause|startup|law|journal|simulator [OPTION...]" >&2
    exit 2
    ;;
esac
