"""The processes of this machine as their liveness records show them, and which of them must be replaced."""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path

from fleet.control.supervision.supervisord_client import ProcessStatus
from fleet.control.supervision.supervisord_home import Home
from fleet.process.liveness import LONGEST_START_SECONDS, LivenessRecord, Unreachable, liveness_file
from fleet.process.pollers import OVERDUE_SECONDS, QueuePolls

RUNNING = "RUNNING"
#: Silence after which a stopped process is replaced; also the longest time without pollers.
STOPPED_SECONDS = 20.0
#: Silence after which any other process is replaced that has begun to beat: a slow disk may delay its liveness
#: record.
STILL_SECONDS = 40.0
#: Time in which a process may start: so long it is not expected to poll.
STARTING_SECONDS = 30
_LAG_SECONDS = 5.0
_FAILING_SECONDS = 30.0
# Runs this short, including supervisord's delay before the next one, are not taken as chance.
_SHORT_RUN_SECONDS = 35.0
_SHORT_RUNS = 2


def record_of(home: Home, process: ProcessStatus) -> LivenessRecord | None:
    """The last liveness record under that process's name, from this process or the one before it."""
    return LivenessRecord.read(liveness_file(home.state, process.process))


def liveness_of(home: Home, process: ProcessStatus) -> LivenessRecord | None:
    """The liveness record of a running process; None if it has none yet."""
    return _own(record_of(home, process), process)


def _own(record: LivenessRecord | None, process: ProcessStatus) -> LivenessRecord | None:
    return record if record is not None and record.pid == process.pid else None


def serves(home: Home, process: ProcessStatus) -> bool:
    """Whether a process runs, responds, is connected, and polls all queues that it should poll.

    A poll waits at the server for up to a minute, so none needs to have ended: for a process that has just started
    it is enough that Temporal answered it, that its pollers have sent their polls, and that these do not fail.
    """
    liveness = liveness_of(home, process)
    if liveness is None or process.state not in (RUNNING, "STARTING") or liveness.stage != "serving":
        return False
    if not _answers(liveness, time.time()):
        return False
    polls = liveness.queues.values()
    return not polls or (
        liveness.connected is not False and all(poll.served and poll.failing_since is None for poll in polls)
    )


def comes_up(home: Home, process: ProcessStatus) -> bool:
    """Whether a process serves, or would serve if a call could be sent from this machine: a restart would not fix
    that."""
    liveness = liveness_of(home, process)
    probes = liveness is not None and liveness.stage == "probing" and _answers(liveness, time.time())
    return probes or serves(home, process)


def _answers(liveness: LivenessRecord, now: float) -> bool:
    return now - liveness.alive_at <= STOPPED_SECONDS and liveness.lag_seconds <= _LAG_SECONDS


@dataclass(frozen=True)
class QueueVitals:
    """A queue that a process polls. ``polled_seconds_ago`` is when a poll last succeeded, None if none has yet;
    ``full``: all its task slots are in use, so it does not poll."""

    pollers: int
    full: bool
    polled_seconds_ago: float | None


@dataclass(frozen=True)
class Vitals:
    """The state of a process. ``connected``: to Temporal, None if the process sends it no requests or that is not
    known; ``restarts``: the number of restarts since its last orderly exit. ``unreachable``: why it takes no
    calls, if so."""

    stage: str
    pulse_age_seconds: float
    lag_seconds: float
    loop_alive: bool
    connected: bool | None
    restarts: int
    queues: dict[str, QueueVitals]
    unreachable: Unreachable | None = None

    @classmethod
    def of(cls, liveness: LivenessRecord, now: float) -> "Vitals":
        """The vitals from its liveness record."""
        return cls(
            stage=liveness.stage,
            pulse_age_seconds=_ago(liveness.alive_at, now),
            lag_seconds=liveness.lag_seconds,
            loop_alive=_answers(liveness, now),
            connected=liveness.connected if liveness.current else None,
            restarts=liveness.restarts,
            queues={name: _queue_vitals(polls, now) for name, polls in liveness.queues.items()},
            unreachable=liveness.unreachable if liveness.stage == "probing" else None,
        )


def _queue_vitals(polls: QueuePolls, now: float) -> QueueVitals:
    ago = None if polls.polled_at is None else _ago(polls.polled_at, now)
    return QueueVitals(polls.pollers, polls.full, ago)


def _ago(moment: float, now: float) -> float:
    return round(max(now - moment, 0.0), 1)


def complaint(
    process: ProcessStatus, record: LivenessRecord | None, now: float, *, temporal_up: bool = True
) -> str | None:
    """What is wrong with a running process, as text for people; None if nothing is. ``record`` is the last one
    under its name."""
    name, liveness = process.process, _own(record, process)
    if process.state not in (RUNNING, "STARTING"):
        return None
    if (
        liveness is not None
        and liveness.stage == "probing"
        and liveness.unreachable is not None
        and _answers(liveness, now)
    ):
        return _cannot_send(name, liveness.unreachable, now)
    if process.uptime_seconds < STARTING_SECONDS:
        return _keeps_ending(process, record, now)
    if liveness is None:
        return f"{name} shows no pulse"
    if now - liveness.alive_at > STOPPED_SECONDS:
        return f"{name} has stood still for {now - liveness.alive_at:.0f} s"
    if not liveness.current:
        return f"{name} lives, but how it goes is not known: it cannot write its pulse; is the disk full?"
    if liveness.lag_seconds > _LAG_SECONDS:
        return f"{name}: its event loop has been blocked for {liveness.lag_seconds:.0f} s"
    if liveness.stage == "starting":
        return f"{name} is not connected to Temporal"
    return _of_its_polls(name, liveness, now, temporal_up) if liveness.stage == "serving" else None


def cut_off_here(
    processes: list[ProcessStatus], vitals: Mapping[str, Vitals], program: str, now: float
) -> list[str]:
    """What each process of the program says that cannot send calls; empty while one of them can, or none runs."""
    named = [each.process for each in processes if each.program == program and each.state == RUNNING]
    lost = [(name, vitals[name].unreachable) for name in named if name in vitals]
    said = [_cannot_send(name, unreachable, now) for name, unreachable in lost if unreachable is not None]
    return said if len(said) == len(named) else []


def _cannot_send(name: str, lost: Unreachable, now: float) -> str:
    return f"{name} cannot {lost.cannot}: probing, next in {max(lost.next_at - now, 0.0):.0f} s: {lost.why}"


def _keeps_ending(process: ProcessStatus, record: LivenessRecord | None, now: float) -> str | None:
    """The complaint if the runs before this one were short, too. supervisord gives up only on a process that ends
    within 5 s."""
    if record is None or (_own(record, process) is None and record.stage == "ended"):
        return None
    starts = record.starts
    if _own(record, process) is None:  # the process has not written a record yet
        starts = [*starts, now - process.uptime_seconds]
    runs = [later - earlier for earlier, later in pairwise(starts)][-_SHORT_RUNS:]
    if len(runs) < _SHORT_RUNS or max(runs) > _SHORT_RUN_SECONDS:
        return None
    took = " and ".join(f"{run:.0f}" for run in runs)
    return f"{process.process} keeps ending: its last runs took {took} s; its log says why"


def _of_its_polls(name: str, liveness: LivenessRecord, now: float, temporal_up: bool) -> str | None:
    if idle := liveness.idle_queues():
        return f"{name} has no poller on {', '.join(idle)}"
    if not liveness.queues or not temporal_up:
        return None
    if liveness.connected is False:
        return f"{name} has lost its connection to Temporal"
    for queue, polls in liveness.queues.items():
        if polls.failing_since is not None and now - polls.failing_since > _FAILING_SECONDS:
            return f"{name}: its polls of {queue} have failed for {now - polls.failing_since:.0f} s"
        if polls.due_since is not None and now - polls.due_since > OVERDUE_SECONDS:
            return f"{name}: no poll of {queue} has come back well for {now - polls.due_since:.0f} s"
    return None


def _is_stopped(pid: int) -> bool:
    """Whether the kernel has stopped it, as after SIGSTOP. Source: proc_pid_stat(5)."""
    try:
        return Path(f"/proc/{pid}/stat").read_text("utf-8").rpartition(")")[2].split()[0] in ("T", "t")
    except OSError:
        return False


@dataclass
class _Seen:
    """The last sign of life of a process: the modification time of its liveness record, and when that was new."""

    pid: int
    sign: int
    since: float
    idle_since: float | None = None


@dataclass
class Watch:
    """Finds processes that are frozen or poll nothing. Its clock does not run while the machine sleeps, so that no
    process is replaced when the machine wakes up."""

    home: Home
    clock: Callable[[], float] = time.monotonic
    _seen: dict[str, _Seen] = field(default_factory=dict)

    def can_see(self) -> bool:
        """Whether processes can write signs of life here. If this process cannot, the silence of others says
        nothing."""
        probe = self.home.state / "pulse" / ".probe"
        try:
            probe.unlink(missing_ok=True)
            probe.touch()
        except OSError:
            self._seen.clear()
            return False
        return True

    def patient(self, process: ProcessStatus) -> str | None:
        """Why this process must be replaced; None if it need not be."""
        if process.state != RUNNING or process.pid is None:
            self._seen.pop(process.process, None)
            return None
        now, sign = self.clock(), self._sign_of_life(process)
        seen = self._seen.get(process.process)
        if seen is None or seen.pid != process.pid:
            seen = self._seen[process.process] = _Seen(process.pid, sign, now)
        if sign != seen.sign:
            seen.sign, seen.since = sign, now
        still, liveness = now - seen.since, liveness_of(self.home, process)
        longest = LONGEST_START_SECONDS if liveness is None else STILL_SECONDS
        if still > (STOPPED_SECONDS if _is_stopped(process.pid) else longest):
            return f"it has stood still for {still:.0f} s"
        if liveness is None or not liveness.idle_queues():
            seen.idle_since = None
            return None
        seen.idle_since = now if seen.idle_since is None else seen.idle_since
        idle = now - seen.idle_since
        return f"it has had no poller for {idle:.0f} s" if idle > STOPPED_SECONDS else None

    def _sign_of_life(self, process: ProcessStatus) -> int:
        """The file's modification time, which can be set without disk space; the content needs space and may be
        old."""
        try:
            return liveness_file(self.home.state, process.process).stat().st_mtime_ns
        except OSError:
            return 0
