#!/usr/bin/env bash
# A fleet that is scaled, rolled, restarted and killed while pipelines run: soak.sh [--minutes M] [--seed N] [--json]
set -euo pipefail
cd "$(dirname "$0")/.."
source scripts/environment.sh
make_environment .venv dev
exec .venv/bin/python -m bench.soak "$@"
