"""Faults by script: the next N calls, a share of them, or all of them for some seconds."""

import random
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from fleet.devstack.simulator.calls import Call
from fleet.devstack.simulator.latency import number

#: Answered with an HTTP error in the provider's own words.
REFUSALS = (
    "429",
    "500",
    "503",
    "529",
    "401",
    "403",
    "404",
    "400",
    "quota",
    "day_quota",
    "slow_down",
    "revoked_key",
)
#: Broken on the way.
BROKEN = ("hang", "drip", "truncate", "reset")
#: Answered with status 200 and something that is of no use, or with a redirect.
UNUSABLE = ("html", "empty", "empty_json", "broken_json", "refusal", "length", "redirect")
KINDS = (*REFUSALS, *BROKEN, *UNUSABLE)


@dataclass(slots=True)
class Fault:
    """One scripted fault. Exactly one of ``count``, ``rate`` and ``until`` (monotonic) is set.

    ``retry_after`` is seconds for providers that name a wait; ``form`` how it is written: ``seconds``,
    ``ms``, ``date`` or ``none``.
    """

    provider: str
    model: str | None
    kind: str
    count: int | None = None
    rate: float | None = None
    until: float | None = None
    retry_after: float | None = None
    form: str = "seconds"

    def shown(self) -> dict[str, Any]:
        """As ``GET /faults`` shows it."""
        names = ("provider", "model", "kind", "count", "rate", "retry_after", "form")
        return {name: value for name in names if (value := getattr(self, name)) is not None}


class Faults:
    """The script."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._faults: list[Fault] = []

    def add(self, values: Mapping[str, Any]) -> Fault:
        """Add a fault from the body of ``POST /faults``.

        Raises:
            ValueError: the body is wrong; the message names the field.
        """
        provider, kind, model = values.get("provider"), str(values.get("kind")), values.get("model")
        if not isinstance(provider, str) or not provider:
            raise ValueError("provider must be named")
        if kind not in KINDS:
            raise ValueError(f"kind must be one of {', '.join(KINDS)}")
        if model is not None and not isinstance(model, str):
            raise ValueError("model must be a name")
        given = [name for name in ("count", "rate", "seconds") if values.get(name) is not None]
        if len(given) > 1:
            raise ValueError("give one of count, rate and seconds")
        fault = Fault(provider, model, kind, form=str(values.get("form", "seconds")))
        if fault.form not in ("seconds", "ms", "date", "none"):
            raise ValueError("form must be seconds, ms, date or none")
        if values.get("retry_after") is not None:
            fault.retry_after = number("retry_after", values["retry_after"])
        self._set_extent(fault, given[0] if given else "count", values)
        self._faults.append(fault)
        return fault

    def _set_extent(self, fault: Fault, name: str, values: Mapping[str, Any]) -> None:
        amount = number(name, values.get(name, 1))
        if name == "count":
            fault.count = int(amount)
        elif name == "rate":
            if amount > 1:
                raise ValueError("rate is a share of the calls, at most 1")
            fault.rate = amount
        else:
            fault.until = self._clock() + amount

    def clear(self) -> None:
        """No more faults."""
        self._faults = []

    def shown(self) -> list[dict[str, Any]]:
        """As ``GET /faults`` shows them."""
        return [fault.shown() for fault in self._faults]

    def take(self, call: Call, chance: random.Random) -> Fault | None:
        """The fault that befalls this call, if any; the first that fits wins."""
        now = self._clock()
        self._faults = [fault for fault in self._faults if _lasts(fault, now)]
        for fault in self._faults:
            if fault.provider != call.provider or fault.model not in (None, call.model):
                continue
            if fault.rate is not None and chance.random() >= fault.rate:
                continue
            if fault.count is not None:
                fault.count -= 1
            return fault
        return None


def _lasts(fault: Fault, now: float) -> bool:
    return (fault.count is None or fault.count > 0) and (fault.until is None or now < fault.until)
