"""What an assistant was sent, rebuilt from its pipeline's history.

The history has what the call was passed, or the pipeline's arguments, its assistants with their prompts, and every
output. The code that made the worker's request (:class:`fleet.pipeline.stages.Stages`,
:func:`fleet.execution.requests.request_for`) makes it of them again, so no worker has to run for it.
"""

from dataclasses import asdict, dataclass
from typing import Any

from temporalio.client import Client

from fleet.contracts import CSV_MAX_BYTES, Assistant, ModelChoice
from fleet.control.pipelines.story import Asked, Story, story_of
from fleet.errors import InputError, OperationError
from fleet.execution.requests import request_for
from fleet.pipeline.inputs import clean_inputs
from fleet.pipeline.stages import Stages
from fleet.pipeline.trials import GIVEN_PROVIDER
from fleet.providers.base import LlmRequest


@dataclass(frozen=True)
class Sent:
    """One assistant's request. ``sent``: its call was on its way; otherwise this is what its worker will send."""

    workflow_id: str
    run_id: str
    name: str
    function_key: str
    provider: str
    request: LlmRequest
    sent: bool

    def to_json(self) -> dict[str, Any]:
        """As ``--json`` prints it."""
        request = asdict(self.request)
        del request["idempotency_key"], request["options"]
        request |= self.request.model_options.given
        names = ("workflow_id", "run_id", "name", "function_key", "provider", "sent")
        return {name: getattr(self, name) for name in names} | request


def find_assistant(story: Story, wanted: str) -> Assistant:
    """The assistant of a pipeline with that functionKey or name.

    Raises:
        InputError: the pipeline has no such assistant.
    """
    assistants = story.plan.assistants if story.plan else []
    for assistant in assistants:
        if wanted in (assistant.function_key, assistant.name):
            return assistant
    keys = ", ".join(assistant.function_key for assistant in assistants)
    remedy = (
        f"name one of {keys}" if keys else f"see why they are not loaded with `fleet explain {story.workflow_id}`"
    )
    asked = f"no assistant {wanted!r}" if wanted else "several assistants"
    raise InputError(f"{story.workflow_id} has {asked}. Remedy: {remedy}")


async def sent_to(client: Client, story: Story, wanted: str) -> Sent:
    """What the assistant was sent, by this run or by the earlier one whose answer it reused.

    Raises:
        InputError: the pipeline has no such assistant.
        OperationError: it was not sent anything yet, or the earlier run is no longer kept.
    """
    assistant = find_assistant(story, wanted)
    key = assistant.function_key
    reused = story.reused.get(key)
    if reused is not None and reused.reused_from == GIVEN_PROVIDER:
        raise OperationError(
            f"{key} of {story.workflow_id} was not executed: its text was given. Remedy: see it with `fleet show "
            f"{story.workflow_id} --output {key}`"
        )
    if reused is not None and story.last_asked(key) is None and reused.reused_from:
        story = await story_of(client, story.workflow_id, reused.reused_from)
        assistant = find_assistant(story, key)
    asked = story.last_asked(key)
    if asked is None or (asked.dropped and asked.sent_at is None):
        raise OperationError(
            f"{key} of {story.workflow_id} has been sent nothing. Remedy: see why with `fleet explain "
            f"{story.workflow_id}`; `fleet preview --project PROJECT --assistant {key}` is what it would be"
        )
    return _rebuilt(story, assistant, asked)


def _rebuilt(story: Story, assistant: Assistant, asked: Asked) -> Sent:
    given = [*story.arguments, None, None, None, None][:4]
    inputs = clean_inputs(*given, csv_max_bytes=CSV_MAX_BYTES)
    stages = Stages(story.plan.assistants if story.plan else [], inputs)
    for each in stages.inputs_of(assistant.function_key):
        if (result := story.result_of(each)) is not None:
            stages.reuse(result)
    assignment = asked.call.assignment or stages.assignment(assistant.function_key)
    request = request_for(assignment, ModelChoice(asked.call.provider, asked.call.model))
    was_sent = asked.sent_at is not None or asked.result is not None or asked.failed
    return Sent(
        story.workflow_id,
        story.run_id,
        assistant.name,
        assistant.function_key,
        asked.call.provider,
        request,
        was_sent,
    )
