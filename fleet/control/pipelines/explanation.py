"""Where each assistant of a pipeline stands and why, with the command that would move it.

:func:`explained` is the one function that decides this; ``fleet explain``, ``fleet run``, ``fleet retry``, ``fleet
top`` and the page show what it says. It knows the pipeline's history, what Temporal has pending, and the fleet's
status: queues, budgets, servers and this machine's processes. The states of the query ``progress`` stay its own.
"""

import asyncio
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from datetime import UTC, datetime
from typing import Any

from temporalio.client import Client

from fleet.config import Settings
from fleet.contracts import ASSISTANTS_QUEUE, TRY_TYPE, Assistant
from fleet.control.health.status import FleetStatus, status_of
from fleet.control.pipelines.journal_rows import JournalRow, journal_rows
from fleet.control.pipelines.open_calls import pending_reason, reason_of_call
from fleet.control.pipelines.queue_reasons import Reason, Surroundings
from fleet.control.pipelines.story import Asked, Story, story_of
from fleet.errors import remedy_in, without_remedy
from fleet.pipeline.assistants import dependencies
from fleet.pipeline.trials import GIVEN_PROVIDER

#: The states in which an assistant waits, and an operator may have to act.
STUCK = ("fetching_inputs", "in_queue", "held_by_limit", "between_attempts")
#: By how much this machine's clock may be behind the server's.
_CLOCK_SECONDS = 5.0


@dataclass(frozen=True)
class AssistantStatus:
    """One assistant. ``state`` is ``waiting``, ``fetching_inputs``, ``in_queue``, ``held_by_limit``,
    ``between_attempts``, ``running``, ``done`` or ``failed``; ``since`` is ISO 8601 in UTC, None where it is not
    known. ``cause`` names the reason for programs, ``why`` says it in a sentence, and ``remedy`` is what would
    move it, empty where nothing has to be done."""

    function_key: str
    name: str
    state: str
    since: str | None
    cause: str
    why: str
    remedy: str


@dataclass(frozen=True)
class Explanation:
    """A pipeline and its assistants. ``state`` is Temporal's status of it, such as ``running``; ``cause``, ``why``
    and ``remedy`` are about the pipeline as a whole, as in :class:`AssistantStatus`."""

    workflow_id: str
    run_id: str
    state: str
    cause: str
    why: str
    remedy: str
    assistants: list[AssistantStatus] = field(default_factory=list)

    def to_json(self) -> dict[str, Any]:
        """As ``--json`` prints it."""
        return asdict(self)

    def stuck(self) -> list[AssistantStatus]:
        """The assistants that wait for something else than each other."""
        return [assistant for assistant in self.assistants if assistant.state in STUCK]


async def explain(
    client: Client, settings: Settings, workflow_id: str, run_id: str = "", status: FleetStatus | None = None
) -> Explanation:
    """Explain a pipeline's run, its latest one without ``run_id``; ``status`` None: it is looked up.

    Raises:
        OperationError: the server has no such pipeline.
    """
    story = await story_of(client, workflow_id, run_id)
    if status is None:

        async def connected() -> Client:
            return client

        status = await status_of(settings, connected)
    return await explained_now(story, settings, status, client.identity)


async def explained_now(story: Story, settings: Settings, status: FleetStatus, identity: str) -> Explanation:
    """Where a pipeline stands now, also by this machine's journals; ``identity`` is this process's at Temporal."""
    journal = await asyncio.to_thread(journal_rows, settings, story.workflow_id)
    return explained(story, Surroundings(settings, status, identity, time.time(), journal))


def explained(story: Story, around: Surroundings) -> Explanation:
    """Where a pipeline and its assistants stand, and why."""
    whole = _of_pipeline(story, around)
    assistants = story.plan.assistants if story.plan else []
    waits_for = dependencies(assistants) if assistants else {}
    statuses: dict[str, AssistantStatus] = {}
    for assistant in assistants:
        key = assistant.function_key
        inputs = [statuses[each] for each in waits_for[key] if each in statuses]
        reason, since = _of_assistant(story, assistant, inputs, around)
        statuses[key] = AssistantStatus(
            key, assistant.name, reason.state, _iso(since), reason.cause, *_said(reason)
        )
    told = [*statuses.values()]
    return Explanation(story.workflow_id, story.run_id, story.status, whole.cause, *_said(whole), told)


def _said(reason: Reason) -> tuple[str, str]:
    return " ".join(reason.why.split()), " ".join(reason.remedy.split())


def _iso(moment: float | None) -> str | None:
    return None if moment is None else datetime.fromtimestamp(moment, UTC).isoformat(timespec="seconds")


def _of_pipeline(story: Story, around: Surroundings) -> Reason:
    if story.ended_at is not None or story.status != "running":
        return _ended(story)
    if not around.polled_pipeline:
        return around.nobody_decides("running")
    if story.plan is None:
        return _loading(story, around)
    if story.cancelled_at is not None:
        return Reason("running", "cancelled", "it was cancelled: calls on their way are awaited, then it ends")
    done = sum(story.result_of(assistant.function_key) is not None for assistant in story.plan.assistants)
    again = f"; it goes on from run {story.retry_of.run_id}" if story.retry_of else ""
    return Reason("running", "running", f"{done} of {len(story.plan.assistants)} assistants have answered{again}")


def _ended(story: Story) -> Reason:
    retry = _again(story) + ("" if story.type == TRY_TYPE else ", which pays only for the rest")
    if story.status == "completed":
        show = f"`fleet show {story.workflow_id} --output`"
        return Reason("completed", "completed", "all its assistants have answered", show)
    if (error := story.error()) is not None:
        first = remedy_in(error.message)
        remedy = f"{first}; then {retry}" if first else retry
        return Reason("failed", error.code, without_remedy(error.message), remedy)
    return Reason(story.status, story.status, f"it ended as {story.status}", retry)


def _loading(story: Story, around: Surroundings) -> Reason:
    """Its assistants are being loaded, or its CSV checked, on the queue ``assistants``."""
    if story.loading is None:
        return Reason("running", "loading", "its first task is about to be scheduled")
    reason = pending_reason(story.loading, around, around.of_queue(ASSISTANTS_QUEUE, None, story.started_at))
    return Reason("running", reason.cause, f"its assistants are being loaded: {reason.why}", reason.remedy)


def _again(story: Story) -> str:
    """The command that runs it again, as part of a remedy."""
    return "`fleet try PROJECT/ASSISTANT`" if story.type == TRY_TYPE else f"`fleet retry {story.workflow_id}`"


def _of_assistant(
    story: Story, assistant: Assistant, inputs: list[AssistantStatus], around: Surroundings
) -> tuple[Reason, float | None]:
    """Where an assistant stands, and since when; ``inputs`` are those whose outputs it reads."""
    key = assistant.function_key
    last, result = story.last_asked(key), story.result_of(key)
    if result is not None:
        given = result.reused_from == GIVEN_PROVIDER
        reused = "its text was given" if given else "its answer was reused from an earlier run"
        made = f"{result.provider}/{result.model} answered in {result.seconds:.1f} s"
        said = reused if result.reused_from else made
        return Reason("done", "answered", said), last.ended_at if last else story.started_at
    if last is not None and last.failed:
        retry = _again(story)
        first = remedy_in(last.failure)
        remedy = f"{first}; then {retry}" if first else retry
        return Reason("failed", "failed", without_remedy(last.failure), remedy), last.ended_at
    if story.ended_at is not None:
        return _not_finished(story, last), story.ended_at
    if last is None or last.dropped:
        return _waiting(story, inputs, around, dropped=last is not None), _ready_since(story, inputs)
    if last.ended_at is not None:
        return Reason(
            "in_queue", "moves", "it is about to be put on a queue again: on its next model's, or its own"
        ), (last.ended_at)
    reason, since = reason_of_call(last, story, around)
    return _with_journal(reason, last, around.journal.get(key)), since


def _with_journal(reason: Reason, asked: Asked, row: JournalRow | None) -> Reason:
    """The reason with what this machine's journal knows of the call; a row from before it was asked for is of an
    earlier run or model."""
    if row is None or row.at < asked.queued_at - _CLOCK_SECONDS or not (known := row.sentence()):
        return reason
    if row.under_way and reason.state in (
        "in_queue",
        "held_by_limit",
        "fetching_inputs",
    ):  # Temporal's view is older
        return Reason("running", "sent", f"it was sent to {asked.call.provider}/{asked.call.model}; {known}")
    return replace(reason, why=f"{reason.why}; {known}")


def _not_finished(story: Story, last: Asked | None) -> Reason:
    retry = _again(story)
    if last is None or last.dropped:
        return Reason("waiting", "not_run", f"it was not run: the pipeline ended as {story.status}", retry)
    return Reason("failed", "cut_off", f"it had not ended when the pipeline was {story.status}", retry)


def _waiting(story: Story, inputs: list[AssistantStatus], around: Surroundings, *, dropped: bool) -> Reason:
    missing = [assistant for assistant in inputs if assistant.state != "done"]
    if dropped or story.cancelled_at is not None:
        return Reason(
            "waiting", "dropped", "it is not sent any more: the pipeline was cancelled or is about to fail"
        )
    if missing:
        named = ", ".join(f"{assistant.function_key} ({assistant.state})" for assistant in missing)
        stuck = next((assistant.remedy for assistant in missing if assistant.remedy), "")
        return Reason("waiting", "inputs", f"it reads the output of {named}", stuck)
    if not around.polled_pipeline:
        return around.nobody_decides("waiting")
    return Reason("waiting", "ready", "its inputs are there, and it is about to be put on its queue")


def _ready_since(story: Story, inputs: list[AssistantStatus]) -> float | None:
    """Since when it waits: from the beginning, or since its last input came."""
    ended = [asked.ended_at for each in inputs if (asked := story.last_asked(each.function_key)) is not None]
    moments = [moment for moment in ended if moment is not None]
    return max(moments, default=story.started_at)


def to_line(assistant: AssistantStatus | Mapping[str, Any]) -> str:
    """An assistant on one line, as ``fleet run`` and ``fleet top`` show it."""
    told = asdict(assistant) if isinstance(assistant, AssistantStatus) else assistant
    remedy = f" Remedy: {told['remedy']}" if told["remedy"] else ""
    return f"{told['name']} {told['state'].replace('_', ' ')}: {told['why']}.{remedy}"
