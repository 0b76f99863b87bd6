#!/usr/bin/env bash
# Sets this machine up as a worker of the fleet, or brings what is there up to this checkout; safe to repeat.
#   scripts/install.sh [--root DIR] [--no-start]    --root: everything below DIR, no user, no systemd (to try it)
#   scripts/install.sh --uninstall [--purge]        --purge: also settings, journals and logs
set -euo pipefail
cd "$(dirname "$0")/.."
source scripts/environment.sh

root='' start=yes uninstall='' purge=''
while [ $# -gt 0 ]; do
    case "$1" in
    --root) root=$(mkdir -p "${2:?--root needs a folder}" && cd "$2" && pwd) && shift ;;
    --no-start) start= ;;
    --uninstall) uninstall=yes ;;
    --purge) purge=yes ;;
    *) echo "install.sh: unknown option $1. Remedy: see the first lines of scripts/install.sh" >&2 && exit 2 ;;
    esac
    shift
done
source scripts/installed_fleet.sh
must_be_root install.sh
trust_clone

if [ -n "$uninstall" ]; then
    systemd disable --now "$name.service" || true
    rm -rf "$prefix" "$unit" "$commands/fleet" "$commands/fleet-supervisorctl"
    systemd daemon-reload
    if [ -n "$purge" ]; then
        rm -rf "$settings" "$state" "$logs"
        for user in ${builder:+"$name" "$builder"}; do
            ! id "$user" >/dev/null 2>&1 || userdel "$user"
        done
        echo "removed, with its settings, journals and logs"
    else
        echo "removed; kept: $settings $state $logs (--purge removes them too)"
    fi
    exit 0
fi

commit=''
! is_checkout || commit=$(git rev-parse HEAD)
signers=$(update_signers)
check_signature "$commit" "$signers"
[ -n "$root" ] || make_user "$name" "$state"
make_builder
python=$(find_python)
if [ -z "$root" ] && ! (cd / && run_as "$name" "$python" -c '' 2>/dev/null); then
    echo "the user $name cannot run $python. Remedy: install a Python that everybody can, e.g. apt-get install" \
        "python3 python3-venv, and have it first in PATH" >&2
    exit 1
fi
install -d -m 755 "$prefix" "$prefix/releases" "$commands" "$(dirname "$unit")"
install -d -m 750 "$settings" "$logs"
install -d -m 700 "$state"
own "$state" "$logs"
[ -n "$root" ] || chgrp "$name" "$settings"
alone install.sh

# supervisord's own log and what programs say before they have one go where the other logs are.
# Both are folders of the service's user, who could replace what root finds there.
as_user bash -c '
    if [ -d "$1/logs" ] && [ ! -L "$1/logs" ]; then
        find "$1/logs" -mindepth 1 -maxdepth 1 -exec mv -n -t "$2" {} +
        rmdir "$1/logs"
    fi
    [ -L "$1/logs" ] || ln -s "$2" "$1/logs"' move "$state" "$logs"

# Side by side under the link `current`: what runs goes on from its own release until it is rolled.
release=$(scripts/release.sh "$prefix" "$commit" "$builder")
before=$(readlink "$prefix/current" 2>/dev/null || true)
if [ -n "$before" ] && [ "$before" != "$prefix/releases/$release" ] && [ ! -e "$unfinished" ]; then
    echo "$before" >"$unfinished"
fi
activate "$prefix/releases/$release"

if [ ! -e "$settings/environment" ]; then
    install -m 640 "$prefix/current/deploy/systemd/environment" "$settings/environment"
    fresh=yes
fi
[ -n "$root" ] || chgrp "$name" "$settings/environment"
place_unit
place_commands
echo "installed $release in $prefix"
if [ -n "${fresh:-}" ]; then
    echo "now set API_BASE_URL and TEMPORAL_HOST in $settings/environment, then: systemctl enable --now $name"
elif [ -n "$start" ]; then
    systemd enable --now "$name.service"
fi
if [ -e "$unfinished" ]; then
    echo "what runs is of $(basename "$(cat "$unfinished")") until it is renewed: scripts/update.sh"
fi
