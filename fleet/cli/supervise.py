"""``fleet supervise``: supervisord in the foreground, for systemd and containers."""

import subprocess
import sys

from fleet.cli.down import Say, take_down
from fleet.cli.foreground import signalled
from fleet.config import load_settings
from fleet.control.home import Home
from fleet.control.programs import write_programs
from fleet.errors import OperationError
from fleet.processes import end_with_parent

_LOOK_SECONDS = 1.0
_END_SECONDS = 30.0


def supervise(say: Say) -> None:
    """Run supervisord until a signal comes; then all programs drain at once, and it ends.

    supervisord itself, told to end, would have them drain one after another.

    Raises:
        SettingsError: a setting is wrong.
        OperationError: the state folder cannot be used, or supervisord ended by itself.
    """
    settings = load_settings()
    home = Home.of(settings)
    home.prepare()
    write_programs(home, settings)
    command = [sys.executable, "-m", "supervisor.supervisord", "-n", "-c", str(home.configuration)]
    with signalled() as stop:
        supervisord = subprocess.Popen(command, start_new_session=True, preexec_fn=end_with_parent)
        while not stop.wait(_LOOK_SECONDS):
            if supervisord.poll() is not None:
                raise OperationError(
                    f"supervisord ended by itself (status {supervisord.returncode}). Remedy: read "
                    f"{home.logs / 'supervisord.log'}"
                )
        take_down(home, None, say=say)
        supervisord.wait(_END_SECONDS)
