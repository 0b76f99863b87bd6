#!/usr/bin/env bash
# Updates an installed fleet without losing a call:
#   scripts/update.sh [--ref REF] [--root DIR]    REF: fetched and checked out first; DIR as in install.sh
# The new release is made beside the old one; recorded histories and those of open pipelines are replayed on it, and it
# is refused if one fails; then `current` is switched and the processes are rolled. If something is wrong
# afterwards that was not before, the old release comes back the same way: the programs that had been renewed are rolled
# once more. One that was interrupted is finished by the next, or undone by it.
set -euo pipefail
cd "$(dirname "$0")/.."

root='' ref='' patience=${FLEET_UPDATE_PATIENCE_SECONDS:-120}
while [ $# -gt 0 ]; do
    case "$1" in
    --ref) ref=${2:?--ref needs a name} && shift ;;
    --root) root=$(cd "${2:?--root needs a folder}" && pwd) && shift ;;
    *) echo "update.sh: unknown option $1. Remedy: see the first lines of scripts/update.sh" >&2 && exit 2 ;;
    esac
    shift
done
source scripts/installed_fleet.sh
must_be_root update.sh
trust_clone
if [ ! -L "$prefix/current" ]; then
    echo "nothing is installed in $prefix. Remedy: scripts/install.sh" >&2
    exit 1
fi
signers=$(update_signers)
if [ -n "$ref" ]; then
    if ! git fetch --tags --quiet; then
        refuse "$clone could not be fetched by its owner, $(user_of "$owner")" "mend what git names above; what root has \
written there before is given back by: sudo chown -hR $(user_of "$owner") $clone/.git"
    fi
    commit=$(commit_of "$ref") || refuse "the origin has no branch $ref, and there is no such tag or commit" "correct --ref"
    check_signature "$commit" "$signers"
    git checkout --quiet --detach "$commit"
    exec scripts/update.sh ${root:+--root "$root"} # the new release knows best how to get there
fi
commit=''
! is_checkout || commit=$(git rev-parse HEAD)
check_signature "$commit" "$signers"
alone update.sh
service_environment "$settings/environment" "$state" "$logs"

# A lost terminal is no reason to stop half-way; who asks for it is heard once nothing is half renewed.
trap '' HUP PIPE
asked=''
trap 'asked=yes' INT TERM
say() { echo "$*" || true; }
complain() { echo "$*" >&2 || true; }
stop_if_asked() { # stop_if_asked MESSAGE
    [ -z "$asked" ] || { complain "interrupted: $1" && exit 130; }
}

well_known=$prefix/.troubles # what was wrong before the update began
troubles() { # what is wrong, a line each, without what differs from one look to the next
    local said status=0
    said=$(as_user "$new/.venv/bin/fleet" health 2>/dev/null) || status=$?
    [ "$status" != 0 ] || return 0
    echo "${said:-fleet health ended with status $status}" |
        sed -E 's/^(llm-[^ ]+) is (parked|only probed).*/\1 is in trouble/; s/(^|[^_[:alnum:]])[0-9][0-9:.,-]*/\1N/g' |
        LC_ALL=C sort -u
}
roll() { # roll [PROGRAM...]: all of them if none is named
    as_user flock -w 700 "$state/operate.lock" true || true # another operator's roll ends first
    as_user "$prefix/current/.venv/bin/fleet" roll "$@"
}
processes() { # what runs, a line each: PROGRAM:PROCESS PID
    # Its status tells of processes that are not well, too.
    { as_user "$new/.venv/bin/supervisorctl" -c "$state/supervisord.conf" status 2>/dev/null || true; } |
        sed -nE 's/^([^ ]+) .* pid ([0-9]+),.*/\1 \2/p' | LC_ALL=C sort
}
renewed() { # the programs of which not all is as it was before the update; none where that is not known
    [ -z "$before" ] || LC_ALL=C comm -3 <(echo "$before") <(processes) | sed -E 's/^\t//; s/:.*//' | sort -u
}
well() { # nothing is wrong that was not before
    local given_up=$((SECONDS + patience)) fresh
    while true; do
        fresh=$(troubles | LC_ALL=C comm -13 "$well_known" -) || fresh="it cannot be found out what is wrong"
        [ -n "$fresh" ] || return 0
        if [ $SECONDS -ge $given_up ] || [ -n "$asked" ]; then
            complain "$fresh"
            return 1
        fi
        sleep 1
    done
}
finish() { # the update is over: no trace of it, and of the releases those that are used
    local running folder
    rm -f "$unfinished" "$well_known"
    running=$(cat /proc/[0-9]*/cmdline 2>/dev/null | tr '\0' '\n') || true
    for folder in "$prefix"/releases/*; do
        case "$folder" in "$new" | "$old") continue ;; esac
        [[ $running == *"$folder/"* ]] || rm -rf "$folder"
    done
}

old=$(readlink "$prefix/current")
make_builder
new=$prefix/releases/$(scripts/release.sh "$prefix" "$commit" "$builder")
if [ -e "$unfinished" ]; then
    old=$(cat "$unfinished")
    say "what runs may be of $(basename "$old") still: the last update was not finished"
elif [ "$new" = "$old" ]; then
    say "$(basename "$old") is installed already"
    exit 0
fi
say "replaying histories on $(basename "$new") ..."
if ! told=$(as_user "$new/.venv/bin/fleet" replay 2>&1); then
    complain "$told"
    case "$told" in
    *"histories replayed"*) complain "refused: open pipelines could not go on with $(basename "$new")" ;;
    *) complain "not updated: the histories could not be replayed on $(basename "$new")" ;;
    esac
    exit 1
fi
say "$told"
stop_if_asked "nothing has changed"
if ! as_user "$new/.venv/bin/supervisorctl" -c "$state/supervisord.conf" pid >/dev/null 2>&1; then
    activate "$new" && place_unit && place_commands && finish
    say "installed $(basename "$new"); no fleet runs here: systemctl start $name"
    exit 0
fi
before=''
[ -e "$unfinished" ] || before=$(processes)
if [ ! -e "$unfinished" ] || [ ! -e "$well_known" ]; then
    troubles >"$well_known.new" && mv "$well_known.new" "$well_known"
    echo "$old" >"$unfinished.new" && mv "$unfinished.new" "$unfinished"
fi
activate "$new"
if roll && well; then
    place_unit && place_commands && finish
    say "updated from $(basename "$old") to $(basename "$new")"
    exit 0
fi
stop_if_asked "what runs is of both releases. Remedy: scripts/update.sh again finishes it"
complain "the fleet is not well with $(basename "$new"): going back to $(basename "$old")"
activate "$old"
# What was not renewed is of the old release: its calls are not to be waited for once more.
mapfile -t back < <(renewed)
if { [ -n "$before" ] && [ ${#back[@]} = 0 ] || roll "${back[@]}"; } && well; then
    finish
    complain "back on $(basename "$old")"
    exit 1
fi
complain "going back did not succeed either. Remedy: see \`fleet doctor\` and the logs in $logs, mend what they name," \
    "then run scripts/update.sh again: it finishes the update or undoes it"
exit 1
