"""A budget as an operator wants to see it. Pure."""

from datetime import UTC, datetime

from fleet.budgets.law.bucket import Bucket
from fleet.budgets.law.budget import Budget
from fleet.budgets.messages import BudgetStatus, HeldModel, LimitStatus

_WORTH_TELLING = 0.1
#: A rate above the refill by this factor is explained: it looks as if the limit would be exceeded.
_FASTER = 1.1


def describe(budget: Budget) -> BudgetStatus:
    """The budget's status, as of the last report or :meth:`Budget.pass_time`."""
    return BudgetStatus(
        queue=budget.queue,
        rate=round(budget.rate(), 4),
        breaker="paused" if budget.paused is not None else budget.breaker.state,
        why="; ".join([_why(budget), *map(_without_quota, budget.held_models.values()), *_cut_off(budget)]),
        exact=budget.exact,
        calls=budget.calls,
        answered=budget.answered,
        refused=budget.refused,
        limits=[_limit(what, bucket) for what, bucket in budget.buckets.items()],
        until=budget.breaker.until,
        rejected_key=budget.key_in_trouble,
        calls_per_minute=round(budget.pace * 60, 1),
        set_limits=budget.chosen,
        resumes=budget.resumes,
        held_models=list(budget.held_models.values()),
        report_seconds=budget.unheard.report_seconds,
        processes=len(budget.unheard.heard_at),
        machines=list(budget.roster.machines.values()),
    )


def _limit(what: str, bucket: Bucket) -> LimitStatus:
    return LimitStatus(
        what,
        round(bucket.refill * 60, 1),
        round(bucket.believed, 1),
        round(max(bucket.foreign, 0.0) * 60, 1),
        round(bucket.mean_cost, 2),
        bucket.measured,
    )


def _without_quota(held: HeldModel) -> str:
    until = datetime.fromtimestamp(held.until, UTC)
    return f"{held.model} has no quota until {until:%Y-%m-%d %H:%M} UTC"


def _cut_off(budget: Budget) -> list[str]:
    machines = budget.breaker.machines.cut_off(budget.breaker.at)
    return [f"{machine} does not reach it, others do" for machine in machines]


def _why(budget: Budget) -> str:
    if budget.paused is not None:
        return budget.paused
    if budget.breaker.why:
        return budget.breaker.why
    if budget.resting:
        return "idle"
    if budget.bound.rate is not None and budget.bound.rate <= budget.allowed():
        coming_back = budget.bound.after_trouble
        return "coming back after trouble" if coming_back else "finding out how much the provider takes"
    if not budget.buckets:
        return "no limit known"
    what = min(budget.buckets, key=lambda name: budget.buckets[name].rate())
    others = budget.buckets[what].others.share
    taken = f", about {others:.0%} of it taken by others" if others > _WORTH_TELLING else ""
    faster = budget.rate() > _FASTER * budget.buckets[what].pace
    ahead = ", faster for now since more is left than has to be kept back" if faster else ""
    return f"limit of {what.replace('_', ' ')}{taken}{ahead}"
