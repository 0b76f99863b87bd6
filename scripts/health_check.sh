#!/usr/bin/env bash
# Is this machine's fleet well? One line a problem; the exit status is 0 or 1. --json as `fleet health` has it.
set -euo pipefail
cd "$(dirname "$0")/.."
exec .venv/bin/fleet health "$@"
