"""The processes of this machine as their pulses show them, and which of them only a new process can mend."""

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from fleet.control.home import Home
from fleet.control.supervisor import ProcessStatus
from fleet.pulse import PulseRecord, pulse_file

RUNNING = "RUNNING"
#: Silence after which a stopped process is replaced; also the time that one may be without pollers.
STOPPED_SECONDS = 20.0
#: Silence after which any other is: a slow disk may hold up its pulse.
STILL_SECONDS = 40.0
_STARTING_SECONDS = 30
_LAG_SECONDS = 5.0


def pulse_of(home: Home, process: ProcessStatus) -> PulseRecord | None:
    """The pulse of a running process; None if it has none yet."""
    record = PulseRecord.read(pulse_file(home.state, process.process))
    return record if record is not None and record.pid == process.pid else None


def serves(home: Home, process: ProcessStatus) -> bool:
    """Whether a process runs, is connected, and polls all that it is there to poll."""
    if process.state not in (RUNNING, "STARTING"):
        return False
    pulse = pulse_of(home, process)
    return pulse is not None and pulse.stage == "serving" and all(one.pollers for one in pulse.queues.values())


def complaint(process: ProcessStatus, pulse: PulseRecord | None, now: float) -> str | None:
    """What is wrong with a running process, for people; None if nothing is."""
    if process.state != RUNNING or process.uptime_seconds < _STARTING_SECONDS:
        return None
    if pulse is None:
        return f"{process.process} shows no pulse"
    if now - pulse.at > STOPPED_SECONDS:
        return f"{process.process} has stood still for {now - pulse.at:.0f} s"
    if pulse.lag_seconds > _LAG_SECONDS:
        return f"{process.process}: its event loop has been blocked for {pulse.lag_seconds:.0f} s"
    if pulse.stage == "starting":
        return f"{process.process} is not connected to Temporal"
    idle = [queue for queue, polls in pulse.queues.items() if not polls.pollers]
    if pulse.stage == "serving" and idle:
        return f"{process.process} has no poller on {', '.join(idle)}"
    return None


def _is_stopped(pid: int) -> bool:
    """Whether the kernel has it stopped, as after SIGSTOP. Source: proc_pid_stat(5)."""
    try:
        return Path(f"/proc/{pid}/stat").read_text("utf-8").rpartition(")")[2].split()[0] in ("T", "t")
    except OSError:
        return False


@dataclass
class _Seen:
    """A pulse as it was when it last changed."""

    pid: int
    at: float
    since: float
    idle_since: float | None = None


@dataclass
class Watch:
    """Finds processes that stand still, or poll nothing, by a clock that does not run while the machine sleeps:
    a machine that wakes up has no patients."""

    home: Home
    clock: Callable[[], float] = time.monotonic
    _seen: dict[str, _Seen] = field(default_factory=dict)

    def patient(self, process: ProcessStatus) -> str | None:
        """Why this process must be replaced; None if it need not be."""
        if process.state != RUNNING or process.pid is None:
            self._seen.pop(process.process, None)
            return None
        now, pulse = self.clock(), pulse_of(self.home, process)
        at = pulse.at if pulse is not None else 0.0
        seen = self._seen.get(process.process)
        if seen is None or seen.pid != process.pid:
            seen = self._seen[process.process] = _Seen(process.pid, at, now)
        if at != seen.at:
            seen.at, seen.since = at, now
        still = now - seen.since
        if still > (STOPPED_SECONDS if _is_stopped(process.pid) else STILL_SECONDS):
            return f"it has stood still for {still:.0f} s"
        if pulse is None or pulse.stage != "serving" or all(one.pollers for one in pulse.queues.values()):
            seen.idle_since = None
            return None
        seen.idle_since = now if seen.idle_since is None else seen.idle_since
        idle = now - seen.idle_since
        return f"it has had no poller for {idle:.0f} s" if idle > STOPPED_SECONDS else None
