#!/usr/bin/env bash
# Writes the rendered files in place: the settings tables of both deployment guides, the alert rules, and the OpenAPI
# description of the control process.
# --check writes nothing and fails if one is stale.
set -euo pipefail
cd "$(dirname "$0")/.."
source scripts/environment.sh
make_environment .venv dev
exec .venv/bin/python -m scripts.render "$@"
