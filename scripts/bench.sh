#!/usr/bin/env bash
# Measures on this machine: bench.sh limits [--scenario a] [--quick] [--json] | observability [--json] | startup [--json] |
# throughput [--json] | parts [--json] | critical-path [--json] | growth [--json] | memory [--json] |
# drains [--json] | replay [--json] | journal | simulator. See bench/README.md.
set -euo pipefail
cd "$(dirname "$0")/.."
source scripts/environment.sh
make_environment .venv dev
what=${1:-}
[ $# -gt 0 ] && shift
case "$what" in
limits) exec .venv/bin/python -m bench.limits "$@" ;;
observability | pause | startup | law | throughput | growth | drains | replay) exec .venv/bin/python -m "bench.$what" "$@" ;;
critical-path) exec .venv/bin/python -m bench.critical_path "$@" ;;
memory | parts) exec .venv/bin/python -m "bench.throughput.$what" "$@" ;;
journal | simulator) exec .venv/bin/python "bench/$what.py" "$@" ;;
*)
    echo "usage: scripts/bench.sh limits|observability|pause|startup|law|throughput|parts|critical-path|growth|memory|drains|replay|journal|simulator [OPTION...]" >&2
    exit 2
    ;;
esac
