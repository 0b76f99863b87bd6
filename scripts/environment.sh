# shellcheck shell=bash
# Makes the Python environment of the checkout from the locked requirements. To be sourced:
#   make_environment FOLDER LOCK...      e.g. make_environment .venv devstack

find_python() {
    local candidate
    for candidate in python3 python3.13 python3.12 python3.11; do
        if "$candidate" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then
            command -v "$candidate"
            return
        fi
    done
    echo "No Python 3.11 or newer was found. Remedy: install one, e.g. apt-get install python3 python3-venv" >&2
    return 1
}

fingerprint() { # fingerprint LOCK...
    local lock
    { cat pyproject.toml requirements/build.txt; for lock in "$@"; do cat "requirements/$lock.txt"; done; } |
        sha256sum | cut -c1-16
}

installed() { # installed FOLDER LOCK...: whether exactly this is there already
    local folder=$1
    shift
    [ "$(cat "$folder/.installed" 2>/dev/null)" = "$(fingerprint "$@")" ]
}

make_environment() {
    ! is_made "$@" || return 0
    mkdir -p "$1"
    # Of the scripts that run side by side, one makes it.
    (
        flock 9
        is_made "$@" || install_environment "$@"
    ) 9<"$1"
}

is_made() { # is_made FOLDER LOCK...
    # What the tests need holds all that the demo needs, in the same versions.
    installed "$@" || { [ "${*:2}" = devstack ] && installed "$1" dev; }
}

install_environment() { # install_environment FOLDER LOCK...
    local folder=$1 python uv
    shift
    python=$(find_python)
    echo "Making the environment in $folder ($("$python" --version)); this happens once ..." >&2
    if ! "$folder/bin/python" -m pip --version >/dev/null 2>&1; then
        "$python" -m venv --clear "$folder" || {
            echo "Python could not make a virtual environment. Remedy: apt-get install python3-venv" >&2
            return 1
        }
    fi
    rm -f "$folder/.installed"
    uv=$(find_uv "$folder" "$@")
    if [ -z "$uv" ]; then
        install_locks pip_install "$folder" "$@"
    elif ! install_locks uv_install "$folder" "$@"; then
        echo "uv could not install $* (see above), so pip does it" >&2
        install_locks pip_install "$folder" "$@"
    fi
    # Many processes load what the tests need, and each would compile it.
    [ "$*" != dev ] || "$folder/bin/python" -m compileall -q -j 0 "$folder/lib" >/dev/null 2>&1 || true
    fingerprint "$@" >"$folder/.installed"
}

install_locks() { # install_locks INSTALLER FOLDER LOCK...
    local installer=$1 folder=$2 lock
    shift 2
    # A lock names all that is needed, so nothing is resolved again: what is newer than a lock stops no installation.
    for lock in build "$@"; do
        with_progress "$installer" "$folder" --require-hashes -r "requirements/$lock.txt" || return
    done
    with_progress "$installer" "$folder" --editable .
}

# uv needs a fifth of pip's processor time, and checks the same hashes. It is there where the tests are, so what
# machines and images are installed with is pip.
find_uv() { # find_uv FOLDER LOCK...: prints the uv that installs them; nothing where pip does
    local folder=$1 lock
    shift
    [ "$*" = dev ] || [ -x .venv/bin/uv ] || return 0
    if [[ $("$folder/bin/python" -m pip config list) =~ \.(index-url|no-index)= ]]; then
        echo "uv is left out: pip has an index of its own here, and uv reads none of pip's settings" >&2
    elif [ "$*" = dev ]; then
        lock=$(mktemp)
        sed -n '/^uv==/,/[^\]$/p' requirements/dev.txt >"$lock"
        pip_install "$folder" --only-binary :all: --require-hashes -r "$lock" >&2 && echo "$folder/bin/uv"
        rm "$lock"
    else
        echo .venv/bin/uv
    fi
}

pip_install() { # pip_install FOLDER ARGUMENT...
    "$1/bin/python" -m pip install -qq --disable-pip-version-check --no-build-isolation --no-deps "${@:2}"
}

uv_install() { # uv_install FOLDER ARGUMENT...: by the uv that make_environment has found
    "$uv" pip install -q --python "$1/bin/python" --no-build-isolation --no-deps "${@:2}"
}

progress_seconds=15 # how often an installation says that it goes on

with_progress() { # with_progress INSTALLER FOLDER ARGUMENT...
    local progress status=0
    say_progress "$2" >&2 &
    progress=$!
    "$@" || status=$?
    kill "$progress" 2>/dev/null || true
    wait "$progress" 2>/dev/null || true
    return "$status"
}

say_progress() { # say_progress FOLDER: until it is ended, or the script is
    local began=$SECONDS next=$((SECONDS + progress_seconds))
    # Leaves no process of its user, which could not be removed then.
    trap 'kill %% 2>/dev/null || true; wait; exit 0' TERM
    while kill -0 $$ 2>/dev/null; do
        sleep 1 >/dev/null 2>&1 &
        wait $! || true
        if [ "$SECONDS" -ge "$next" ]; then
            echo "installing into $1: $((SECONDS - began)) s ..."
            next=$((SECONDS + progress_seconds))
        fi
    done
}

locks() { # the names of all locks
    local file
    for file in requirements/*.txt; do basename "$file" .txt; done | tr '\n' ' '
}

make_tools() { # make_tools FOLDER LOCK: an environment of programs alone, without the fleet
    local folder=$1 lock=$2
    if [ "$(cat "$folder/.installed" 2>/dev/null)" = "$(sha256sum <"requirements/$lock.txt")" ]; then
        return
    fi
    "$(find_python)" -m venv --clear "$folder"
    with_progress pip_install "$folder" --require-hashes -r "requirements/$lock.txt" >&2
    sha256sum <"requirements/$lock.txt" >"$folder/.installed"
}
