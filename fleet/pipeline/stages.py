"""The state of a running pipeline: what each assistant waits for, does and has answered. No I/O, no clock."""

import json
from dataclasses import dataclass
from datetime import UTC, datetime

from fleet.contracts import (
    CSV_KEY,
    DATE_KEY,
    OUTPUT_ESCAPED_MAX_BYTES,
    OUTPUT_MAX_BYTES,
    PIPELINE_KEYS,
    TOPIC_KEY,
    Assignment,
    Assistant,
    AssistantMoved,
    AssistantProgress,
    AssistantResult,
    AssistantState,
    ErrorRecord,
    FailedCalls,
    ModelChoice,
    NamedText,
    StageMetadata,
    StageRecord,
)
from fleet.errors import InputError
from fleet.pipeline.assistants import dependencies, reads, source_of
from fleet.pipeline.inputs import PipelineInputs
from fleet.pipeline.structured_outputs import field_text, output_json
from fleet.process.payload_size import text_bytes

#: What an assistant works with is passed along with its call up to this size, and for all calls of a pipeline
#: together up to the second one.
SMALL_CHARACTERS, PASSED_CHARACTERS = 20_000, 1_000_000

#: An answer is cut at a whole character, so it may lack some bytes of what fits.
_AS_GOOD_AS_FULL = 0.99

_OPEN = (AssistantState.QUEUED, AssistantState.RUNNING)


@dataclass(slots=True)
class Stage:
    """One assistant in one pipeline. Points in time are unix seconds. ``choice`` is the model in whose queue it
    waits or that handles its call now; ``sent``: its call may have been answered and paid."""

    assistant: Assistant
    inputs: list[str]
    choice: ModelChoice
    sent: bool = False
    state: AssistantState = AssistantState.WAITING
    attempt: int = 0
    note: str = ""
    queued_at: float | None = None
    ended_at: float | None = None
    result: AssistantResult | None = None
    error: ErrorRecord | None = None
    failed_calls: FailedCalls | None = None

    def seconds(self, now: float) -> float:
        """Time since it was queued; once it has ended, the time from queueing to the end."""
        if self.queued_at is None:
            return 0.0
        return round(max((self.ended_at or now) - self.queued_at, 0.0), 3)


class Stages:
    """All assistants of a pipeline, by ``order``. ``first_run_id`` and ``retried`` are as in
    :class:`~fleet.contracts.Assignment`."""

    def __init__(
        self,
        assistants: list[Assistant],
        inputs: PipelineInputs,
        first_run_id: str = "",
        *,
        retried: bool = False,
    ) -> None:
        self._inputs = inputs
        self._first_run_id = first_run_id
        self._retried = retried
        self._passed_characters = 0
        self._assistants = assistants
        waits_for = dependencies(assistants)
        self._stages = {
            assistant.function_key: Stage(
                assistant, waits_for[assistant.function_key], ModelChoice(assistant.provider, assistant.model)
            )
            for assistant in assistants
        }

    def ready(self, function_key: str) -> bool:
        """Whether all inputs of this assistant are available."""
        return all(self._stages[key].result is not None for key in self._stages[function_key].inputs)

    def inputs_of(self, function_key: str) -> list[str]:
        """The assistants whose outputs this one reads."""
        return self._stages[function_key].inputs

    def done(self, function_key: str) -> bool:
        """Whether it has answered."""
        return self._stages[function_key].result is not None

    def all_done(self) -> bool:
        """Whether every assistant has answered."""
        return all(stage.result is not None for stage in self._stages.values())

    def reuse(self, result: AssistantResult) -> None:
        """Use its answer from an earlier run of this pipeline; the answer of an assistant that no longer exists is
        ignored."""
        stage = self._stages.get(result.function_key)
        if stage is not None:
            stage.state, stage.result = AssistantState.DONE, result

    def queue(self, function_key: str, now: float) -> None:
        """It was put on its provider's task queue."""
        stage = self._stages[function_key]
        stage.state, stage.queued_at = AssistantState.QUEUED, now

    def move(self, moved: AssistantMoved) -> None:
        """Its worker reports that an attempt began or will be retried; a report that arrives after the end changes
        nothing."""
        stage = self._stages.get(moved.function_key)
        if stage is not None and stage.state in _OPEN:
            stage.state, stage.attempt, stage.note = moved.state, moved.attempt, moved.note
            stage.sent = moved.state is AssistantState.RUNNING or moved.unsettled

    def choose(self, function_key: str, choice: ModelChoice, note: str) -> None:
        """It moves to another model's queue, since no call of it was sent."""
        stage = self._stages[function_key]
        stage.state, stage.choice, stage.note, stage.sent = AssistantState.QUEUED, choice, note, False

    def waits_to_be_sent(self, function_key: str) -> bool:
        """Whether it is in its queue or between two attempts, with no call in flight."""
        return self._stages[function_key].state is AssistantState.QUEUED

    def drop(self, function_key: str, note: str) -> None:
        """It will not be executed after all."""
        stage = self._stages[function_key]
        stage.state, stage.queued_at, stage.note = AssistantState.WAITING, None, note

    def sent(self, function_key: str) -> bool:
        """Whether its call may already have been answered and paid."""
        return self._stages[function_key].sent

    def finish(self, result: AssistantResult, now: float) -> None:
        """It answered."""
        stage = self._stages[result.function_key]
        stage.state, stage.ended_at, stage.result = AssistantState.DONE, now, result
        stage.attempt, stage.note = result.attempts, ""

    def fail(
        self, function_key: str, error: ErrorRecord, now: float, failed_calls: FailedCalls | None = None
    ) -> None:
        """It failed and is not retried."""
        stage = self._stages[function_key]
        stage.failed_calls = failed_calls
        stage.state, stage.ended_at, stage.error, stage.note = (
            AssistantState.FAILED,
            now,
            error,
            error.message,
        )

    def outputs(self, function_keys: list[str] | None = None) -> dict[str, str]:
        """The answers so far, by functionKey, in ``order``; only of the named assistants where some are named.

        Raises:
            InputError: the pipeline has no such assistant.
        """
        if unknown := [key for key in function_keys or [] if key not in self._stages]:
            raise InputError(
                f"the pipeline has no assistant {unknown[0]!r}. Remedy: ask for some of {', '.join(self._stages)}"
            )
        return {
            key: stage.result.output
            for key, stage in self._stages.items()
            if stage.result and (function_keys is None or key in function_keys)
        }

    def assignment(self, function_key: str) -> Assignment:
        """Everything that this assistant works with.

        Raises:
            KeyError: the pipeline has no such assistant.
        """
        stage = self._stages[function_key]
        read = reads(stage.assistant, self._assistants)
        return Assignment(
            assistant=stage.assistant,
            topic=self._inputs.topic if TOPIC_KEY in read else None,
            current_date=self._inputs.current_date or None if DATE_KEY in read else None,
            csv_data=self._inputs.csv_text or None if CSV_KEY in read else None,
            outputs=[self._named_output(key) for key in read if key not in PIPELINE_KEYS],
            first_run_id=self._first_run_id,
            retried=self._retried,
        )

    def small_assignment(self, function_key: str) -> Assignment | None:
        """The same, to be passed along with the assistant's call; None where its worker must fetch it, since it is
        large or the pipeline has passed along much already: its history stores all of it."""
        assignment = self.assignment(function_key)
        size = sum(map(len, texts_of(assignment)))
        if size > SMALL_CHARACTERS or self._passed_characters + size > PASSED_CHARACTERS:
            return None
        self._passed_characters += size
        return assignment

    def _named_output(self, key: str) -> NamedText:
        owner, path = source_of(key, self._stages)
        stage = self._stages[owner]
        output = stage.result.output if stage.result else ""
        return NamedText(key, stage.assistant.name, field_text(output, path) if path and output else output)

    def progress(self, now: float, *, with_outputs: bool) -> list[AssistantProgress]:
        """The state of each assistant."""
        return [
            AssistantProgress(
                function_key=key,
                name=stage.assistant.name,
                provider=stage.choice.provider,
                model=stage.choice.model,
                state=stage.state,
                attempt=stage.attempt,
                seconds=stage.seconds(now),
                note=stage.note,
                output=stage.result.output if with_outputs and stage.result else "",
            )
            for key, stage in self._stages.items()
        ]

    def cut_off(self) -> list[str]:
        """One warning for each answer that is not complete."""
        return [
            f"{stage.assistant.name}: {_why_cut_off(stage.result)}"
            for stage in self._stages.values()
            if stage.result is not None and stage.result.finish_reason == "length"
        ]

    def records(self) -> list[StageRecord]:
        """What each assistant did, for the pipeline's result."""
        return [_record(stage) for stage in self._stages.values()]


def _why_cut_off(result: AssistantResult) -> str:
    """Why an answer is not complete. The worker cuts one that Temporal does not carry; no model's maximum is near
    that size."""
    bytes_of, escaped = len(result.output.encode()), text_bytes(result.output)
    if bytes_of > OUTPUT_MAX_BYTES * _AS_GOOD_AS_FULL or escaped > OUTPUT_ESCAPED_MAX_BYTES * _AS_GOOD_AS_FULL:
        return "its answer was cut to fit into what Temporal carries"
    tokens = f" ({result.output_tokens:,} output tokens)" if result.output_tokens else ""
    return (
        f"its answer was cut off at max_tokens{tokens}. Remedy: raise its max_tokens, or ask for a shorter answer"
    )


def texts_of(assignment: Assignment) -> list[str]:
    """The parts of an assignment that may be large."""
    assistant = assignment.assistant
    schema = None if assistant.output_schema is None else json.dumps(assistant.output_schema)
    options = None if assistant.options is None else json.dumps(assistant.options.given)
    given = (
        assignment.topic,
        assignment.csv_data,
        assistant.system_prompt,
        assistant.user_template,
        schema,
        options,
    )
    return [*(text for text in given if text), *(output.text for output in assignment.outputs)]


def _record(stage: Stage) -> StageRecord:
    assistant = stage.assistant
    queued = datetime.fromtimestamp(stage.queued_at, UTC) if stage.queued_at is not None else None
    return StageRecord(
        stage=assistant.name,
        status=stage.state.value,
        function_key=assistant.function_key,
        order=assistant.order,
        started=queued.isoformat(timespec="milliseconds") if queued else None,
        duration=stage.seconds(stage.queued_at or 0.0),
        output=stage.result.output if stage.result is not None else "",
        metadata=dict(vars(_metadata(stage))),
        output_json=output_json(stage.result.output, assistant.output_schema)
        if stage.result is not None
        else None,
    )


def _metadata(stage: Stage) -> StageMetadata:
    if stage.result is not None:
        return StageMetadata.of(stage.result, stage.inputs)
    failed = stage.error.attempts if stage.error is not None else 0
    return StageMetadata.of_failure(stage.choice, stage.inputs, failed, stage.failed_calls)
