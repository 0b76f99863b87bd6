"""What is to be done also when a test process is killed, and can do nothing any more."""

import subprocess
from collections.abc import Iterator, Mapping
from contextlib import contextmanager


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
