"""The other machines of a fleet, as Temporal knows them: by their processes that poll its queues, and by the
budgets that have heard those. What they tell themselves: :mod:`fleet.control.asking`.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime

from temporalio.api.taskqueue.v1 import PollerInfo

from fleet.budgets.queues import POLLER_SECONDS
from fleet.budgets.reports import MachineStanding, Standing
from fleet.machine_id import place_of

#: A machine that neither polls nor reports for so long is gone; a poll waits on the server for a minute.
GONE_SECONDS = 90.0
_MOST_NAME = 200


@dataclass(frozen=True)
class Told:
    """What a machine's control process answered. ``uptime_seconds`` is that of its oldest process;
    ``processes`` are all of them with supervisord's word for their state."""

    version: str = ""
    uptime_seconds: int | None = None
    processes: dict[str, str] = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class OtherMachine:
    """A machine that polled or reported within the last day. ``polled_seconds`` and ``heard_seconds`` ago were its
    latest poll and report, None where Temporal or the budgets know of none any more; ``processes`` are those that
    Temporal still lists, ``pollers`` how many of them poll a queue now. ``gone_seconds`` ago it was last seen;
    None where that is lately. ``told`` is None where it was not asked or did not answer; ``why_not`` says why."""

    host: str
    machine: str
    processes: list[str] = field(default_factory=list)
    polled_seconds: float | None = None
    pollers: dict[str, int] = field(default_factory=dict)
    version: str = ""
    control_url: str = ""
    heard_seconds: float | None = None
    gone_seconds: float | None = None
    told: Told | None = None
    why_not: str = ""

    @property
    def name(self) -> str:
        """``HOST+MACHINE``."""
        return f"{self.host}+{self.machine}"


@dataclass
class _Polling:
    """What the pollers tell of one machine."""

    processes: set[str] = field(default_factory=set)
    ages: list[float] = field(default_factory=list)
    identities: dict[str, set[str]] = field(default_factory=dict)


def other_machines(
    pollers: Mapping[str, Iterable[PollerInfo]],
    standings: Iterable[Standing],
    own_identity: str,
    now: datetime | None = None,
) -> list[OtherMachine]:
    """The machines of these pollers, by queue, and of these budgets, sorted by host name, without this one. What
    is not part of a fleet is left out."""
    now = now or datetime.now(UTC)
    polling = _polling(pollers, now)
    heard = _heard(standings)
    own = place_of(own_identity)
    names = polling.keys() | heard.keys()
    if own is not None:
        names -= {(own.host, own.machine)}
    return [_machine(*name, polling.get(name, _Polling()), heard.get(name), now) for name in sorted(names)]


def _polling(pollers: Mapping[str, Iterable[PollerInfo]], now: datetime) -> dict[tuple[str, str], _Polling]:
    found: dict[tuple[str, str], _Polling] = {}
    for queue, polls in pollers.items():
        for poller in polls:
            place = place_of(poller.identity)
            if place is None or not place.machine:
                continue
            one = found.setdefault((place.host, place.machine), _Polling())
            age = max((now - poller.last_access_time.ToDatetime(UTC)).total_seconds(), 0.0)
            one.processes.add(place.process)
            one.ages.append(age)
            if age <= POLLER_SECONDS:
                one.identities.setdefault(queue, set()).add(poller.identity)
    return found


def _heard(standings: Iterable[Standing]) -> dict[tuple[str, str], MachineStanding]:
    """The latest that any budget has heard, and the latest that was told of how the machine is found."""
    found: dict[tuple[str, str], MachineStanding] = {}
    known = (one for standing in standings for one in standing.machines)
    for one in sorted(known, key=lambda machine: machine.heard_at):
        host, _, machine = one.machine[:_MOST_NAME].rpartition("+")
        if not (host and machine):
            continue
        before = found.get((host, machine), one)
        version, url = (one if one.version else before).version, (one if one.version else before).control_url
        found[host, machine] = MachineStanding(one.machine, one.heard_at, version, url)
    return found


def _machine(
    host: str, machine: str, polling: _Polling, heard: MachineStanding | None, now: datetime
) -> OtherMachine:
    polled = round(min(polling.ages), 1) if polling.ages else None
    told = None if heard is None else round(max(now.timestamp() - heard.heard_at, 0.0), 1)
    seen = min(age for age in (polled, told) if age is not None)
    return OtherMachine(
        host,
        machine,
        sorted(polling.processes),
        polled,
        {queue: len(identities) for queue, identities in sorted(polling.identities.items())},
        "" if heard is None else heard.version,
        "" if heard is None else heard.control_url,
        told,
        seen if seen > GONE_SECONDS else None,
    )
