#!/usr/bin/env bash
# Updates an installed fleet without losing a call:
#   scripts/update.sh [--ref REF] [--root DIR]    REF: fetched and checked out first; DIR as in install.sh
# The new release is made beside the old one; recorded histories and those of open pipelines are replayed on it, and it
# is refused if one fails; then `current` is switched and the processes are rolled one at a time. If the fleet is not well
# afterwards, the old release comes back the same way.
set -euo pipefail
cd "$(dirname "$0")/.."

name=seo-worker root= ref= patience=${FLEET_UPDATE_PATIENCE_SECONDS:-120}
while [ $# -gt 0 ]; do
    case "$1" in
    --ref) ref=${2:?--ref needs a name} && shift ;;
    --root) root=$(cd "${2:?--root needs a folder}" && pwd) && shift ;;
    *) echo "update.sh: unknown option $1. Remedy: see the first lines of scripts/update.sh" >&2 && exit 2 ;;
    esac
    shift
done
prefix=$root/opt/$name settings=$root/etc/$name
if [ ! -L "$prefix/current" ]; then
    echo "nothing is installed in $prefix. Remedy: scripts/install.sh" >&2
    exit 1
fi
export FLEET_STATE_DIR=$root/var/lib/$name FLEET_LOG_DIR=$root/var/log/$name
set -a
# shellcheck disable=SC1091
. "$settings/environment"
set +a

as_user() { # as_user COMMAND...: as the service's user, where there is one
    if [ -z "$root" ] && [ "$(id -un)" != "$name" ]; then
        (cd "$settings" && runuser -u "$name" -- "$@")
    else
        (cd "$settings" && "$@")
    fi
}
activate() { ln -sfn "$1" "$prefix/.current" && mv -T "$prefix/.current" "$prefix/current"; }
roll() { as_user "$prefix/current/.venv/bin/fleet" roll; }
well() {
    local given_up=$((SECONDS + patience))
    until as_user "$prefix/current/.venv/bin/fleet" health; do
        [ $SECONDS -lt $given_up ] || return 1
        sleep 2
    done
}

if [ -n "$ref" ]; then
    git fetch --tags --quiet
    git checkout --quiet --detach "$(git rev-parse --verify --quiet "origin/$ref" || echo "$ref")"
fi
old=$(readlink "$prefix/current")
new=$prefix/releases/$(scripts/release.sh "$prefix")
if [ "$new" = "$old" ]; then
    echo "$(basename "$old") is installed already"
    exit 0
fi
echo "replaying histories on $(basename "$new") ..."
if ! as_user "$new/.venv/bin/fleet" replay; then
    echo "refused: open pipelines could not go on with $(basename "$new"); $(basename "$old") runs on" >&2
    exit 1
fi
ln -sfn "$old" "$prefix/previous"
activate "$new"
if roll && well; then
    echo "updated from $(basename "$old") to $(basename "$new")"
    exit 0
fi
echo "the fleet is not well with $(basename "$new"): going back to $(basename "$old")" >&2
activate "$old"
roll && well && echo "back on $(basename "$old")" >&2
exit 1
