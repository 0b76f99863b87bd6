#!/usr/bin/env bash
# What a reviewer would otherwise have to look for: format, lint, types, import direction, licences, rendered files, shell.
set -euo pipefail
cd "$(dirname "$0")/.."
source scripts/environment.sh
make_environment .venv dev
.venv/bin/ruff format --check .
.venv/bin/ruff check .
.venv/bin/mypy
.venv/bin/lint-imports
.venv/bin/python scripts/check_words.py
.venv/bin/python scripts/check_licences.py
scripts/render.sh --check
for script in scripts/*.sh .ci/run; do bash -n "$script"; done
