"""What a budget takes of a message: its numbers as far as they can be true. Pure.

A message may come from another release, or from any other client that is allowed to signal the workflow. An
infinite number or NaN would stay in the budget's state, and stop its queue or fail each of its workflow tasks.
"""

import math
from collections.abc import Mapping
from dataclasses import replace

from fleet.budgets.messages import Opening, Reading, Report, Trouble
from fleet.contracts import LimitSettings

_MOST = 1e12
_LONGEST_WAIT_SECONDS = 7 * 86_400.0
_CALL_SECONDS = 600.0


def believable_report(report: Report) -> Report:
    """The report without what cannot be true."""
    return replace(
        report,
        calls=_count(report.calls),
        charged=_count(report.charged),
        answered=_count(report.answered),
        spent=_amounts(report.spent),
        largest=_amounts(report.largest),
        readings=[reading for reading in report.readings if _is_reading(reading)],
        troubles=[_trouble(trouble) for trouble in report.troubles],
        sent_at=report.sent_at if _is_amount(report.sent_at) else 0.0,
        in_flight=_count(report.in_flight),
        held=_count(report.held),
        sent=[pair for pair in report.sent if len(pair) == 2 and all(map(_is_amount, pair))],
    )


def believable_opening(opening: Opening) -> Opening:
    """The opening without what cannot be true: such a rate counts as not readable."""
    rate, seconds = opening.rate, opening.timeout_seconds
    return replace(
        opening,
        limits=believable_limits(opening.limits),
        rate=rate if rate is not None and _is_amount(rate) else None,
        costs=_amounts(opening.costs),
        timeout_seconds=seconds if _is_amount(seconds) and seconds > 0 else _CALL_SECONDS,
    )


def believable_limits(limits: LimitSettings) -> LimitSettings:
    """The limits that can be true; another one counts as not set."""
    return LimitSettings(
        *(
            limit if limit is not None and _is_amount(limit) and limit > 0 else None
            for limit in (limits.rpm, limits.tpm, limits.input_tpm, limits.output_tpm)
        )
    )


def _is_amount(number: float) -> bool:
    return 0 <= number <= _MOST  # neither for NaN nor for a number that no float has


def _count(number: int) -> int:
    return number if _is_amount(number) else 0


def _amounts(told: Mapping[str, float]) -> dict[str, float]:
    return {name: amount for name, amount in told.items() if _is_amount(amount)}


def _is_reading(reading: Reading) -> bool:
    return all(map(_is_amount, (reading.refill, reading.remaining, reading.age_seconds))) and reading.refill > 0


def _trouble(trouble: Trouble) -> Trouble:
    wait = trouble.wait_seconds
    if wait is not None:
        wait = None if math.isnan(wait) else min(max(wait, 0.0), _LONGEST_WAIT_SECONDS)
    return replace(trouble, count=_count(trouble.count), wait_seconds=wait)
