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

if [ -n "$uninstall" ]; then
    systemd disable --now "$name.service" || true
    rm -rf "$prefix" "$unit" "$commands/fleet" "$commands/fleet-supervisorctl"
    systemd daemon-reload
    if [ -n "$purge" ]; then
        rm -rf "$settings" "$state" "$logs"
        [ -n "$root" ] || ! id "$name" >/dev/null 2>&1 || userdel "$name"
        echo "removed, with its settings, journals and logs"
    else
        echo "removed; kept: $settings $state $logs (--purge removes them too)"
    fi
    exit 0
fi

if [ -z "$root" ] && ! id "$name" >/dev/null 2>&1; then
    useradd --system --user-group --home-dir "$state" --shell /usr/sbin/nologin "$name"
fi
python=$(find_python)
if [ -z "$root" ] && ! (cd / && runuser -u "$name" -- "$python" -c '' 2>/dev/null); then
    echo "the user $name cannot run $python. Remedy: install a Python that everybody can, e.g. apt-get install" \
        "python3 python3-venv, and have it first in PATH" >&2
    exit 1
fi
install -d -m 755 "$prefix" "$prefix/releases" "$commands" "$(dirname "$unit")"
install -d -m 750 "$settings" "$logs"
install -d -m 700 "$state"
own "$state" "$logs"
alone install.sh

# supervisord's own log and what programs say before they have one go where the other logs are.
if [ -d "$state/logs" ] && [ ! -L "$state/logs" ]; then
    find "$state/logs" -mindepth 1 -maxdepth 1 -exec mv -n -t "$logs" {} +
    rmdir "$state/logs"
fi
[ -L "$state/logs" ] || ln -s "$logs" "$state/logs"

# Side by side under the link `current`: what runs goes on from its own release until it is rolled.
release=$(scripts/release.sh "$prefix")
before=$(readlink "$prefix/current" 2>/dev/null || true)
if [ -n "$before" ] && [ "$before" != "$prefix/releases/$release" ] && [ ! -e "$unfinished" ]; then
    echo "$before" >"$unfinished"
fi
activate "$prefix/releases/$release"

if [ ! -e "$settings/environment" ]; then
    install -m 640 deploy/systemd/environment "$settings/environment"
    fresh=yes
fi
[ -n "$root" ] || chgrp "$name" "$settings" "$settings/environment"
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
