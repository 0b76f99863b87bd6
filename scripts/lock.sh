#!/usr/bin/env bash
# Writes the hash-locked requirements files anew from pyproject.toml; the files name no package index.
set -euo pipefail
cd "$(dirname "$0")/.."
source scripts/environment.sh
make_environment .venv dev

# pip asks in hash mode for the extras by name (google-auth[requests]), so they are written out: otherwise it takes the
# newest version for them as soon as there is a newer one than the locked.
#
# A lock names wheels only: installing one runs no code of a package. The exceptions have no wheel; pip reads the options
# from top to bottom, so the general one comes first.
SOURCE_ONLY=(supervisor-twiddler)

lock() { # lock FILE ARGUMENT...
    local file=$1 package source=()
    shift
    for package in "${SOURCE_ONLY[@]}"; do source+=(--no-binary "$package"); done
    .venv/bin/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-annotate \
        --no-strip-extras --no-emit-index-url --no-header --only-binary :all: "${source[@]}" \
        --output-file "requirements/$file" "$@"
    {
        echo "--only-binary :all:"
        for package in "${SOURCE_ONLY[@]}"; do
            if grep -q "^$package==" "requirements/$file"; then echo "--no-binary $package"; fi
        done
        grep -v -e "^--only-binary" -e "^--no-binary" "requirements/$file"
    } >"requirements/$file.new"
    mv "requirements/$file.new" "requirements/$file"
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
lock audit.txt requirements/audit.in
