#!/usr/bin/env bash
# Copies what is committed in this checkout, with an environment of its own, to PREFIX/releases/<name>, beside those
# that are there; prints the name. What is no git checkout, such as an unpacked archive, is copied as it is.
set -euo pipefail
umask 022
cd "$(dirname "$0")/.."
source scripts/environment.sh
prefix=${1:?usage: release.sh PREFIX}

# Whoever runs this trusts the checkout, whoever owns it, and leaves its files to that owner.
git() { GIT_OPTIONAL_LOCKS=0 command git -c safe.directory="$(pwd -P)" -c tar.umask=0022 "$@"; }
is_checkout() { [ "$(git rev-parse --show-toplevel 2>/dev/null)" = "$(pwd -P)" ]; }

copy() { # copy FOLDER
    if is_checkout; then
        if [ -n "$(git status --porcelain --untracked-files=no)" ]; then
            echo "release.sh: what is not committed here is left out" >&2
        fi
        git archive HEAD | tar -x --no-same-owner -C "$1"
    else
        tar -c --exclude=./.git --exclude='./.venv*' --exclude=./.env --exclude=./fleet.toml --exclude=./state \
            --exclude=./logs --exclude='./.*_cache' . | tar -x --no-same-owner -C "$1"
    fi
}

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

# Processes find their environment by a link that the next roll turns; what they import later is still to be of their
# own release.
hold_to_release() {
    local packages
    for packages in "$folder"/.venv/lib/python*/site-packages; do
        rm -f "$packages/0_release.pth" # it may be linked to that of another release
        echo 'import os, sys; sys.path[:] = [os.path.realpath(entry) for entry in sys.path]' >"$packages/0_release.pth"
    done
}

# A service may not write here, so it would compile all its modules at each start. By time and size, as Python itself
# does it: an edited file is still taken for what it is.
compile_sources() {
    "$folder/.venv/bin/python" -m compileall -q "$folder/fleet" "$folder/workers" ||
        echo "release.sh: not everything could be compiled, so starts take longer" >&2
}

revision=$(date +%Y%m%d%H%M%S)
! is_checkout || revision=$(git rev-parse --short=12 HEAD)
version=$(sed -n 's/^version = "\(.*\)"/\1/p' pyproject.toml)
name=$version-$revision
folder=$prefix/releases/$name
if [ ! -e "$folder/.complete" ]; then
    rm -rf "$folder"
    mkdir -p "$folder"
    copy "$folder"
    mkdir -p "$folder/logs"
    reuse_environment
    (cd "$folder" && source scripts/environment.sh && make_environment .venv base) >&2
    hold_to_release
    compile_sources
    touch "$folder/.complete"
fi
echo "$name"
