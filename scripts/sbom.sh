#!/usr/bin/env bash
# Writes what an installation contains to standard output, in CycloneDX, from its lock:
#   scripts/sbom.sh [LOCK]      base by default; devstack, gemini-legacy, dev, build
set -euo pipefail
cd "$(dirname "$0")/.."
source scripts/environment.sh
lock=${1:-base}
if [ ! -f "requirements/$lock.txt" ]; then
    echo "There is no lock requirements/$lock.txt. Remedy: name one of $(locks)" >&2
    exit 2
fi
make_tools .venv-audit audit
.venv-audit/bin/python -W ignore -m cyclonedx_py requirements --output-reproducible --of JSON "requirements/$lock.txt"
