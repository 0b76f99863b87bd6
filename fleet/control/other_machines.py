"""The other machines of a fleet, as Temporal knows them: by their processes that poll its queues."""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime

from temporalio.api.taskqueue.v1 import PollerInfo

from fleet.machine_id import place_of


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
    """The machines of these pollers, sorted by host name, without this one. Pollers that are not part of a fleet
    are left out."""
    own, now = place_of(own_identity), now or datetime.now(UTC)
    names: dict[tuple[str, str], set[str]] = {}
    polled: dict[tuple[str, str], float] = {}
    for poller in pollers:
        place = place_of(poller.identity)
        if place is None or not place.machine:
            continue
        key = (place.host, place.machine)
        if own is not None and key == (own.host, own.machine):
            continue
        names.setdefault(key, set()).add(place.process)
        ago = max((now - poller.last_access_time.ToDatetime(UTC)).total_seconds(), 0.0)
        polled[key] = min(polled.get(key, ago), ago)
    return [OtherMachine(*key, sorted(names[key]), round(polled[key], 1)) for key in sorted(names)]
