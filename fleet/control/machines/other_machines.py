"""The other machines of a fleet, as Temporal knows them: by their processes that poll its queues, and by the
reports that the budgets received from them. What they report themselves:
:mod:`fleet.control.machines.ask_machines`."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime

from temporalio.api.taskqueue.v1 import PollerInfo

from fleet.budgets.messages import BudgetStatus, KnownMachine
from fleet.budgets.queue_client import POLLER_SECONDS
from fleet.process.machine_id import place_of

#: A machine that neither polls nor reports for this long is gone; a poll waits on the server for a minute.
GONE_SECONDS = 90.0
_MAX_NAME = 200


@dataclass(frozen=True)
class Told:
    """What a machine's control process answered. ``uptime_seconds`` is that of its oldest process; ``processes``
    are all its processes with their supervisord state, ``projects`` the fingerprints of those that its backend
    serves from a folder."""

    version: str = ""
    uptime_seconds: int | None = None
    processes: dict[str, str] = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)
    projects: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class OtherMachine:
    """A machine that polled or reported within the last day. ``polled_seconds`` and ``heard_seconds`` are the ages
    of its latest poll and report, None if Temporal or the budgets know of none any more. ``processes`` are those
    that Temporal still lists, ``pollers`` counts, by queue, those that poll now. ``seen_seconds`` is the age of
    the last sign of life; ``gone_seconds`` is the same, or None if that is recent. ``told`` is None if the machine
    was not asked or did not answer; ``why_not`` then gives the reason."""

    host: str
    machine: str
    processes: list[str] = field(default_factory=list)
    polled_seconds: float | None = None
    pollers: dict[str, int] = field(default_factory=dict)
    version: str = ""
    control_url: str = ""
    heard_seconds: float | None = None
    seen_seconds: float = 0.0
    gone_seconds: float | None = None
    told: Told | None = None
    why_not: str = ""

    @property
    def name(self) -> str:
        """``HOST+MACHINE``."""
        return f"{self.host}+{self.machine}"


@dataclass
class _Polling:
    """What the pollers show of one machine."""

    processes: set[str] = field(default_factory=set)
    ages: list[float] = field(default_factory=list)
    identities: dict[str, set[str]] = field(default_factory=dict)


def other_machines(
    pollers: Mapping[str, Iterable[PollerInfo]],
    budget_statuses: Iterable[BudgetStatus],
    own_identity: str,
    now: datetime | None = None,
    last_seen: Iterable[KnownMachine] = (),
) -> list[OtherMachine]:
    """The machines of these pollers (by queue), of these budgets and of earlier ``last_seen`` records, sorted by
    host name, without this machine. Pollers that are not part of a fleet are left out."""
    now = now or datetime.now(UTC)
    polling = _polling(pollers, now)
    heard = _latest(machine for budget_status in budget_statuses for machine in budget_status.machines)
    remembered = _latest(last_seen)
    own = place_of(own_identity)
    names = polling.keys() | heard.keys() | remembered.keys()
    if own is not None:
        names -= {(own.host, own.machine)}
    return [
        _machine(*name, polling.get(name, _Polling()), heard.get(name), remembered.get(name), now)
        for name in sorted(names)
    ]


def _polling(pollers: Mapping[str, Iterable[PollerInfo]], now: datetime) -> dict[tuple[str, str], _Polling]:
    found: dict[tuple[str, str], _Polling] = {}
    for queue, polls in pollers.items():
        for poller in polls:
            place = place_of(poller.identity)
            if place is None or not place.machine:
                continue
            polling = found.setdefault((place.host, place.machine), _Polling())
            age = max((now - poller.last_access_time.ToDatetime(UTC)).total_seconds(), 0.0)
            polling.processes.add(place.process)
            polling.ages.append(age)
            if age <= POLLER_SECONDS:
                polling.identities.setdefault(queue, set()).add(poller.identity)
    return found


def _latest(machines: Iterable[KnownMachine]) -> dict[tuple[str, str], KnownMachine]:
    """The latest report of each machine, with the latest version and address that it reported."""
    found: dict[tuple[str, str], KnownMachine] = {}
    for known in sorted(machines, key=lambda machine: machine.heard_at):
        host, _, machine = known.machine[:_MAX_NAME].rpartition("+")
        if not (host and machine):
            continue
        telling = known if known.version else found.get((host, machine), known)
        found[host, machine] = KnownMachine(known.machine, known.heard_at, telling.version, telling.control_url)
    return found


def _machine(
    host: str,
    machine: str,
    polling: _Polling,
    heard: KnownMachine | None,
    remembered: KnownMachine | None,
    now: datetime,
) -> OtherMachine:
    polled = min(polling.ages, default=None)
    ages = [polled, _age(heard, now), _age(remembered, now)]
    seen = min(age for age in ages if age is not None)
    tells = next((known for known in (heard, remembered) if known is not None and known.version), None)
    return OtherMachine(
        host,
        machine,
        sorted(polling.processes),
        None if polled is None else round(polled, 1),
        {queue: len(identities) for queue, identities in sorted(polling.identities.items())},
        "" if tells is None else tells.version,
        "" if tells is None else tells.control_url,
        _age(heard, now),
        round(seen, 1),
        round(seen, 1) if seen > GONE_SECONDS else None,
    )


def _age(budget_status: KnownMachine | None, now: datetime) -> float | None:
    return None if budget_status is None else round(max(now.timestamp() - budget_status.heard_at, 0.0), 1)
