"""The other machines of a fleet, as Temporal knows them: by their processes that poll its queues."""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime

from temporalio.api.taskqueue.v1 import PollerInfo

from fleet.machine_id import Place, place_of


@dataclass(frozen=True)
class OtherMachine:
    """A machine that polled lately: ``polled_seconds`` ago at the latest. ``processes`` are those that Temporal
    still lists, which it does for some minutes."""

    host: str
    machine: str
    processes: list[str]
    polled_seconds: float


def other_machines(
    pollers: Iterable[PollerInfo], own_identity: str, now: datetime | None = None
) -> list[OtherMachine]:
    """Those of these pollers, by host name; without this machine, and whoever is not of a fleet."""
    own, now = place_of(own_identity), now or datetime.now(UTC)
    names: dict[tuple[str, str], set[str]] = {}
    polled: dict[tuple[str, str], float] = {}
    for poller in pollers:
        place = place_of(poller.identity)
        if place is None or not place.machine or _same_machine(place, own):
            continue
        key = (place.host, place.machine)
        names.setdefault(key, set()).add(place.process)
        ago = max((now - poller.last_access_time.ToDatetime(UTC)).total_seconds(), 0.0)
        polled[key] = min(polled.get(key, ago), ago)
    return [OtherMachine(*key, sorted(names[key]), round(polled[key], 1)) for key in sorted(names)]


def _same_machine(one: Place, other: Place | None) -> bool:
    return other is not None and (one.host, one.machine) == (other.host, other.machine)
