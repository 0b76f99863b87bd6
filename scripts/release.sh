#!/usr/bin/env bash
# release.sh PREFIX [COMMIT [BUILDER]]: copies a commit of this checkout, by default the present one, with an environment
# of its own to PREFIX/releases/<name>, beside those that are there; prints the name. What is no git checkout, such as an
# unpacked archive, is copied as it is. Where root names a BUILDER, nothing of the release runs as root, and all of it
# belongs to root in the end.
set -euo pipefail
umask 022
cd "$(dirname "$0")/.."
source scripts/environment.sh
source scripts/clone.sh
prefix=${1:?usage: release.sh PREFIX [COMMIT [BUILDER]]} commit=${2:-} builder=${3:-}
[ -n "$commit" ] || ! is_checkout || commit=$(git rev-parse HEAD)

source_code() { # a tar archive of it
    if [ -n "$commit" ]; then
        git archive "$commit"
    else
        tar -c --exclude=./.git --exclude='./.venv*' --exclude=./.env --exclude=./fleet.toml --exclude=./state \
            --exclude=./logs --exclude='./.*_cache' .
    fi
}

as_builder() ( # as_builder COMMAND...: in the release's folder; a builder sees no variables but those for pip
    cd "$folder"
    [ -n "$builder" ] || exec "$@"
    passed=(HOME=/nonexistent)
    for variable in PATH LANG SSL_CERT_FILE SSL_CERT_DIR REQUESTS_CA_BUNDLE HTTP_PROXY HTTPS_PROXY NO_PROXY http_proxy \
        https_proxy no_proxy ${!PIP_@}; do
        [ -z "${!variable:-}" ] || passed+=("$variable=${!variable}")
    done
    run_as "$builder" env -i "${passed[@]}" "$@"
)

# Its copy has been root's from its first byte, so there is no owner to change and no moment to replace a file by a link.
take_over() {
    local link
    mkdir "$folder.root"
    as_builder tar -c . | tar -x --no-same-owner --no-same-permissions -C "$folder.root"
    link=$(cd "$folder.root" && find . ! -type f ! -type d ! \( -type l \( -path './.venv/bin/python*' -o \
        -path ./.venv/lib64 \) \) -print -quit)
    [ -z "$link" ] || refuse "release.sh: the build has made $link, a link or special file" "remove it from the release"
    mv -T "$folder" "$folder.built"
    mv -T "$folder.root" "$folder"
    rm -rf "$folder.built"
}

# With the same locked packages, the environment of the current release is taken over: a path in few files is all that
# differs, the rest is linked.
old=$(readlink "$prefix/current" 2>/dev/null) || old=''
is_reusable() {
    [ -n "$old" ] && (cd "$folder" && [ "$(cat "$old/.venv/.installed" 2>/dev/null)" = "$(fingerprint base)" ])
}
reuse_environment() {
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
compile_sources() { # compile_sources PYTHON
    as_builder "$1" -m compileall -q fleet workers ||
        echo "release.sh: not everything could be compiled, so starts take longer" >&2
}

build() { # sets reused
    local python=$folder/.venv/bin/python
    reused=''
    install -d -m 755 ${builder:+-o "$builder" -g "$builder"} "$folder"
    source_code | as_builder tar -x --no-same-owner
    as_builder mkdir -p logs
    if is_reusable; then
        reused=yes python=$old/.venv/bin/python
    else
        as_builder bash -c 'source scripts/environment.sh && make_environment .venv base' >&2
    fi
    compile_sources "$python"
}

if [ -z "$commit" ]; then
    revision=$(date +%Y%m%d%H%M%S) project=$(cat pyproject.toml)
else
    revision=${commit:0:12} project=$(git show "$commit:pyproject.toml")
    if [ -n "$(git status --porcelain --untracked-files=no)" ]; then
        echo "release.sh: what is not committed here is left out" >&2
    fi
fi
name=$(sed -n 's/^version = "\(.*\)"/\1/p' <<<"$project")-$revision
folder=$prefix/releases/$name
if [ ! -e "$folder/.complete" ]; then
    rm -rf "$folder" "$folder.root" "$folder.built"
    build
    [ -z "$builder" ] || take_over
    [ -z "$reused" ] || reuse_environment
    hold_to_release
    touch "$folder/.complete"
fi
echo "$name"
