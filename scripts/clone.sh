# shellcheck shell=bash
# The clone that is installed from: whose it may be, git in it as its owner, signatures. To be sourced in its top folder.
source scripts/other_user.sh

clone=$(pwd -P)
owner=$(stat -c %u .)

refuse() { # refuse WHAT REMEDY
    echo "$1. Remedy: $2" >&2
    exit 1
}

# --- Whose it is ------------------------------------------------------------------------------------------------

is_trusted() { [ "$1" = 0 ] || [ "$1" = "${SUDO_UID:-0}" ]; } # is_trusted UID: root, or the user who called sudo

is_private() { # is_private GID: root's group, or one with no member but the user of its name
    local name members uid others
    [ "$1" != 0 ] || return 0
    IFS=: read -r name _ _ members < <(getent group "$1") || return 1
    uid=$(id -u "$name" 2>/dev/null) && is_trusted "$uid" || return 1
    others=$(getent passwd | awk -F: -v gid="$1" -v uid="$uid" '$4 == gid && $3 != uid')
    [ -z "${members//$name/}$others" ]
}

user_of() { id -un "$1" 2>/dev/null || echo "user $1"; } # user_of UID

# Root runs what is there, so nobody else may write it or put something else into its place.
refuse_changeable() { # refuse_changeable PATH REMEDY: unless only root and the user who called sudo can change or replace it
    local path=$1 uid gid mode sticky=0
    while true; do
        read -r uid gid mode < <(stat -c '%u %g %a' "$path")
        mode=$((8#$mode))
        is_trusted "$uid" || refuse "$path belongs to $(user_of "$uid"), and not to root or to the user who called sudo" "$2"
        # In a sticky folder above, such as /tmp, others can add, but not replace.
        if ! ((mode & sticky)) && { ((mode & 8#002)) || { ((mode & 8#020)) && ! is_private "$gid"; }; }; then
            refuse "$path can be written by others" "$2"
        fi
        [ "$path" != / ] || return 0
        path=$(dirname "$path") sticky=8#1000
    done
}

trust_clone() {
    local remedy odd private=0
    [ "$(id -u)" = 0 ] || return 0
    remedy="make a clone that only root can change: sudo git clone URL /root/fleet; or, if this one is yours, take the"
    remedy+=" rights of others away (chmod -R go-w) and call this with sudo"
    refuse_changeable "$clone" "$remedy"
    ! is_private "$(stat -c %g .)" || private=$(stat -c %g .)
    odd=$(find . -xdev \( -path './.venv*' -o -path ./state -o -path ./logs -o -path './.*_cache' \) -prune -o \( \
        ! -uid 0 ! -uid "$owner" -o ! -type l -perm -002 -o ! -type l -perm -020 ! -gid 0 ! -gid "$private" \
        \) -print -quit)
    [ -z "$odd" ] || refuse "$clone/${odd#./} belongs to another user, or can be written by others" "$remedy"
}

# --- git --------------------------------------------------------------------------------------------------------

# A clone's configuration and hooks name programs: they run as its owner, and with none of root's variables.
git() {
    local name variable passed=() options=(-c tar.umask=0022)
    export GIT_OPTIONAL_LOCKS=0 GIT_NO_REPLACE_OBJECTS=1
    if [ "$(id -u)" = "$owner" ]; then
        command git "${options[@]}" "$@"
    elif [ "$(id -u)" != 0 ]; then
        command git -c safe.directory="$clone" "${options[@]}" "$@"
    else
        name=$(id -un "$owner")
        for variable in PATH LANG TERM SSH_AUTH_SOCK GIT_OPTIONAL_LOCKS GIT_NO_REPLACE_OBJECTS \
            HTTP_PROXY HTTPS_PROXY NO_PROXY http_proxy https_proxy no_proxy; do
            [ -z "${!variable:-}" ] || passed+=("$variable=${!variable}")
        done
        passed+=("HOME=$(getent passwd "$owner" | cut -d: -f6)" "USER=$name" "LOGNAME=$name")
        (enter_as "$name" env -i "${passed[@]}" git "${options[@]}" "$@")
    fi
}

is_checkout() { [ "$(git rev-parse --show-toplevel 2>/dev/null)" = "$clone" ]; }

commit_of() { # commit_of REF: a branch of the origin, or a tag or commit
    [[ $1 != -* ]] || return 1
    git rev-parse --verify --quiet "origin/$1^{commit}" || git rev-parse --verify --quiet "$1^{commit}"
}

# --- Signatures -------------------------------------------------------------------------------------------------

# Only by these: neither a program nor a key of the clone's or its owner's configuration decides.
check_signature() { # check_signature COMMIT SIGNERS: it, or a tag of it, is signed by one of that file's keys
    local commit=$1 signers=$2 keygen keys tag option options=() said status=1
    [ -n "$signers" ] || return 0
    local fix="correct FLEET_UPDATE_SIGNERS: an allowed_signers file of ssh-keygen, one signer a line"
    [ -n "$commit" ] || refuse "$clone is not a git checkout, so its signature cannot be checked" "install from a clone"
    [ -s "$signers" ] && [ -r "$signers" ] || refuse "$signers cannot be read, or is empty" "$fix"
    [ "$(id -u)" != 0 ] || refuse_changeable "$(realpath "$signers")" "give it to root: chown root: and chmod go-w"
    keygen=$(command -v ssh-keygen) || refuse "signatures need ssh-keygen" "apt-get install openssh-client"
    keys=$(mktemp -d)
    cat "$signers" >"$keys/signers"
    chmod -R a+rX "$keys" # the owner of the clone reads a copy, and cannot change it
    for option in program=false openpgp.program=false x509.program=false format=ssh ssh.program="$keygen" \
        ssh.allowedSignersFile="$keys/signers" ssh.revocationFile= minTrustLevel=fully; do
        options+=(-c "gpg.$option")
    done
    if said=$(git "${options[@]}" verify-commit "$commit" 2>&1); then
        status=0
    else
        for tag in $(git tag --points-at "$commit"); do
            ! git "${options[@]}" verify-tag "$tag" >/dev/null 2>&1 || status=0
        done
    fi
    rm -r "$keys"
    [ $status = 0 ] || refuse "refused: commit ${commit:0:12} is not signed by one of $signers, and no tag of it is \
(${said:-no signature}); nothing has changed" "install a commit or tag that one of them has signed, or add its signer there"
}
