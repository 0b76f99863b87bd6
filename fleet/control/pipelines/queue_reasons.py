"""Why a task waits in its queue: no process polls it, it is paused or parked, or its limit is reached."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime

from fleet.budgets.messages import UNLIMITED, BudgetStatus
from fleet.config import Settings
from fleet.contracts import PIPELINE_QUEUE
from fleet.control.health.status import FleetStatus, QueueStatus
from fleet.control.pipelines.journal_rows import JournalRow
from fleet.control.supervision.process_health import STARTING_SECONDS, cut_off_here
from fleet.control.supervision.supervisord_client import AT_REST, ProcessStatus
from fleet.errors import remedy_in, without_remedy
from fleet.process.machine_id import place_of, runs_here
from fleet.provider_settings import ProviderSettings

#: A shorter wait is the usual time of a dispatch and needs no reason.
_USUAL_SECONDS = 1.0
#: A call that waits for so many times the time in which its queue's rate empties it, and this long, waits for
#: something else: projects take turns, and a rate may have been raised just now.
_MANY_TIMES, _SLOW_SECONDS = 3.0, 2.0
#: The cause where the processes that would take a task cannot send calls.
CUT_OFF = "cut_off_here"


@dataclass(frozen=True)
class Reason:
    """A state, its cause for programs, the sentence for people, and what would move it."""

    state: str
    cause: str
    why: str
    remedy: str = ""


@dataclass(frozen=True)
class Missing:
    """Why no process of a program polls, as the end of a sentence, and what would start one; each may be empty."""

    why: str
    remedy: str


@dataclass(frozen=True)
class Surroundings:
    """What is known besides the pipeline: ``status`` as this machine sees the fleet, at ``now`` (unix seconds).
    ``identity`` is this process's at Temporal, by which processes of this machine are known;
    ``journal`` has the pipeline's calls by this machine's journals, by functionKey."""

    settings: Settings
    status: FleetStatus
    identity: str
    now: float
    journal: Mapping[str, JournalRow] = field(default_factory=dict)

    @property
    def polled_pipeline(self) -> bool:
        """Whether a process decides what pipelines do next; True while it is not known."""
        return not self.unpolled(PIPELINE_QUEUE)

    def unpolled(self, queue: str) -> bool:
        """Whether no process polls the queue."""
        known = self.queue(queue)
        return known is not None and known.pollers == 0

    def queue(self, name: str) -> QueueStatus | None:
        """The queue of that name; None if this machine's settings do not have it."""
        return next((queue for queue in self.status.queues if queue.queue == name), None)

    def provider_of(self, queue: str) -> ProviderSettings | None:
        """The provider with that queue, by this machine's settings."""
        return next((each for each in self.settings.providers.values() if queue in each.limits), None)

    def gone(self, identity: str) -> bool:
        """Whether the process with that identity was of this machine and is dead."""
        return runs_here(identity, self.identity) is False

    def nobody_decides(self, state: str) -> Reason:
        """The reason where no pipeline process runs."""
        why = f"no process polls the queue {PIPELINE_QUEUE}, so the pipeline does not continue"
        missing = self.missing(PIPELINE_QUEUE)
        return Reason(state, "no_pollers", f"{why}{missing.why}", missing.remedy)

    def missing(self, program: str) -> "Missing":
        """Why no process of a program polls, and what starts one; no command where supervisord does so itself."""
        here = [process for process in self.status.processes if process.program == program]
        if not here:
            remedy = f"start {program} processes, here with `fleet up`, or on the machine that has them"
            return Missing("", f"{remedy}; see `fleet status`")
        if starting := [process.process for process in here if _starts(process)]:
            return Missing(f"; supervisord is starting {', '.join(starting)}", "")
        first = next((process for process in here if process.state in AT_REST), here[0])
        start = f"`supervisorctl start {program}:*`"
        if first.state == "RUNNING":
            return Missing(f"; {first.process} runs, but does not poll", "see why with `fleet status`")
        if first.state == "STOPPING":
            start = f"wait until it has ended, then {start}"
        elif first.state == "FATAL":
            start = f"see why with `fleet logs --process {first.process}`, then {start}"
        return Missing(f"; {first.process} is {first.state}", start)

    def of_queue(self, queue: str, model: str | None, since: float) -> Reason:
        """Why a task waits in a queue since then; ``model``: of the call that waits."""
        known, provider = self.queue(queue), self.provider_of(queue)
        name = provider.name if provider else queue.removeprefix("llm-")
        budget = self.status.budgets.get(queue)
        reasons = [] if budget is None else _held(budget, name, model, self.now)
        if (cut_off := self._cut_off(queue, name)) is not None:
            reasons = [*(reason for reason in reasons if reason.cause != "probing"), cut_off]
        elif self.unpolled(queue):
            missing = self.missing(name)
            said = f"no process polls the queue {queue}{missing.why}"
            reasons.append(Reason("in_queue", "no_pollers", said, missing.remedy))
        if reasons:
            whys = "; and ".join(reason.why for reason in reasons)
            remedies = "; and ".join(reason.remedy for reason in reasons if reason.remedy)
            return replace(reasons[0], why=whys, remedy=remedies)
        if known is None or provider is None or self.now - since < _USUAL_SECONDS:
            return Reason("in_queue", "dispatch", f"it was put on the queue {queue} and is dispatched next")
        return self._of_served(known, budget, name)

    def _cut_off(self, queue: str, name: str) -> Reason | None:
        """The reason where only this machine has processes for the queue and none of them can send a call. The
        server lists their last polls for some time."""
        said = cut_off_here(self.status.processes, self.status.vitals, name, self.now)
        if not said or any(machine.pollers.get(queue) for machine in self.status.machines):
            return None
        first = remedy_in(said[0]) or "see `fleet doctor`"
        remedy = f"{first}; after a change of settings, `fleet roll {name}`"
        return Reason("in_queue", CUT_OFF, "; ".join(map(without_remedy, said)), remedy)

    def _of_served(self, queue: QueueStatus, budget: BudgetStatus | None, name: str) -> Reason:
        """Why a task waits in a queue that is polled and open."""
        waiting = _waiting(queue)
        if budget is None:
            missing = self.missing(PIPELINE_QUEUE)
            why = f"{waiting}, and its budget does not answer{missing.why}"
            return Reason("in_queue", "no_budget", why, missing.remedy)
        busy = [vital.queues[queue.queue] for vital in self.status.vitals.values() if queue.queue in vital.queues]
        if busy and all(polls.full for polls in busy):
            whose = "its process" if len(busy) == 1 else f"all {len(busy)} of its processes"
            why = f"{waiting}, since {whose} on this machine cannot take more calls at once"
            return Reason("in_queue", "busy", why, f"nothing to do, or `fleet scale {name} {len(busy) + 1}`")
        if budget.rate < UNLIMITED and not _faster_than_taken(queue, budget.rate):
            each = f"{budget.rate:.1f} calls a second" if budget.rate >= 1 else f"a call every {_every(budget)} s"
            why = f"the limit of {name} is reached: its queue dispatches {each} ({budget.why}); {waiting}"
            remedy = f"nothing to do: its turn comes; `fleet limits {name}` shows the limit"
            return Reason("held_by_limit", "limit", why, remedy)
        if budget.rate < UNLIMITED:
            why = f"{waiting}: its processes take calls more slowly than the limit of {name} allows"
            return Reason(
                "in_queue", "busy", why, f"nothing to do, or `fleet scale {name} {(queue.pollers or 1) + 1}`"
            )
        return Reason("in_queue", "dispatch", waiting)


def _starts(process: ProcessStatus) -> bool:
    """Whether supervisord starts the process, or started it just now."""
    if process.state == "RUNNING":
        return process.uptime_seconds < STARTING_SECONDS
    return process.state in ("STARTING", "BACKOFF", "EXITED")


def _faster_than_taken(queue: QueueStatus, rate: float) -> bool:
    """Whether the queue would have been empty long ago at this rate (calls a second), so that it does not hold the
    calls."""
    emptied_after = (queue.backlog or 0) / rate if rate > 0 else math.inf
    return (queue.backlog_age_seconds or 0.0) > _MANY_TIMES * emptied_after + _SLOW_SECONDS


def _every(budget: BudgetStatus) -> str:
    return f"{1 / budget.rate:.0f}" if budget.rate > 0 else "?"


def _waiting(queue: QueueStatus) -> str:
    if not queue.backlog:
        return f"it waits in the queue {queue.queue}"
    calls = "1 call waits" if queue.backlog == 1 else f"{queue.backlog} calls wait"
    return f"{calls} in the queue {queue.queue}, the oldest for {queue.backlog_age_seconds or 0:.0f} s"


def _held(budget: BudgetStatus, name: str, model: str | None, now: float) -> list[Reason]:
    """Why the budget lets nothing pass, or only a probe."""
    why = without_remedy(budget.why)
    if budget.breaker == "paused":
        said = f"{name} was paused: {why}"
        return [Reason("in_queue", "paused", said, f"`fleet resume {name}`")]
    if budget.breaker == "parked":
        until = f" until {_moment(budget.until)}" if budget.until else ""
        mend = remedy_in(budget.why)
        resume = f"`fleet resume {name}`"
        remedy = f"{mend}; then {resume}" if mend else resume
        return [Reason("in_queue", "parked", f"{name} is parked{until}: {why}", remedy)]
    held = next((each for each in budget.held_models if each.model == model and each.until > now), None)
    if held is not None:
        said = f"{held.model} has no quota until {_moment(held.until)}: {without_remedy(held.why)}"
        remedy = f"wait, or raise the quota and then `fleet resume {name}`"
        return [Reason("held_by_limit", "model_quota", said, remedy)]
    if budget.breaker == "probing":
        said = f"{name} fails ({why}), so only a call every two seconds is dispatched, as a probe"
        return [Reason("in_queue", "probing", said, f"see the provider's status page, and `fleet limits {name}`")]
    return []


def _moment(unix_seconds: float) -> str:
    return f"{datetime.fromtimestamp(unix_seconds, UTC):%Y-%m-%d %H:%M} UTC"


def process_named(identity: str) -> str:
    """The process of an identity as people know it: its name and host."""
    place = place_of(identity)
    return f"{place.process} on {place.host}" if place else identity or "a worker"
