"""``fleet supervise``: supervisord in the foreground, for systemd and containers."""

import os
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path

from fleet.cli.down import Say, take_down
from fleet.cli.foreground import Stop, signalled
from fleet.cli.supervised_environment import supervised_environment
from fleet.config import load_settings
from fleet.control.supervision.programs import write_programs
from fleet.control.supervision.supervisord_home import Home
from fleet.errors import OperationError
from fleet.process.process_id import end_with_parent
from fleet.providers.sdk_environment import withheld_proxies

_LOOK_SECONDS = 1.0
_OPEN_SECONDS = 20.0
_END_SECONDS = 30.0
#: Longer than the 630 s after which supervisord itself would have killed its processes.
_DRAIN_SECONDS = 640.0


def supervise(say: Say) -> None:
    """Run supervisord until a signal comes; then all programs drain in parallel, and supervisord ends.

    If supervisord itself got the signal, it would drain them one after another.

    Raises:
        SettingsError: a setting is wrong.
        OperationError: the state folder cannot be used, or supervisord ended by itself.
    """
    settings = load_settings()
    for warning in settings.warnings:
        say(warning)
    home = Home.of(settings)
    home.prepare()
    write_programs(home, settings)
    command = [sys.executable, "-m", "supervisor.supervisord", "-n", "-c", str(home.configuration)]
    if warning := withheld_proxies(os.environ, settings.sdk_variables):
        say(warning)
    with signalled() as stop:
        keep(home, command, stop, say, supervised_environment(os.environ, settings))


def keep(
    home: Home,
    command: list[str],
    stop: Stop,
    say: Say,
    environment: Mapping[str, str] | None = None,
) -> None:
    """Run this supervisord until ``stop`` is set, and outlive all of its processes: systemd, for example, kills
    all remaining processes when this one ends. Without an ``environment`` it gets this process's.

    Raises:
        OperationError: supervisord ended by itself; its processes have finished their calls.
    """
    supervisord = subprocess.Popen(command, start_new_session=True, preexec_fn=end_with_parent, env=environment)
    while not stop.wait(_LOOK_SECONDS):
        if supervisord.poll() is not None:
            say("supervisord has ended by itself; its processes finish their calls")
            _wait_for_processes(home)
            raise OperationError(
                f"supervisord ended by itself (status {supervisord.returncode}). Remedy: read "
                f"{home.logs / 'supervisord.log'}; systemd starts it again"
            )
    _end(supervisord, home, say)
    _wait_for_processes(home)


def _end(supervisord: "subprocess.Popen[bytes]", home: Home, say: Say) -> None:
    """Have supervisord drain and end. If it does not open its socket or does not exit, it is killed: its processes
    then drain by themselves."""
    given_up = time.monotonic() + _OPEN_SECONDS
    while supervisord.poll() is None and not _taken_down(home, say):
        if time.monotonic() > given_up:
            supervisord.kill()
        time.sleep(_LOOK_SECONDS / 5)
    try:
        supervisord.wait(_END_SECONDS)
    except subprocess.TimeoutExpired:
        supervisord.kill()
        supervisord.wait()


def _taken_down(home: Home, say: Say) -> bool:
    try:
        return take_down(home, None, say=say)
    except OperationError as error:
        say(f"{error}; trying again")
        return False


def _wait_for_processes(home: Home) -> None:
    """Wait until the processes that a supervisord left behind have ended; the kernel tells them to drain when it
    is gone."""
    given_up = time.monotonic() + _DRAIN_SECONDS
    while processes_of(home) and time.monotonic() < given_up:
        time.sleep(_LOOK_SECONDS / 5)


def processes_of(home: Home) -> list[int]:
    """The pids of all processes that this home's supervisord started, whether or not supervisord still runs.
    Source: supervisord.org/subprocess.html, SUPERVISOR_SERVER_URL."""
    mark = f"SUPERVISOR_SERVER_URL=unix://{home.folder}/state/{home.socket.name}".encode()
    return [int(path.name) for path in Path("/proc").glob("[0-9]*") if mark in _environment(path)]


def _environment(process: Path) -> list[bytes]:
    try:
        return (process / "environ").read_bytes().split(b"\0")
    except OSError:  # the process has ended, or belongs to another user
        return []
