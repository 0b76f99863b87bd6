#!/usr/bin/env bash
# Writes the hash-locked requirements files anew from pyproject.toml; the files name no package index.
set -euo pipefail
cd "$(dirname "$0")/.."
source scripts/environment.sh
make_environment .venv dev

# pip asks in hash mode for the extras by name (google-auth[requests]), so they are written out: otherwise it takes the
# newest version for them as soon as there is a newer one than the locked.
lock() { # lock FILE ARGUMENT...
    local file=$1
    shift
    .venv/bin/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-annotate \
        --no-strip-extras --no-emit-index-url --no-header --output-file "requirements/$file" "$@"
}

lock build.txt requirements/build.in
lock base.txt pyproject.toml
lock devstack.txt --extra devstack --constraint requirements/base.txt pyproject.toml
lock dev.txt --extra dev --constraint requirements/base.txt --override requirements/override.in \
    pyproject.toml
# Google's older SDK holds protobuf back, so it is resolved on its own and never constrains the default.
lock gemini-legacy.txt --extra gemini-legacy pyproject.toml
# What tests need beside it, and nothing of the default install: the two files go into one environment.
lock test.txt requirements/test.in --constraint requirements/dev.txt
