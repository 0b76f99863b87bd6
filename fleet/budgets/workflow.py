"""``ProviderBudgetWorkflow``: runs one budget durably; it receives the processes' reports and sets its queue's
rate.

The history records what was received and that a rate was ordered, never how the rate was computed. The order of
commands depends on the signals alone, so a release may change the control law while budgets run.
"""

from datetime import UTC, datetime, timedelta

from temporalio import workflow
from temporalio.common import RetryPolicy
from temporalio.exceptions import ActivityError

with workflow.unsafe.imports_passed_through():
    from fleet.budgets.law.believable import believable_limits, believable_opening, believable_report
    from fleet.budgets.law.breaker import RESET_UNKNOWN_SECONDS
    from fleet.budgets.law.budget import Budget
    from fleet.budgets.law.budget_status import describe
    from fleet.budgets.law.report_intake import LATE_SECONDS, STALE_SECONDS, ReportIntake
    from fleet.budgets.messages import (
        BUDGET_WORKFLOW,
        LIMIT_SIGNAL,
        NEW_KEY_SIGNAL,
        OPEN_SIGNAL,
        PAUSE_SIGNAL,
        REPORT_SIGNAL,
        RESUME_SIGNAL,
        SET_QUEUE_RATE,
        STATUS_QUERY,
        BudgetStatus,
        Opening,
        Report,
    )
    from fleet.budgets.queue_client import RateOrder
    from fleet.contracts import LimitSettings
    from fleet.failures import FailureKind

#: Events after which a run continues as new. A process that starts replays the histories of all queues at once,
#: within the 10 s of a workflow task: bench/RESULTS.md, "Replay".
LONGEST_HISTORY = 500
_FIRST_LOOK_SECONDS, _LAST_LOOK_SECONDS = 2.5, 80.0
_MIN_CHANGE = 0.03
# Without this patch, a report that is old by the process's clock does not wake the loop, so the history of a
# budget that receives only such reports never ends. Histories recorded so replay as they were.
_OLD_NEWS_IS_HEARD = "old-news-is-heard"
# A signal that arrives while the rate is being set may be delivered before the activity has ended and replayed
# after it (SDK 1.35). So whether a timer is started must not depend on what arrived meanwhile. Histories without
# this patch replay as recorded.
_TIMED_ANYHOW, _FOR_EVER = "timed-anyhow", timedelta(days=3650)
# This patch is recorded by the workflow task that ends the run, so no open run has it: a history that an earlier
# release made longer replays, and that release replays every open run, which an update back to it needs.
_SHORT_HISTORY, _EARLIER_LONGEST_HISTORY = "short-history", 2_000
_SET_ATTEMPT, _SET_IN_ALL = timedelta(seconds=3), timedelta(seconds=8)


@workflow.defn(name=BUDGET_WORKFLOW)
class ProviderBudgetWorkflow:
    """One per queue, started by the first process that serves the queue; its id is ``budget-<queue>``."""

    @workflow.init
    def __init__(
        self,
        queue: str,
        budget: Budget | None = None,
        applied: float | None = None,
        wake_at: float | None = None,
    ) -> None:
        self._budget = budget or Budget(queue)
        self._report_intake = ReportIntake(self._budget)
        self._applied = applied
        self._wake_at = wake_at
        self._heard = 0
        self._state = ""
        self._without_quota = set(self._budget.held_models)  # already logged by the previous run

    @workflow.run
    async def run(
        self,
        queue: str,
        budget: Budget | None = None,
        applied: float | None = None,
        wake_at: float | None = None,
    ) -> None:
        """Set the rate after every message. Without messages, look again a few times, then wait until a quota
        comes back or the next message arrives."""
        look, done, timed = _FIRST_LOOK_SECONDS, -1, workflow.patched(_TIMED_ANYHOW)
        while not _history_is_full():
            patience = self._patience(look) or (_FOR_EVER if timed else None)
            quiet = (timed or self._heard == done) and not await self._news(done, patience)
            if quiet and self._wake_at is not None and _now() >= self._wake_at:
                self._wake_at, look = None, _FIRST_LOOK_SECONDS
            look = _FIRST_LOOK_SECONDS if self._heard != done else look * 2
            done = self._heard
            await self._apply()
        workflow.continue_as_new(args=[queue, self._budget, self._applied, self._wake_at])

    async def _news(self, heard: int, patience: timedelta | None) -> bool:
        """Wait until more than ``heard`` messages have arrived; whether they did before the timeout."""
        begun = _now()
        try:
            await workflow.wait_condition(lambda: self._heard != heard, timeout=patience)
        except TimeoutError:
            if patience is not None and _now() - begun > patience.total_seconds() + LATE_SECONDS:
                self._budget.missed(_now())
            return False
        return True

    def _patience(self, look: float) -> timedelta | None:
        """How long to wait for messages: first one look, then until the quota comes back, otherwise without
        limit."""
        if look <= _LAST_LOOK_SECONDS:
            return timedelta(seconds=look)
        return None if self._wake_at is None else timedelta(seconds=max(self._wake_at - _now(), 0.0) + 0.5)

    async def _apply(self) -> None:
        self._budget.pass_time(_now())
        rate, budget_status = self._budget.dispatch_rate(), describe(self._budget)
        self._say(budget_status)
        order = RateOrder(self._budget.queue, round(rate, 5), budget_status.why, set=self._moved(rate))
        try:
            allowed = await workflow.execute_local_activity(
                SET_QUEUE_RATE,
                order,
                result_type=bool,
                start_to_close_timeout=_SET_ATTEMPT,
                schedule_to_close_timeout=_SET_IN_ALL,
                retry_policy=RetryPolicy(initial_interval=timedelta(seconds=0.5)),
            )
        except ActivityError as error:
            workflow.logger.warning("the rate of %s could not be set: %s", self._budget.queue, error.cause)
            return
        if order.set:
            self._applied = rate
            if not allowed and self._budget.exact:
                self._budget.exact = False
                workflow.logger.warning(
                    "the server does not let the rate of %s be set: it holds approximately, by each process's own "
                    "gate",
                    self._budget.queue,
                )

    def _moved(self, rate: float) -> bool:
        if self._applied is None or (rate == 0) != (self._applied == 0):
            return True
        return abs(rate - self._applied) > _MIN_CHANGE * self._applied

    def _say(self, budget_status: BudgetStatus) -> None:
        """Log when a queue is parked, paused, probed or healthy again, and when one of its models has no quota."""
        for held in budget_status.held_models:
            if held.model not in self._without_quota:
                until = datetime.fromtimestamp(held.until, UTC)
                workflow.logger.error(
                    "⛔ MODEL WITHOUT QUOTA: %s of %s until %s: %s",
                    held.model,
                    budget_status.queue,
                    until,
                    held.why,
                )
        self._without_quota = {held.model for held in budget_status.held_models}
        if budget_status.breaker == self._state:
            return
        first, self._state = self._state == "", budget_status.breaker
        queue = self._budget.queue
        match budget_status.breaker:
            case "parked":
                workflow.logger.error("⛔ PROVIDER PARKED: %s: %s", queue, budget_status.why)
            case "probing":
                workflow.logger.warning("⚠ PROVIDER IN TROUBLE: %s is only probed: %s", queue, budget_status.why)
            case "paused":
                workflow.logger.warning("⏸ PROVIDER PAUSED: %s: %s", queue, budget_status.why)
            case _ if not first:
                workflow.logger.info("▶ PROVIDER HEALTHY: %s", queue)

    @workflow.signal(name=OPEN_SIGNAL)
    def open(self, opening: Opening) -> None:
        """A process announces that it will poll the queue."""
        opening = believable_opening(opening)
        if not opening.exact and self._budget.exact:
            workflow.logger.warning(
                "the rate of %s holds approximately: the server divides the queue or does not let it be set",
                self._budget.queue,
            )
        self._budget.open(opening, _now())
        self._applied = None  # the queue's rate may have been changed from outside
        self._heard += 1

    @workflow.signal(name=REPORT_SIGNAL)
    def report(self, report: Report) -> None:
        """A process reports what it did."""
        report, now = believable_report(report), _now()
        if now - report.sent_at > STALE_SECONDS and not workflow.patched(_OLD_NEWS_IS_HEARD):
            self._budget.calls += report.calls
            self._budget.answered += report.answered
            return
        behind = self._report_intake.take(report, now)
        if behind is not None:
            workflow.logger.warning(
                "the clock of %s is %.0f s behind the Temporal server's. Remedy: keep both right (chrony, ntpd)",
                report.process,
                behind,
            )
        if report.calls and self._applied == 0:
            self._applied = None  # calls were sent although the rate was 0: it was changed from outside
        self._heard += 1
        for trouble in report.troubles:
            if trouble.meaning == FailureKind.QUOTA_UNTIL_RESET:
                self._wake_at = now + (trouble.wait_seconds or RESET_UNKNOWN_SECONDS)

    @workflow.signal(name=LIMIT_SIGNAL)
    def limit(self, limits: LimitSettings) -> None:
        """The operator sets limits."""
        self._budget.limit(believable_limits(limits), _now())
        self._heard += 1

    @workflow.signal(name=PAUSE_SIGNAL)
    def pause(self, why: str) -> None:
        """The operator pauses the queue."""
        self._budget.pause(why)
        self._heard += 1

    @workflow.signal(name=RESUME_SIGNAL)
    def resume(self) -> None:
        """The operator resumes the queue."""
        self._budget.resume(_now())
        self._heard += 1

    @workflow.signal(name=NEW_KEY_SIGNAL)
    def new_key(self, mark: str) -> None:
        """The backend has a key for the provider; ``mark`` distinguishes it from the rejected one."""
        self._budget.new_key(mark, _now())
        self._heard += 1

    @workflow.query(name=STATUS_QUERY)
    def budget_status(self) -> BudgetStatus:
        """The current rate and the reason for it."""
        return describe(self._budget)


def _history_is_full() -> bool:
    events = workflow.info().get_current_history_length()
    if events >= _EARLIER_LONGEST_HISTORY:
        return True
    return events >= LONGEST_HISTORY and workflow.patched(_SHORT_HISTORY)


def _now() -> float:
    return workflow.now().timestamp()
