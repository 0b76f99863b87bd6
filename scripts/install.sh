#!/usr/bin/env bash
# Sets this machine up as a worker of the fleet, or brings what is there up to this checkout; safe to repeat.
#   scripts/install.sh [--root DIR] [--no-start]    --root: everything below DIR, no user, no systemd (to try it)
#   scripts/install.sh --uninstall [--purge]        --purge: also settings, journals and logs
set -euo pipefail
cd "$(dirname "$0")/.."
source scripts/environment.sh

name=seo-worker root= start=yes uninstall= purge=
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

prefix=$root/opt/$name settings=$root/etc/$name state=$root/var/lib/$name logs=$root/var/log/$name
unit=$root/etc/systemd/system/$name.service commands=$root/usr/local/bin
systemd() { [ -n "$root" ] || ! command -v systemctl >/dev/null || [ ! -d /run/systemd/system ] || systemctl "$@"; }
own() { [ -n "$root" ] || chown "$name:$name" "$@"; }

if [ -z "$root" ] && [ "$(id -u)" != 0 ]; then
    echo "install.sh must run as root. Remedy: sudo scripts/install.sh, or try it below a folder with --root DIR" >&2
    exit 1
fi

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
    useradd --system --home-dir "$state" --shell /usr/sbin/nologin "$name"
fi
install -d -m 755 "$prefix" "$prefix/releases" "$commands" "$(dirname "$unit")"
install -d -m 750 "$settings" "$logs"
install -d -m 700 "$state"
own "$state" "$logs"

# Side by side under the link `current`: what runs goes on from its own release until it is rolled.
scripts/release.sh "$prefix" >/dev/null
release=$(scripts/release.sh "$prefix" --activate)

if [ ! -e "$settings/environment" ]; then
    install -m 640 deploy/systemd/environment "$settings/environment"
    [ -n "$root" ] || chgrp "$name" "$settings/environment"
    [ -n "$root" ] || chgrp "$name" "$settings"
    fresh=yes
fi
sed -e "s|/opt/$name|$prefix|g; s|/etc/$name|$settings|g; s|/var/lib/$name|$state|g; s|/var/log/$name|$logs|g" \
    deploy/systemd/$name.service >"$unit"
chmod 644 "$unit"
for command in fleet supervisorctl; do
    target=$commands/fleet
    [ $command = fleet ] || target=$commands/fleet-supervisorctl
    arguments=
    [ $command = fleet ] || arguments="-c $state/supervisord.conf"
    cat >"$target" <<WRAPPER
#!/bin/sh
# \`$command\` of this machine's fleet, as the user and with the settings that its service has.
if [ -z "$root" ] && [ "\$(id -un)" != $name ]; then exec runuser -u $name -- "\$0" "\$@"; fi
set -a
. $settings/environment
FLEET_STATE_DIR=$state FLEET_LOG_DIR=$logs HOME=$state
set +a
cd $settings && exec $prefix/current/.venv/bin/$command $arguments "\$@"
WRAPPER
    chmod 755 "$target"
done
systemd daemon-reload
echo "installed $release in $prefix"
if [ -n "${fresh:-}" ]; then
    echo "now set API_BASE_URL and TEMPORAL_HOST in $settings/environment, then: systemctl enable --now $name"
elif [ -n "$start" ]; then
    systemd enable --now "$name.service"
fi
