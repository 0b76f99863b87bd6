"""Checks the processes of this machine, by supervisord and their liveness records, and the pollers of the
queues."""

from collections.abc import Iterator

from fleet.config import Settings
from fleet.control.health.doctor.check import NOT_SET, Check, unseen
from fleet.control.health.status import FleetStatus, QueueStatus
from fleet.control.supervision.supervisord_home import Home

_WELL = ("RUNNING", "STARTING")


def process_checks(settings: Settings, status: FleetStatus) -> list[Check]:
    """Check supervisord, its processes, and the pollers of every queue."""
    why = "TEMPORAL_HOST is not known" if NOT_SET in settings.temporal_host else "Temporal is away"
    return [
        *_processes(Home.of(settings), settings, status),
        *(_pollers(queue, settings, why) for queue in status.queues),
    ]


def _processes(home: Home, settings: Settings, status: FleetStatus) -> Iterator[Check]:
    if status.supervisor_problem:
        says, _, remedy = status.supervisor_problem.partition(" Remedy: ")
        yield Check(
            "supervisord", False, says, f"{remedy or 'wait for it'}; installed: systemctl start seo-worker"
        )
        yield unseen("processes", "supervisord is away", "supervisord")
        return
    yield Check("supervisord", True, f"answers on {home.socket}")
    ill = [process for process in status.processes if process.state not in _WELL]
    for process in ill:
        says = f"{process.state} {process.said}".strip()
        remedy = f"read {process.process}.stdout.log in {home.logs}, and "
        remedy += f"{process.process}.log in {settings.logs}; then `fleet roll {process.program}`"
        yield Check(f"process {process.process}", False, says, remedy)
    for complaint in status.complaints:
        yield Check("processes", False, *_mended(complaint, settings))
    if not ill and not status.complaints:
        yield Check("processes", True, f"{len(status.processes)} run: {_counted(status)}")


def _mended(complaint: str, settings: Settings) -> tuple[str, str]:
    """The problem and its remedy, either from the complaint itself or the general one."""
    says, _, remedy = complaint.partition(" Remedy: ")
    return says, remedy or f"read its log in {settings.logs}; one that stands still is replaced within a minute"


def _counted(status: FleetStatus) -> str:
    programs = [process.program for process in status.processes]
    return ", ".join(f"{programs.count(name)} {name}" for name in dict.fromkeys(programs))


def _pollers(queue: QueueStatus, settings: Settings, why_unknown: str) -> Check:
    what = f"pollers of {queue.queue}"
    if queue.pollers is None:
        return unseen(what, why_unknown, "Temporal")
    if not queue.pollers:
        remedy = f"see which process should (`supervisorctl status`), then its log in {settings.logs}"
        return Check(what, False, f"nobody polls the queue {queue.queue}", remedy)
    waits = f", {queue.backlog} wait, the oldest for {queue.backlog_age_seconds:.0f} s" if queue.backlog else ""
    return Check(what, True, f"{queue.pollers}{waits}")
