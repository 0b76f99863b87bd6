"""The providers' limits as true token buckets.

Requests and tokens refill at their rate a minute up to a burst. What a call costs differs from vendor to vendor:
see :class:`Charging`. Another customer of the same account
(``PUT /tenant``) drains the request bucket all the while.
"""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Literal, Protocol

from fleet.devstack.simulator.calls import Call, key_mark
from fleet.devstack.simulator.latency import number

Clock = Callable[[], float]
Kind = Literal["requests", "input_tokens", "output_tokens", "requests_per_day"]
_DAY_SECONDS = 86_400.0


class Charging(Protocol):
    """How a vendor charges a call: see :class:`fleet.devstack.simulator.vendors.SimulatedVendor`."""

    @property
    def charges(self) -> Callable[[Call], dict[Kind, float]]:
        """What a call costs of each limit at its arrival."""

    @property
    def settles_output(self) -> bool:
        """Whether the output's charge is corrected when the answer is known."""

    @property
    def charges_refused(self) -> bool:
        """Whether a call that is refused for a limit counts as a request."""


@dataclass(frozen=True, slots=True)
class Limit:
    """Requests and tokens a minute, requests a day; None is no limit. The burst is seconds of refill, that of
    requests may be another one."""

    rpm: float | None = 10_000.0
    input_tpm: float | None = 10_000_000.0
    output_tpm: float | None = 2_000_000.0
    rpd: float | None = None
    burst_seconds: float = 60.0
    request_burst_seconds: float | None = None

    def changed(self, values: Mapping[str, Any]) -> "Limit":
        """This limit with some values replaced; ValueError for one that is no number of at least 0."""
        changes: dict[str, float | None] = {}
        for name in ("rpm", "input_tpm", "output_tpm", "rpd", "request_burst_seconds"):
            if name in values:
                changes[name] = None if values[name] is None else number(name, values[name])
        if "burst_seconds" in values:
            changes["burst_seconds"] = number("burst_seconds", values["burst_seconds"])
        return replace(self, **changes)  # type: ignore[arg-type]

    def shown(self) -> dict[str, float | None]:
        """As ``GET /limits`` shows it."""
        return {
            "rpm": self.rpm,
            "input_tpm": self.input_tpm,
            "output_tpm": self.output_tpm,
            "rpd": self.rpd,
            "burst_seconds": self.burst_seconds,
            "request_burst_seconds": self.request_burst_seconds,
        }


@dataclass(slots=True)
class Bucket:
    """A token bucket. ``rate`` is units a second; ``drain`` what somebody else takes of it a second."""

    rate: float
    capacity: float
    level: float
    updated: float
    drain: float = 0.0

    def level_at(self, now: float) -> float:
        """The level then; it may be below 0 after a settlement."""
        flow = (self.rate - self.drain) * max(now - self.updated, 0.0)
        lowest = min(self.level, 0.0)
        return min(self.capacity, max(self.level + flow, lowest))

    def refill(self, now: float) -> None:
        """Bring the level up to date."""
        self.level = self.level_at(now)
        self.updated = now

    def wait_for(self, amount: float) -> float:
        """Seconds until ``amount`` is there, 0 if it is; what exceeds the capacity waits for a full bucket."""
        missing = min(amount, self.capacity) - self.level
        if missing <= 0:
            return 0.0
        net = self.rate - self.drain
        return missing / net if net > 0 else _DAY_SECONDS

    def full_in(self) -> float:
        """Seconds until it is full again."""
        return max(self.capacity - self.level, 0.0) / self.rate if self.rate > 0 else _DAY_SECONDS


@dataclass(frozen=True, slots=True)
class Reading:
    """What headers say of one bucket. ``reset_seconds`` until it is full."""

    limit: float
    remaining: float
    reset_seconds: float


class OverLimit(Exception):
    """A call for which there was no room in a bucket. ``wait_seconds`` is None for one whose tokens are more than
    the limit a minute, ``requested`` of them: it never finds room."""

    def __init__(self, kind: Kind, limit: float, wait_seconds: float | None, requested: float) -> None:
        super().__init__(kind)
        self.kind: Kind = kind
        self.limit = limit
        self.wait_seconds = wait_seconds
        self.requested = requested


@dataclass(slots=True)
class Account:
    """The buckets of one key (Gemini: project) for one provider and model."""

    limit: Limit
    buckets: dict[Kind, Bucket] = field(default_factory=dict)


def _bucket(per_minute: float, burst_seconds: float, now: float) -> Bucket:
    capacity = max(per_minute / 60 * burst_seconds, 1.0)
    return Bucket(per_minute / 60, capacity, capacity, now)


class Limits:
    """All limits, and the buckets that they fill. ``charging_of`` finds a provider's vendor."""

    def __init__(self, charging_of: Callable[[str], Charging], clock: Clock = time.monotonic) -> None:
        self._charging_of = charging_of
        self._clock = clock
        self._limits: dict[tuple[str, str | None], Limit] = {}
        self._tenants: dict[str, float] = {}
        self._accounts: dict[tuple[str, str | None, str], Account] = {}

    def set(self, provider: str, model: str | None, values: Mapping[str, Any]) -> None:
        """Change a limit. Its buckets keep their share: what was half full is half full."""
        limit = self._limits.get((provider, model), Limit()).changed(values)
        self._limits[provider, model] = limit
        for (owner, of_model, _), account in self._accounts.items():
            if (owner, of_model) == (provider, model):
                self._resize(account, limit)

    def set_tenant(self, provider: str, rpm: float) -> None:
        """Have another customer take this many requests a minute from every bucket of the provider."""
        self._tenants[provider] = rpm
        for (owner, _, _), account in self._accounts.items():
            if owner == provider and (bucket := account.buckets.get("requests")):
                bucket.refill(self._clock())
                bucket.drain = rpm / 60

    def shown(self) -> list[dict[str, Any]]:
        """As ``GET /limits`` shows them."""
        return [
            {"provider": provider, "model": model} | limit.shown()
            for (provider, model), limit in self._limits.items()
        ]

    def levels(self) -> list[dict[str, Any]]:
        """What is in every bucket now, as ``GET /limits`` shows it; looking changes nothing."""
        now = self._clock()
        return [
            {"provider": provider, "model": model, "key": key_mark(key), "kind": kind}
            | {"level": round(bucket.level_at(now), 3), "capacity": bucket.capacity}
            for (provider, model, key), account in self._accounts.items()
            for kind, bucket in account.buckets.items()
        ]

    def admit(self, call: Call) -> None:
        """Charge a call at its arrival.

        Raises:
            OverLimit: a bucket has no room; at some vendors the call counts as a request all the same.
        """
        account, now = self._account(call), self._clock()
        charges = self._charging_of(call.provider).charges(call)
        for kind, bucket in account.buckets.items():
            bucket.refill(now)
            amount, limit = charges.get(kind, 0.0), round(bucket.rate * 60, 6)
            wait = None if kind == "input_tokens" and amount > limit else bucket.wait_for(amount)
            if wait is None or wait > 0:
                self._charge_refused(call, account)
                raise OverLimit(kind, limit, wait, amount)
        for kind, bucket in account.buckets.items():
            bucket.level -= min(charges.get(kind, 0.0), bucket.capacity)

    def settle(self, call: Call, output_tokens: int) -> None:
        """Correct the output's charge, at a vendor that does, when the answer is known."""
        vendor, bucket = self._charging_of(call.provider), self._account(call).buckets.get("output_tokens")
        if vendor.settles_output and bucket is not None:
            bucket.level += vendor.charges(call)["output_tokens"] - output_tokens

    def readings(self, call: Call) -> dict[Kind, Reading]:
        """What headers tell about the call's buckets."""
        account, now = self._account(call), self._clock()
        readings: dict[Kind, Reading] = {}
        for kind, bucket in account.buckets.items():
            bucket.refill(now)
            readings[kind] = Reading(round(bucket.rate * 60), max(int(bucket.level), 0), bucket.full_in())
        return readings

    def _charge_refused(self, call: Call, account: Account) -> None:
        requests = account.buckets.get("requests")
        if self._charging_of(call.provider).charges_refused and requests is not None:
            requests.level = min(requests.level, max(requests.level - 1, 0.0))

    def _account(self, call: Call) -> Account:
        model = call.model if (call.provider, call.model) in self._limits else None
        name = (call.provider, model, call.key)
        if name not in self._accounts:
            limit = self._limits.setdefault((call.provider, model), Limit())
            self._accounts[name] = account = Account(limit)
            self._resize(account, limit)
            if tenant := self._tenants.get(call.provider):
                account.buckets["requests"].drain = tenant / 60
        return self._accounts[name]

    def _resize(self, account: Account, limit: Limit) -> None:
        now, old = self._clock(), account.buckets
        rates: dict[Kind, float | None] = {
            "requests": limit.rpm,
            "input_tokens": limit.input_tpm,
            "output_tokens": limit.output_tpm,
        }
        account.limit, account.buckets = limit, {}
        for kind, rate in rates.items():
            if rate is not None:
                burst = limit.request_burst_seconds if kind == "requests" else None
                fresh = _bucket(rate, limit.burst_seconds if burst is None else burst, now)
                account.buckets[kind] = fresh
                if before := old.get(kind):
                    before.refill(now)
                    fresh.level = fresh.capacity * before.level / before.capacity
                    fresh.drain = before.drain
        if limit.rpd is not None:
            day = old.get("requests_per_day")
            used = day.capacity - day.level if day else 0.0
            account.buckets["requests_per_day"] = Bucket(0.0, limit.rpd, limit.rpd - used, now)
