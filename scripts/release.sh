#!/usr/bin/env bash
# Copies this checkout with an environment of its own to PREFIX/releases/<name>, beside those that are there; prints the
# name. --activate points PREFIX/current to it. --previous prints the release that `current` pointed to before.
set -euo pipefail
cd "$(dirname "$0")/.."
source scripts/environment.sh
prefix=${1:?usage: release.sh PREFIX [--activate|--previous]}

# With the same locked packages, the environment of the current release is taken over: a path in few files is all that
# differs, the rest is linked.
reuse_environment() {
    local old
    old=$(readlink "$prefix/current" 2>/dev/null) || return 0
    (cd "$folder" && [ "$(cat "$old/.venv/.installed" 2>/dev/null)" = "$(fingerprint base)" ]) || return 0
    cp -al "$old/.venv" "$folder/.venv"
    grep -rlIF "$old" "$folder/.venv/bin" "$folder"/.venv/pyvenv.cfg "$folder"/.venv/lib/python*/site-packages/*.pth \
        "$folder"/.venv/lib/python*/site-packages/assistant_fleet-*.dist-info | while read -r file; do
        sed -i "s|$old|$folder|g" "$file"
    done
}

if [ "${2:-}" = --previous ]; then
    readlink "$prefix/previous" | xargs basename
    exit
fi
revision=$(git rev-parse --short=12 HEAD 2>/dev/null || date +%Y%m%d%H%M%S)
version=$(sed -n 's/^version = "\(.*\)"/\1/p' pyproject.toml)
name=$version-$revision
folder=$prefix/releases/$name
if [ ! -e "$folder/.complete" ]; then
    rm -rf "$folder"
    mkdir -p "$folder"
    tar -c --exclude=./.git --exclude='./.venv*' --exclude=./state --exclude=./logs --exclude='./.*_cache' . |
        tar -x --no-same-owner -C "$folder"
    mkdir -p "$folder/logs"
    reuse_environment
    (cd "$folder" && source scripts/environment.sh && make_environment .venv base) >&2
    touch "$folder/.complete"
fi
if [ "${2:-}" = --activate ] && [ "$(readlink "$prefix/current" 2>/dev/null)" != "$folder" ]; then
    [ ! -e "$prefix/current" ] || ln -sfn "$(readlink "$prefix/current")" "$prefix/previous"
    ln -sfn "$folder" "$prefix/.current"
    mv -T "$prefix/.current" "$prefix/current"
fi
echo "$name"
