#!/usr/bin/env bash
# Checks that an endpoint behaves as the fleet takes its provider to: scripts/conformance.sh BASE_URL [PROVIDER...]
# e.g. http://127.0.0.1:8010 (the simulator) or https://api.openai.com/v1 with OPENAI_API_KEY set; the latter is paid.
set -euo pipefail
cd "$(dirname "$0")/.."
source scripts/environment.sh
make_environment .venv devstack
exec .venv/bin/python -P -m fleet.devstack.conformance "$@"
