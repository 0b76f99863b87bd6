"""What is to be done also when a test process is killed, and can do nothing any more."""

import subprocess
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def done_if_killed(command: list[str], environment: Mapping[str, str]) -> Iterator[None]:
    """Have the command run when this process is killed within the block, and only then."""
    when_stdin_closes = ["sh", "-c", 'trap "" INT TERM; cat >/dev/null; exec "$@"', "sh", *command]
    null = subprocess.DEVNULL
    watching = subprocess.Popen(
        when_stdin_closes, env=environment, stdin=subprocess.PIPE, stdout=null, stderr=null, process_group=0
    )
    try:
        yield
    finally:
        watching.kill()
        watching.communicate()


#: By then all that is done for a killed process is done.
_SWEPT_AFTER_SECONDS = 90.0
_SWEEP = r"""
trap "" INT TERM
cat >/dev/null
sleep "$2"
for process in /proc/[0-9]*; do
    pid=${process#/proc/}
    [ "$pid" != $$ ] || continue
    if { tr '\0' '\n' <"$process/cmdline"; tr '\0' '\n' <"$process/environ"; readlink "$process/cwd"; } \
        2>/dev/null | grep -qF -- "$1"; then
        kill -KILL "$pid"
    fi
done
while read -r _ place _; do
    case $place in "$1"/*) umount -l "$place" ;; esac # a mount would fail later runs, which delete the folder
done </proc/mounts
"""


@contextmanager
def swept_if_killed(folder: Path, after_seconds: float = _SWEPT_AFTER_SECONDS) -> Iterator[None]:
    """End every process that has to do with the folder, by its command, its environment or its working directory,
    and what is mounted in it, a while after this process is killed within the block: the ports of its servers may
    become another run's."""
    command, null = ["sh", "-c", _SWEEP, "sweep", str(folder), str(after_seconds)], subprocess.DEVNULL
    watching = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=null, stderr=null, process_group=0)
    try:
        yield
    finally:
        watching.kill()
        watching.communicate()
