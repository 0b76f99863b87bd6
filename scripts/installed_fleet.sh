# shellcheck shell=bash
# An installed fleet's places, and what is done there by more than one script. To be sourced from the checkout, with
# `root` set: everything is below it; where it is empty the machine itself is meant, with user and systemd.
umask 022
source scripts/clone.sh
name=seo-worker builder=
prefix=$root/opt/$name settings=$root/etc/$name state=$root/var/lib/$name logs=$root/var/log/$name
unit=$root/etc/systemd/system/$name.service commands=$root/usr/local/bin
# Whose path an unfinished update holds, the release to go back to: what runs may be of either.
unfinished=$prefix/unfinished

if [ -z "$root" ]; then
    # The system's own Python before one of root's, which the service's user may not be able to reach.
    PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin:$PATH
    # Runs pip and what is built, and no process of the service: neither may write what the other one reads.
    builder=$name-build
fi

systemd() { [ -n "$root" ] || ! command -v systemctl >/dev/null || [ ! -d /run/systemd/system ] || systemctl "$@"; }
own() { [ -n "$root" ] || chown "$name:$name" "$@"; }

must_be_root() { # must_be_root SCRIPT
    if [ -z "$root" ] && [ "$(id -u)" != 0 ]; then
        echo "$1 must run as root. Remedy: sudo scripts/$1, or try it below a folder with --root DIR" >&2
        exit 1
    fi
}

alone() { # alone SCRIPT: one at a time; what an interrupted one has left running counts too
    exec 9>"$prefix/.lock"
    if ! flock -w "${FLEET_UPDATE_PATIENCE_SECONDS:-120}" 9; then
        echo "$1: another install or update is at work in $prefix. Remedy: wait until that has ended" >&2
        exit 1
    fi
}

make_user() { # make_user NAME HOME: a user that nobody can log in as
    id "$1" >/dev/null 2>&1 || useradd --system --user-group --home-dir "$2" --shell /usr/sbin/nologin "$1"
}

make_builder() { [ -n "$root" ] || make_user "$builder" /nonexistent; }

as_user() { # as_user COMMAND...: as the service's user, where there is one
    if [ -z "$root" ] && [ "$(id -un)" != "$name" ]; then
        (cd "$settings" && run_as "$name" "$@")
    else
        (cd "$settings" && "$@")
    fi
}

# The service's environment and no other: systemd's own reading of an EnvironmentFile is no shell's.
service_environment() { # service_environment FILE STATE LOGS
    local line value
    # shellcheck disable=SC2086
    unset ${!FLEET_@} ${!TEMPORAL_@} API_BASE_URL LOG_LEVEL XDG_CONFIG_HOME
    [ -r "$1" ] || echo "$1 cannot be read. Remedy: scripts/install.sh makes it, and gives it to its group" >&2
    while IFS= read -r line || [ -n "$line" ]; do
        [[ $line =~ ^[[:space:]]*([A-Za-z_][A-Za-z0-9_]*)[[:space:]]*=[[:space:]]*(.*)$ ]] || continue
        line=${BASH_REMATCH[1]} value=${BASH_REMATCH[2]}
        value=${value%"${value##*[![:space:]]}"}
        if [[ $value =~ ^\"(.*)\"$ || $value =~ ^\'(.*)\'$ ]]; then value=${BASH_REMATCH[1]}; fi
        export "$line=$value"
    done < <(cat "$1" 2>/dev/null)
    export FLEET_STATE_DIR=$2 FLEET_LOG_DIR=$3 HOME=$2 FLEET_CONFIG=${FLEET_CONFIG:-${1%/*}}
}

# The commit that is to be installed has to be signed where this machine's settings, or who calls, name signers.
# To be assigned before it is used: in an argument its refusal would be lost.
update_signers() {
    (
        file=$settings/environment named='^[[:space:]]*([^#;[:space:]].*)?FLEET_UPDATE_SIGNERS'
        if [ -z "${FLEET_UPDATE_SIGNERS:-}" ] && [ -e "$file" ]; then
            [ -r "$file" ] || refuse "$file cannot be read" "let $(id -un) read it, or run this as root"
            service_environment "$file" "$state" "$logs" 2>/dev/null || true
            if [ -z "${FLEET_UPDATE_SIGNERS:-}" ] && LC_ALL=C grep -aqE "$named" "$file"; then
                refuse "$file mentions FLEET_UPDATE_SIGNERS, but no value could be read" \
                    "write FLEET_UPDATE_SIGNERS=FILE on a line of its own, or remove that line"
            fi
        fi
        echo "${FLEET_UPDATE_SIGNERS:-}"
    )
}

place_unit() {
    sed -e "s|/opt/$name|$prefix|g; s|/etc/$name|$settings|g; s|/var/lib/$name|$state|g; s|/var/log/$name|$logs|g" \
        "$prefix/current/deploy/systemd/$name.service" >"$unit"
    chmod 644 "$unit"
    systemd daemon-reload
}

place_command() { # place_command NAME COMMAND [ARGUMENT...]
    local target=$commands/$1
    shift
    cat >"$target.new" <<WRAPPER
#!/bin/bash
# \`$1\` of this machine's fleet, as the user and with the settings that its service has.
umask 027
$(declare -f service_environment run_as enter_as)
if [ -z "$root" ] && [ "\$(id -un)" != $name ]; then
    if [ "\$(id -u)" != 0 ]; then
        echo "\${0##*/}: this is for root and for $name. Remedy: sudo \${0##*/} \$*" >&2
        exit 1
    fi
    enter_as $name "\$0" "\$@"
fi
service_environment $settings/environment $state $logs
cd $settings && exec $prefix/current/.venv/bin/$* "\$@"
WRAPPER
    chmod 755 "$target.new"
    mv "$target.new" "$target"
}

place_commands() {
    place_command fleet fleet
    place_command fleet-supervisorctl supervisorctl -c "$state/supervisord.conf"
}

activate() { # activate FOLDER: what is started from now on is of this release
    ln -sfn "$1" "$prefix/.current"
    mv -T "$prefix/.current" "$prefix/current"
}
