#!/usr/bin/env bash
# Is this machine's fleet well? One line a problem; the exit status is 0 or 1. --json as `fleet health` has it.
# It asks the installed fleet where there is one, otherwise that of this checkout.
set -euo pipefail
cd "$(dirname "$0")/.."
for fleet in "$(command -v fleet || true)" /usr/local/bin/fleet .venv/bin/fleet; do
    [ ! -x "$fleet" ] || exec "$fleet" health "$@"
done
echo "there is no fleet command here. Remedy: sudo scripts/install.sh, or scripts/demo.sh" >&2
exit 1
