# shellcheck shell=bash
# Commands that root runs as another user. To be sourced. Both functions end the shell with the command's status, so
# they are called in a subshell, or last.

# With root's terminal as its own, a program of that user could push input into it, which root's shell would read.
run_as() { # run_as USER COMMAND...: in a session without a terminal of its own; signals are passed on to it
    local child='' early='' heard status
    pass_on() {
        heard=yes
        [ -n "$child" ] || { early=$1 && return; }
        kill "-$1" -- "-$child" 2>/dev/null || kill "-$1" "$child" 2>/dev/null || true
    }
    # Before the command starts: it may be heard of, and a signal be sent, at once.
    trap 'pass_on INT' INT
    trap 'pass_on TERM' TERM
    [ -n "$(trap -p HUP)" ] || trap 'pass_on HUP' HUP # unless the caller ignores it
    setsid env --default-signal=INT,QUIT runuser -u "$1" -- "${@:2}" <&0 &
    child=$!
    [ -z "$early" ] || pass_on "$early"
    while true; do
        heard='' status=0
        wait "$child" || status=$?
        [ -n "$heard" ] || exit "$status"
    done
}

enter_as() { # enter_as USER COMMAND...: like run_as, and with a terminal of its own where this is one
    if [ -t 0 ] && [ -t 1 ] && [ -t 2 ]; then
        exec runuser --pty -u "$1" -- "${@:2}"
    else
        run_as "$@"
    fi
}
