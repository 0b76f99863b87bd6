"""What crosses Temporal: the names, the inputs, the assistants, the results.

Everything here is plain data in plain JSON, so that the Temporal UI, the ``temporal`` command and other
languages can read and start it. Durations are in seconds, points in time are ISO 8601 in UTC, money is in
US dollars.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, fields
from enum import StrEnum
from typing import Any, Self

WORKFLOW_TYPE = "AssistantPipelineWorkflow"
LOAD_ASSISTANTS = "load_assistants_from_database"
CHECK_CSV = "check_csv"
EXECUTE_ASSISTANT = "execute_assistant"
COLLECT_FINISHED = "collect_finished_outputs"
#: Memo of a pipeline that was started by `fleet retry`; its value is a :class:`RetryOf`.
RETRY_MEMO = "retry_of"

PIPELINE_QUEUE = "pipeline"
ASSISTANTS_QUEUE = "assistants"
CONTROL_QUEUE = "control"

PROGRESS_QUERY = "progress"
#: Code of the failure of an assistant that another model of its ``fallback`` takes, since this one cannot be used.
MODEL_UNUSABLE = "model_unusable"
OUTPUTS_QUERY = "outputs"
ASSIGNMENT_QUERY = "assignment"
ASSISTANT_SIGNAL = "assistant_moved"

#: Inputs that an assistant may name in ``input_keys`` beside the functionKeys of others.
TOPIC_KEY, CSV_KEY, DATE_KEY = "topic", "csv", "date"
PIPELINE_KEYS = frozenset({TOPIC_KEY, CSV_KEY, DATE_KEY})

#: Largest value that the fleet hands to Temporal, encoded; Temporal refuses payloads above 2 MiB.
PAYLOAD_MAX_BYTES = 2_000_000
#: Largest csv_data that a pipeline accepts, decoded; Temporal refuses payloads above 2 MiB.
CSV_MAX_BYTES = 1_000_000
#: Largest output that an assistant hands on; a longer one is cut there and says so.
OUTPUT_MAX_BYTES = 1_000_000
#: The same as JSON, where nearly all of it may be escaped.
OUTPUT_ESCAPED_MAX_BYTES = 1_500_000

#: What the workflow measures of itself: how long it took, by outcome.
PIPELINE_DURATION = "fleet_pipeline_duration"

#: Error types (``ApplicationError.type``) of a pipeline that ends as Failed.
PIPELINE_FAILED = "PipelineFailed"


def llm_queue(provider: str) -> str:
    """The task queue that a provider has unless its settings name another one."""
    return f"llm-{provider}"


class AssistantState(StrEnum):
    """Where an assistant stands in its pipeline."""

    WAITING = "waiting"
    QUEUED = "queued"
    RUNNING = "running"
    DONE = "done"
    FAILED = "failed"


class PipelineState(StrEnum):
    """Where a pipeline stands."""

    LOADING = "loading"
    RUNNING = "running"
    COMPLETED = "completed"
    FAILED = "failed"


@dataclass(frozen=True)
class ModelChoice:
    """A provider and one of its models."""

    provider: str
    model: str


@dataclass(frozen=True)
class Assistant:
    """One assistant as the backend has it, validated, with the defaults filled in.

    ``max_tokens`` None means the model's own maximum. ``input_keys`` None means the classic rule: the
    output of the assistant before it by ``order``, the topic for the first. ``on_ambiguous`` is ``send``,
    ``fail``, or None for the setting of that name.
    """

    function_key: str
    name: str
    order: int
    provider: str
    model: str
    system_prompt: str
    temperature: float = 0.7
    top_p: float | None = None
    max_tokens: int | None = None
    input_keys: list[str] | None = None
    fallback: list[ModelChoice] = field(default_factory=list)
    on_ambiguous: str | None = None


@dataclass(frozen=True)
class ActivityLimits:
    """The timeouts that the workflow gives to ``execute_assistant``, in seconds. An assistant that has not been
    started for ``fallback_after_seconds`` moves to its next choice, if it has one."""

    timeout_seconds: float
    heartbeat_timeout_seconds: float
    retry_initial_seconds: float
    backoff_coefficient: float
    fallback_after_seconds: float = 60.0


@dataclass(frozen=True)
class PipelinePlan:
    """What ``load_assistants_from_database`` gives the workflow.

    ``assistants`` are sorted by ``order``. ``queues`` maps each provider in use to its task queue, and each
    ``provider/model`` that has one of its own.
    """

    project_id: str
    assistants: list[Assistant]
    queues: dict[str, str]
    limits: ActivityLimits

    def queue_of(self, choice: ModelChoice) -> str:
        """The task queue of a model's calls."""
        return self.queues.get(f"{choice.provider}/{choice.model}", self.queues[choice.provider])


@dataclass(frozen=True)
class AssistantCall:
    """Argument of ``execute_assistant``.

    It names the assistant and carries no text: prompt and inputs are fetched from the workflow by the
    query ``assignment``, so that an output read by five assistants is not five times in the history.

    ``give_up_after_seconds`` is how long it may wait until its call is sent for the first time, since another
    model takes it then; None: as long as it takes. ``before`` is what an earlier execution's last heartbeat told,
    where this one goes on with its call; see :class:`fleet.execution.attempts.Attempts`.
    """

    function_key: str
    name: str
    provider: str
    model: str
    project_id: str
    give_up_after_seconds: float | None = None
    before: dict[str, Any] | None = None


@dataclass(frozen=True)
class NamedText:
    """The output of an earlier assistant, under its functionKey."""

    key: str
    name: str
    text: str


@dataclass(frozen=True)
class Assignment:
    """Answer of the query ``assignment``: all that one assistant works from.

    ``topic``, ``current_date`` and ``csv_data`` are None where this assistant does not read them.
    ``first_run_id`` is that of the pipeline's first run, which neither a reset nor ``fleet retry`` changes.
    ``retried``: a person had the pipeline tried again, and with it what may have been paid before.
    """

    assistant: Assistant
    topic: str | None
    current_date: str | None
    csv_data: str | None
    outputs: list[NamedText]
    first_run_id: str = ""
    retried: bool = False


@dataclass(frozen=True)
class AssistantMoved:
    """Signal from ``execute_assistant``: it began an attempt, or an attempt failed and will be repeated.
    ``unsettled``: this one or an earlier one was sent, and may be paid although it failed."""

    function_key: str
    state: AssistantState
    attempt: int
    note: str = ""
    unsettled: bool = False


@dataclass(frozen=True)
class AssistantResult:
    """Answer of ``execute_assistant``.

    ``attempts`` counts calls that were answered by something else than a 429, several failures in quick succession
    as one; ``calls`` counts all that were sent. ``cost_usd`` is None where
    the price is not known; ``price_version`` names the price data it was computed with. ``seconds`` is the
    duration of the call that was answered. ``possibly_paid_twice`` counts earlier calls that were
    or may have been paid. ``reused_from`` names the run whose answer this is, where a retried pipeline took
    it over; it then cost nothing.

    ``simulated``: a simulator answered; ``cost_usd`` is then what a provider would have charged, and nothing is
    paid. ``service_tier`` is the one that the answer names, empty for the standard one; ``price_note`` says why
    ``cost_usd`` is not exact, and is empty where it is.
    """

    function_key: str
    output: str
    provider: str
    model: str
    finish_reason: str
    input_tokens: int
    cached_input_tokens: int
    output_tokens: int
    cost_usd: float | None
    price_version: str | None
    attempts: int
    seconds: float
    started: str
    idempotency_key: str
    possibly_paid_twice: int = 0
    calls: int = 0
    reused_from: str | None = None
    simulated: bool = False
    service_tier: str = ""
    price_note: str = ""


@dataclass(frozen=True)
class StageMetadata:
    """How an assistant's output came about. ``inputs`` are the function keys that it read; ``call_started`` (ISO
    8601) and ``call_seconds`` are those of the call that was answered; the other fields are those of
    :class:`AssistantResult`. An assistant without an answer has the model that it would have been sent to, the
    ``attempts`` that failed, and the defaults."""

    provider: str
    model: str
    inputs: list[str]
    attempts: int = 0
    input_tokens: int = 0
    cached_input_tokens: int = 0
    output_tokens: int = 0
    cost_usd: float | None = None
    price_version: str | None = None
    price_note: str = ""
    service_tier: str = ""
    simulated: bool = False
    finish_reason: str | None = None
    call_started: str | None = None
    call_seconds: float | None = None
    idempotency_key: str | None = None
    calls: int = 0
    possibly_paid_twice: int = 0
    reused_from: str | None = None

    @classmethod
    def of(cls, result: AssistantResult, inputs: list[str]) -> Self:
        """Those of an answer."""
        answer = {item.name: getattr(result, item.name) for item in fields(cls) if hasattr(result, item.name)}
        return cls(inputs=inputs, call_started=result.started, call_seconds=result.seconds, **answer)


@dataclass(frozen=True)
class RetryOf:
    """The failed run whose finished outputs a pipeline takes over; argument of ``collect_finished_outputs``.

    ``first_run_id`` is that of the first run of the pipeline which is tried again: its calls are known by it.
    Empty where 0.1.0 started the retry. ``skip`` outputs were taken over already: together they may be larger than
    what Temporal carries at once.
    """

    workflow_id: str
    run_id: str
    first_run_id: str = ""
    skip: int = 0


@dataclass(frozen=True)
class ErrorRecord:
    """The one form in which a failure is shown: in the failure's details, in queries, in ``--json``.

    ``provider`` is None where no provider was involved. ``attempts`` is as in ``AssistantResult``.
    ``retryable`` says whether the same thing may succeed later without anybody's help.
    """

    code: str
    message: str
    provider: str | None
    attempts: int
    retryable: bool

    @classmethod
    def from_details(cls, details: Mapping[str, Any]) -> Self:
        """From a failure's details, of whichever release: unknown fields are ignored, missing ones usual."""
        return cls(
            code=str(details.get("code", "unexpected")),
            message=str(details.get("message", "")),
            provider=details.get("provider"),
            attempts=int(details.get("attempts", 0)),
            retryable=bool(details.get("retryable", True)),
        )


@dataclass(frozen=True)
class StageRecord:
    """What one assistant did in a pipeline.

    ``status`` is an ``AssistantState``; ``started`` is None and ``duration`` 0 for one that never ran.
    ``metadata`` has the fields of :class:`StageMetadata`; records of older releases lack some of them.
    """

    stage: str
    status: str
    function_key: str
    order: int
    started: str | None
    duration: float
    output: str
    metadata: dict[str, Any]


@dataclass(frozen=True)
class Spent:
    """What the answers of a pipeline cost in all, in US dollars: ``cost_usd`` is paid; ``simulated_cost_usd`` is
    what a provider would have charged for those of a simulator, and is not paid. ``unpriced_calls`` counts the
    paid answers whose price is not known, and which are in neither."""

    cost_usd: float
    simulated_cost_usd: float
    unpriced_calls: int

    @classmethod
    def on(cls, stages: Iterable[StageRecord]) -> Self:
        """What these cost together, of whichever release they are."""
        done = [stage.metadata for stage in stages if stage.status == AssistantState.DONE]
        paid = [one.get("cost_usd") for one in done if not one.get("simulated")]
        simulated = [one.get("cost_usd") for one in done if one.get("simulated")]
        return cls(_sum(paid), _sum(simulated), paid.count(None))


def _sum(amounts: Iterable[float | None]) -> float:
    return round(sum(amount for amount in amounts if amount is not None), 10)


@dataclass(frozen=True)
class PipelineResult:
    """Result of the workflow, and the details of its failure, where ``error`` is set. ``warnings`` are things
    that its user should know although the pipeline went on. ``spent`` is None in results of 0.1.0."""

    topic: str
    project_id: str
    workflow_id: str
    run_id: str
    final_output: str
    stages: list[StageRecord]
    assistants_executed: int
    total_assistants: int
    pipeline_success: bool
    error: ErrorRecord | None = None
    warnings: list[str] = field(default_factory=list)
    spent: Spent | None = None


@dataclass(frozen=True)
class AssistantProgress:
    """One assistant in the answer of the query ``progress``.

    ``attempt`` is 0 before the first one; ``seconds`` is the time since it was queued, and stands still
    once it is done or failed. ``note`` is the last failure of one that is tried again. ``output`` is filled
    in once the pipeline has failed.
    """

    function_key: str
    name: str
    provider: str
    model: str
    state: AssistantState
    attempt: int
    seconds: float
    note: str = ""
    output: str = ""


@dataclass(frozen=True)
class Progress:
    """Answer of the query ``progress``."""

    state: PipelineState
    topic: str
    project_id: str
    seconds: float
    assistants: list[AssistantProgress]
    error: ErrorRecord | None = None


class Limited(StrEnum):
    """What providers limit, each a bucket of its own."""

    REQUESTS = "requests"
    TOKENS = "tokens"
    INPUT_TOKENS = "input_tokens"
    OUTPUT_TOKENS = "output_tokens"


@dataclass(frozen=True)
class LimitSettings:
    """Limits a minute; None where none was set. ``tpm`` are tokens as the provider counts them together."""

    rpm: float | None = None
    tpm: float | None = None
    input_tpm: float | None = None
    output_tpm: float | None = None

    def refills(self) -> dict[Limited, float]:
        """Units a second, of what is limited."""
        values = {
            Limited.REQUESTS: self.rpm,
            Limited.TOKENS: self.tpm,
            Limited.INPUT_TOKENS: self.input_tpm,
            Limited.OUTPUT_TOKENS: self.output_tpm,
        }
        return {what: value / 60 for what, value in values.items() if value is not None}
