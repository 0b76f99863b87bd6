#!/usr/bin/env bash
# Machines to try the fleet on: Debian with its own systemd, host name, address and installed fleet, each in a network
# of its own under systemd-nspawn; for root on Linux.
#   scripts/machines.sh up N [--same-name] [--bare]   boots N of them; --same-name: clones, one host name and machine id
#                                                     --bare: with a checkout in /root/checkout, but nothing installed
#   scripts/machines.sh exec K COMMAND...             runs a command on machine K (1 to N), as root
#   scripts/machines.sh cut K [PORT]                  loses all that K and this host, or a port of it, send each other
#   scripts/machines.sh delay K MS [PORT]             delays all that K sends to a server of this host, or of that port,
#                                                     and each answer, by MS milliseconds; its connections are reset
#   scripts/machines.sh join K                        no longer cuts or delays
#   scripts/machines.sh kill K | start K | reboot K   takes its power away; boots it; has it shut down and boot anew
#   scripts/machines.sh list                          number, host name, address, state
#   scripts/machines.sh down                          ends them all and leaves nothing of them
#   scripts/machines.sh base                          makes what all sets of machines begin with, and prints its folders
# A machine reaches the servers on this host's loopback address under the names `host`, e.g. TEMPORAL_HOST=host:7233,
# and `host.localhost`, to which the fleet allows plain http: what is sent there does not leave this host.
# A set of machines is in FLEET_MACHINES_DIR (build/machines); several sets can be up side by side. What is made once
# for all of them is in build/base.
set -euo pipefail
umask 022
cd "$(dirname "$0")/.."
folder=$(realpath -m "${FLEET_MACHINES_DIR:-build/machines}")
base=$PWD/build/base
packages=bash,ca-certificates,curl,dbus,git,iproute2,procps,python3,python3-venv,sudo,systemd,systemd-sysv
suite=bookworm
left_out='doc man info locale' # as in slim images: nobody reads them there, and the test of the image copies all files
# The last commit of 0.1, in each machine's checkout as the tag `release-before`: updates from it are tested.
release_before=b90cf7d14d7f403bb05ce3e81b732de5c3bba591
BOOT_SECONDS=180 SHUTDOWN_SECONDS=180 RELAY_SECONDS=20

fail() { # fail WHAT REMEDY
    echo "machines.sh: $1. Remedy: $2" >&2
    exit 1
}

need() { # need PACKAGE:PROGRAM...
    local pair missing=()
    [ "$(id -u)" = 0 ] || fail "this must run as root" "sudo scripts/machines.sh ..."
    for pair in "$@"; do
        command -v "${pair#*:}" >/dev/null || missing+=("${pair%:*}")
    done
    [ ${#missing[@]} = 0 ] || fail "needs Debian packages that are missing" "apt-get install ${missing[*]}"
}

# --- What is made once ------------------------------------------------------------------------------------------

key() { sha256sum | cut -c1-12; }

make_once() { # make_once FOLDER FUNCTION: calls FUNCTION with a fresh folder, which becomes FOLDER once it is whole
    mkdir -p "$base"
    exec 8>"$base/.lock"
    flock 8
    if [ ! -d "$1" ]; then
        echo "machines.sh: making $(basename "$1"), once ..." >&2
        rm -rf "$1.new"
        mkdir "$1.new"
        "$2" "$1.new" >&2
        mv "$1.new" "$1"
    fi
    exec 8>&-
}

make_system() { # Debian, from where this host has it from
    local sources folder
    for sources in /etc/apt/sources.list.d/debian.sources /etc/apt/sources.list /dev/null; do
        [ ! -s "$sources" ] || break
    done
    mmdebstrap --quiet --mode=root --variant=minbase --include="$packages" "$suite" "$1" - <"$sources"
    for folder in $left_out; do rm -rf "$1/usr/share/$folder"; done
    # Unlike a clone, each machine that is new makes its id at its first boot.
    rm -f "$1/etc/machine-id" "$1/etc/hostname" "$1/etc/resolv.conf"
    : >"$1/etc/machine-id"
}

locks() { # what the present release installs, and the one before
    cat requirements/build.txt requirements/base.txt
    git show "$release_before:requirements/build.txt" "$release_before:requirements/base.txt" ||
        fail "this checkout has no history" "git fetch --unshallow"
}

# This host's pip fetches them, with whatever settings it has here; a machine has them only.
make_wheels() {
    local python lock locks
    python=$(chroot "$system" python3 -c 'import sys; print("%d.%d" % sys.version_info[:2])')
    source scripts/environment.sh
    make_environment .venv dev
    mkdir -p "$1/srv/wheels" "$1/etc"
    locks=$(mktemp -d)
    for lock in build base; do git show "$release_before:requirements/$lock.txt" >"$locks/$lock.txt"; done
    for lock in requirements "$locks"; do
        .venv/bin/python -m pip download -qq --disable-pip-version-check --no-deps --require-hashes \
            --no-build-isolation --python-version "$python" -d "$1/srv/wheels" -r "$lock/build.txt" -r "$lock/base.txt"
    done
    rm -r "$locks"
    printf '[global]\nno-index = true\nfind-links = /srv/wheels\n' >"$1/etc/pip.conf"
}

# The present commit, in /root/origin and as a checkout of it in /root/checkout.
make_checkout() {
    mkdir -m 700 "$1/root"
    git clone -q --bare --no-hardlinks . "$1/root/origin"
    git -C "$1/root/origin" update-ref refs/heads/main "$(git rev-parse HEAD)"
    git -C "$1/root/origin" symbolic-ref HEAD refs/heads/main
    git -C "$1/root/origin" tag release-before "$release_before"
    git clone -q --no-hardlinks "$1/root/origin" "$1/root/checkout"
    git -C "$1/root/checkout" remote set-url origin /root/origin
}

# As the guide has it, by a root with a strict umask; what was said is in /root/install.log.
make_installed() {
    mkdir "$1/layer" "$1/work" "$1/root"
    mount -t overlay overlay -o "lowerdir=$checkout:$wheels:$system,upperdir=$1/layer,workdir=$1/work,volatile" "$1/root"
    local status=0
    systemd-nspawn -q -D "$1/root" --register=no --keep-unit --resolv-conf=off --timezone=off --console=pipe \
        bash -c 'set -o pipefail && cd /root/checkout && umask 077 &&
            sudo PIP_LOG=/var/tmp/pip.log scripts/install.sh | tee /root/install.log' || status=$?
    umount "$1/root"
    [ $status = 0 ] || fail "the fleet could not be installed in a machine" "see what it says above"
}

make_base() { # sets system, wheels, checkout, installed
    local head
    need mmdebstrap:mmdebstrap systemd-container:systemd-nspawn iproute2:ip iptables:iptables git:git
    head=$(git rev-parse --short=12 HEAD)
    system=$base/system-$(echo "$suite $packages $left_out" | key)
    wheels=$base/wheels-$(locks | key)
    checkout=$base/checkout-$head installed=$base/installed-$head
    make_once "$system" make_system
    make_once "$checkout" make_checkout
    make_once "$wheels" make_wheels # needs .venv, which another script may be making until now
    [ -n "${bare:-}" ] || make_once "$installed" make_installed
    forget_other_commits
}

forget_other_commits() { # what was made of them, unless a machine uses it
    local one
    for one in "$base"/checkout-* "$base"/installed-*; do
        case "${one%.new}" in "$checkout" | "$installed") continue ;; esac
        grep -qF "$one" /proc/mounts || rm -rf "$one"
    done
}

# --- The network of a set ---------------------------------------------------------------------------------------

# The bridge's number is that of the addresses, so whoever could make it has them.
make_network() {
    local number tries
    number=$(($(cksum <<<"$folder" | cut -d' ' -f1) % 250 + 1))
    for tries in $(seq 250); do
        if ip link add "fleet$number" type bridge 2>/dev/null; then
            echo "$number" >"$folder/network"
            break
        fi
        number=$((number % 250 + 1))
    done
    [ -s "$folder/network" ] || fail "no network could be made" "scripts/machines.sh down in other checkouts"
    read_network
    ip addr add "$net.1/24" dev "$bridge"
    ip link set "$bridge" up
    # What comes for the bridge's address is for the servers on the loopback address.
    sysctl -qw "net.ipv4.conf.$bridge.route_localnet=1"
    rule nat PREROUTING -i "$bridge" -d "$net.1" -p tcp -j DNAT --to-destination 127.0.0.1
    rule filter INPUT -i "$bridge" -j ACCEPT
}

read_network() { # sets number, bridge, net
    number=$(cat "$folder/network")
    bridge=fleet$number net=10.87.$number
}

rule() { # rule TABLE CHAIN ...
    iptables -w -t "$1" -I "$2" "${@:3}" -m comment --comment "$bridge"
}

forget_rules() { # forget_rules [WORD]: those of this set, or of one of its machines
    local table line
    for table in nat filter; do
        iptables -w -t "$table" -S | grep -- "--comment $bridge " | grep -F -- "${1:-}" | sed 's/^-A/-D/' |
            while read -r line; do
                # shellcheck disable=SC2086
                iptables -w -t "$table" $line
            done || true
    done
}

end_relay() { # end_relay K
    local pid
    pid=$(cat "$folder/$1/relay.pid" 2>/dev/null) || return 0
    ! grep -qsF delaying_relay.py "/proc/$pid/cmdline" || kill -KILL "$pid" 2>/dev/null || true
    rm -f "$folder/$1/relay.pid" "$folder/$1/relay.port"
}

delay() { # delay K MS [PORT]
    local address=$net.$((10 + $1)) place=$folder/$1 python relay given_up=$((SECONDS + RELAY_SECONDS))
    [[ ${2:-} =~ ^[1-9][0-9]*$ ]] || fail "delay needs milliseconds" "scripts/machines.sh delay $1 200"
    # shellcheck source=scripts/environment.sh
    source scripts/environment.sh
    python=$(find_python)
    forget_rules "$address/32"
    end_relay "$1"
    setsid "$python" scripts/delaying_relay.py "$2" "$place/relay.port" </dev/null >"$place/relay.log" 2>&1 &
    echo $! >"$place/relay.pid"
    while [ ! -s "$place/relay.port" ]; do
        [ $SECONDS -lt $given_up ] || fail "the relay does not start" "see $place/relay.log"
        sleep 0.05
    done
    relay=$(cat "$place/relay.port")
    # shellcheck disable=SC2086
    rule nat PREROUTING -s "$address" -d "$net.1" -p tcp ${3:+--dport $3} -j DNAT --to-destination "127.0.0.1:$relay"
    # Open connections are not redirected: they are reset, and made again through the relay.
    ip netns exec "$bridge-$1" ss -HtK "dst $net.1 ${3:+and dport = :$3}" >/dev/null
}

make_link() { # make_link K
    ip netns add "$bridge-$1"
    ip link add "$bridge.$1" type veth peer name host0 netns "$bridge-$1"
    ip link set "$bridge.$1" master "$bridge" up
    ip -n "$bridge-$1" addr add "$net.$((10 + $1))/24" dev host0
    ip -n "$bridge-$1" link set host0 up
    ip -n "$bridge-$1" link set lo up
}

# --- A machine --------------------------------------------------------------------------------------------------

make_machine() { # make_machine K HOSTNAME
    local place=$folder/$1 layers=$checkout:$wheels:$system over
    [ -n "$bare" ] || layers=$installed/layer:$layers
    mkdir -p "$place/root" "$place/upper" "$place/work"
    make_link "$1"
    # volatile: nothing of it is to outlive this host, so nothing waits for the disk.
    over=lowerdir=$layers,upperdir=$place/upper,workdir=$place/work,volatile
    if ! mount -t overlay overlay -o "$over" "$place/root"; then
        rmdir "$place/root"
        fail "$place cannot hold an overlay" "FLEET_MACHINES_DIR on another file system, such as ext4"
    fi
    echo "$2" >"$place/root/etc/hostname"
    printf '127.0.0.1 localhost\n127.0.1.1 %s\n%s.1 host host.localhost\n' "$2" "$net" >"$place/root/etc/hosts"
    [ -z "$same" ] || echo "$same" >"$place/root/etc/machine-id"
    show_own_boot "$place/root"
}

# The kernel is this host's. systemd-nspawn hides that it is the same boot, but not from services with a /proc of their
# own (ProtectProc), which would take all machines for one that has not been booted anew.
show_own_boot() { # show_own_boot ROOT
    local service=$1/etc/systemd/system/seo-worker.service.d
    mkdir -p "$1/etc/tmpfiles.d" "$service"
    echo 'C /run/boot_id 0444 root root - /proc/sys/kernel/random/boot_id' >"$1/etc/tmpfiles.d/boot_id.conf"
    printf '[Service]\nBindReadOnlyPaths=/run/boot_id:/proc/sys/kernel/random/boot_id\n' >"$service/boot_id.conf"
}

cgroup_roots() { # where the control groups are that systemd uses
    awk '$3 == "cgroup2" || $3 == "cgroup" && $4 ~ /(^|,)name=systemd(,|$)/ { print $2 }' /proc/self/mounts
}

# A machine's systemd takes all that is in its control group for its own: shared with other machines, it would wait for
# the end of their services too. Where none can be made, they do share one.
enter_cgroup() { # enter_cgroup NAME
    local place
    for place in $(cgroup_roots); do
        { mkdir -p "$place/$1" && echo "$BASHPID" >"$place/$1/cgroup.procs"; } 2>/dev/null || true
    done
}

forget_cgroup() { # forget_cgroup NAME
    local place
    for place in $(cgroup_roots); do
        [ ! -d "$place/$1" ] || find "$place/$1" -depth -type d -exec rmdir {} + 2>/dev/null || true
    done
}

# In its network from the beginning, so that its /sys shows its own network card.
boot() { # boot K
    local place=$folder/$1
    (
        enter_cgroup "$bridge-$1"
        exec setsid nsenter --net="/run/netns/$bridge-$1" systemd-nspawn -q -b -D "$place/root" --register=no \
            --keep-unit --console=read-only --resolv-conf=off --timezone=off
    ) </dev/null >"$place/console.log" 2>&1 8>&- &
    echo $! >"$place/pid"
}

leader() { # leader K: the pid of its init on this host; nothing if it is off
    local place=$folder/$1 pid
    pid=$(cat "$place/pid" 2>/dev/null) || return 0
    grep -qsF "$place/root" "/proc/$pid/cmdline" || return 0
    cut -d' ' -f1 "/proc/$pid/task/$pid/children" 2>/dev/null || true
}

inside() { # inside LEADER COMMAND...
    nsenter -t "$1" -m -u -i -p -n -C -- env -i HOME=/root LANG=C.UTF-8 TERM="${TERM:-dumb}" \
        PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin "${@:2}"
}

wait_booted() { # wait_booted K
    local given_up=$((SECONDS + BOOT_SECONDS)) pid state=''
    while [ $SECONDS -lt $given_up ]; do
        pid=$(leader "$1")
        [ -z "$pid" ] || state=$(inside "$pid" systemctl is-system-running 2>/dev/null) || true
        case "$state" in running | degraded) return ;; esac
        sleep 0.2
    done
    tail -5 "$folder/$1/console.log" >&2
    fail "machine $1 did not boot within $BOOT_SECONDS s" "see $folder/$1/console.log"
}

machine() { # machine K: whether there is such a one
    [ -d "$folder/${1:?which machine? a number from 1}/root" ] ||
        fail "there is no machine $1" "scripts/machines.sh up N, or see scripts/machines.sh list"
    read_network
}

take_power() { # take_power K
    local pid
    pid=$(leader "$1")
    [ -z "$pid" ] || kill -KILL "$pid" 2>/dev/null || true
    pid=$(cat "$folder/$1/pid" 2>/dev/null) || return 0
    while grep -qsF "$folder/$1/root" "/proc/$pid/cmdline"; do sleep 0.05; done
}

numbers() { find "$folder" -mindepth 1 -maxdepth 1 -name '[0-9]*' -printf '%f\n' 2>/dev/null | sort -n; }

# --- What it is told --------------------------------------------------------------------------------------------

up() { # up N [--same-name] [--bare]
    local count=${1:-} one name
    same='' bare=''
    [[ $count =~ ^[1-9][0-9]?$ ]] || fail "up needs how many" "scripts/machines.sh up 2"
    for one in "${@:2}"; do
        case "$one" in
        --same-name) same=$(tr -d - </proc/sys/kernel/random/uuid) ;;
        --bare) bare=yes ;;
        *) fail "unknown option $one" "see the first lines of scripts/machines.sh" ;;
        esac
    done
    [ ! -e "$folder" ] || fail "machines are up in $folder" "scripts/machines.sh down"
    make_base
    mkdir -p "$folder"
    trap 'down' EXIT
    make_network
    for one in $(seq "$count"); do
        name=worker-$one
        [ -z "$same" ] || name=worker
        make_machine "$one" "$name"
        boot "$one"
    done
    for one in $(seq "$count"); do wait_booted "$one"; done
    trap - EXIT
    list
}

list() {
    local one state
    for one in $(numbers); do
        read_network
        state=off
        [ -z "$(leader "$one")" ] || state=up
        echo "$one $(cat "$folder/$one/root/etc/hostname") $net.$((10 + one)) $state"
    done
}

down() {
    local one name
    need iproute2:ip iptables:iptables
    for one in $(numbers); do
        take_power "$one"
        end_relay "$one"
        ! mountpoint -q "$folder/$one/root" || umount "$folder/$one/root"
    done
    if [ -s "$folder/network" ]; then
        read_network
        forget_rules
        ip netns list | cut -d' ' -f1 | { grep "^$bridge-" || true; } | while read -r name; do
            forget_cgroup "$name"
            ip netns del "$name"
        done
        ip link del "$bridge" 2>/dev/null || true
    fi
    rm -rf "$folder"
}

case "${1:-}" in
up | list | down) "$@" ;;
exec)
    need util-linux:nsenter
    machine "${2:-}"
    pid=$(leader "$2")
    [ -n "$pid" ] || fail "machine $2 is off" "scripts/machines.sh start $2"
    inside "$pid" "${@:3}"
    ;;
cut)
    machine "${2:-}"
    # shellcheck disable=SC2086
    rule filter INPUT -s "$net.$((10 + $2))" ${3:+-p tcp --dport $3} -j DROP
    # shellcheck disable=SC2086
    rule filter OUTPUT -d "$net.$((10 + $2))" ${3:+-p tcp --sport $3} -j DROP
    ;;
delay)
    machine "${2:-}"
    delay "${@:2}"
    ;;
join)
    machine "${2:-}"
    forget_rules "$net.$((10 + $2))/32"
    end_relay "$2"
    ;;
kill)
    machine "${2:-}"
    take_power "$2"
    ;;
start)
    machine "${2:-}"
    [ -n "$(leader "$2")" ] || boot "$2"
    wait_booted "$2"
    ;;
reboot)
    machine "${2:-}"
    before=$(leader "$2")
    [ -n "$before" ] || fail "machine $2 is off" "scripts/machines.sh start $2"
    inside "$before" systemctl reboot
    # Its engine leaves the second half to whoever has started it.
    while [ -n "$(leader "$2")" ]; do
        [ $SECONDS -lt $SHUTDOWN_SECONDS ] || fail "machine $2 does not shut down" "scripts/machines.sh kill $2"
        sleep 0.2
    done
    boot "$2"
    wait_booted "$2"
    ;;
base)
    make_base
    printf '%s\n' "$system" "$wheels"
    ;;
*)
    sed -n '2,/^set /{/^set /d; s/^# \{0,1\}//; p}' "$0" >&2
    exit 2
    ;;
esac
