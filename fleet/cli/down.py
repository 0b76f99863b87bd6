"""``fleet down``: drains the workers, ends supervisord, then the embedded stack."""

import time
from collections.abc import Callable

from fleet.cli.fleet_record import FleetRecord
from fleet.control.supervision.machine_processes import missed_its_signal
from fleet.control.supervision.supervisord_client import ProcessStatus, Supervisor, SupervisorAway
from fleet.control.supervision.supervisord_home import Home
from fleet.devstack.detached_processes import ProcessRecord, end_processes

_POLL_SECONDS = 0.2
_SAY_AFTER_SECONDS = 3.0
_OPEN_SECONDS = _END_SECONDS = 20.0

Say = Callable[[str], None]


def take_down(home: Home, record: FleetRecord | None, *, say: Say) -> bool:
    """End the fleet in this home; False if there was nothing to end.

    Its workers finish their tasks in parallel, each within its own bound (``stopwaitsecs``).
    """
    supervisord = [] if record is None else [each for each in record.processes if each.name == "supervisord"]
    found = _end_supervisor(home, supervisord, say)
    if record is not None:
        found = found or bool(record.alive)
        _wait_gone(supervisord)
        end_processes(record.alive)
        FleetRecord.remove(home.state)
    return found


def _end_supervisor(home: Home, supervisord: list[ProcessRecord], say: Say) -> bool:
    """End it once its processes have drained; one that has just started opens its socket a moment later."""
    supervisor, given_up = Supervisor(home.socket), time.monotonic() + _OPEN_SECONDS
    while True:
        try:
            _drained(home, supervisor, say)
            supervisor.shutdown()
        except SupervisorAway:
            if not any(process.alive for process in supervisord) or time.monotonic() > given_up:
                return False
            time.sleep(_POLL_SECONDS)
        else:
            return True


def _drained(home: Home, supervisor: Supervisor, say: Say) -> None:
    """Wait until no process runs; supervisord itself kills those that take too long.

    A process that had just ended when all were told to stop is restarted by supervisord: it is told to stop as
    well.
    """
    began, said = time.monotonic(), ""
    while running := [process for process in supervisor.processes() if process.pid is not None]:
        if any(process.state != "STOPPING" for process in running):
            supervisor.stop_all()
        for process in running:
            if process.state == "STOPPING" and missed_its_signal(home, process):
                supervisor.signal(process, "TERM")
        if time.monotonic() - began > _SAY_AFTER_SECONDS and (text := _draining(running)) != said:
            say(text)
            said = text
        time.sleep(_POLL_SECONDS)


def _draining(running: list[ProcessStatus]) -> str:
    names = ", ".join(process.process for process in running)
    return f"waiting for {names} to finish the calls in flight (Ctrl-C leaves them draining)"


def _wait_gone(supervisord: list[ProcessRecord]) -> None:
    """Give supervisord time to exit by itself, so that it removes its socket and pid file."""
    deadline = time.monotonic() + _END_SECONDS
    while any(process.alive for process in supervisord) and time.monotonic() < deadline:
        time.sleep(_POLL_SECONDS)
