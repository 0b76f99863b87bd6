#!/usr/bin/env bash
# Makes the environment and runs the main job: one pipeline on a supervised fleet with simulated providers.
# Arguments go to `fleet demo`, e.g. --keep or --json.
set -euo pipefail
cd "$(dirname "$0")/.."
source scripts/environment.sh
make_environment .venv devstack
exec .venv/bin/fleet demo "$@"
