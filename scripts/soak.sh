#!/usr/bin/env bash
# A fleet that is scaled, rolled, restarted and killed while pipelines run: soak.sh [--minutes M] [--seed N]
#   [--machines K] [--json]
# The merged log under rotations and kills: soak.sh logs [--lines N]
# A file of topics, while workers and the command are killed: soak.sh topics [--rows N] [--seed N] [--json]
set -euo pipefail
cd "$(dirname "$0")/.."
source scripts/environment.sh
make_environment .venv dev
if [ "${1:-}" = logs ]; then
    shift
    exec .venv/bin/python -m bench.soak.log_lines "$@"
fi
if [ "${1:-}" = topics ]; then
    shift
    exec .venv/bin/python -m bench.soak.topics "$@"
fi
exec .venv/bin/python -m bench.soak "$@"
