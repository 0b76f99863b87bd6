#!/usr/bin/env bash
# Makes the environment, then shows a whole pipeline on a real fleet with simulated providers.
# Arguments go to `fleet demo`: --json, --keep, --port-base N.
set -euo pipefail
cd "$(dirname "$0")/.."
source scripts/environment.sh
make_environment .venv devstack
exec .venv/bin/fleet demo "$@"
