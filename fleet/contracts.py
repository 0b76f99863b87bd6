"""What crosses Temporal: names, inputs, assistants and results.

Everything here is plain data that becomes plain JSON, so that the Temporal UI, the ``temporal`` command and other
languages can read it and start pipelines with it. Durations are in seconds, points in time are ISO 8601 in UTC,
money is in US dollars.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, fields
from enum import StrEnum
from typing import Any, Self

from fleet.model_options import ModelOptions

WORKFLOW_TYPE = "AssistantPipelineWorkflow"
#: Runs one assistant alone; see :class:`Trial`.
TRY_TYPE = "AssistantTryWorkflow"
#: The workflow types that execute assistants, and the part of a query to Temporal that finds them.
PIPELINE_TYPES = (WORKFLOW_TYPE, TRY_TYPE)
TYPES_QUERY = f"WorkflowType IN ('{WORKFLOW_TYPE}', '{TRY_TYPE}')"
LOAD_ASSISTANTS = "load_assistants_from_database"
CHECK_CSV = "check_csv"
EXECUTE_ASSISTANT = "execute_assistant"
COLLECT_FINISHED = "collect_finished_outputs"
#: Memo of a pipeline that was started by `fleet retry`; its value is a :class:`RetryOf`.
RETRY_MEMO = "retry_of"
#: Memos of a pipeline that the fleet's own commands started, by which `fleet list` finds it without its history.
TOPIC_MEMO, PROJECT_MEMO = "topic", "project_id"

PIPELINE_QUEUE = "pipeline"
ASSISTANTS_QUEUE = "assistants"
CONTROL_QUEUE = "control"

PROGRESS_QUERY = "progress"
#: Failure code of an assistant whose model cannot be used, so that another model of its ``fallback`` takes the
#: call.
MODEL_UNUSABLE = "model_unusable"
OUTPUTS_QUERY = "outputs"
ASSIGNMENT_QUERY = "assignment"
ASSISTANT_SIGNAL = "assistant_moved"

#: Inputs that an assistant may name in ``input_keys``, in addition to the functionKeys of other assistants.
TOPIC_KEY, CSV_KEY, DATE_KEY = "topic", "csv", "date"
PIPELINE_KEYS = frozenset({TOPIC_KEY, CSV_KEY, DATE_KEY})

#: Largest encoded value that the fleet passes to Temporal; Temporal refuses payloads above 2 MiB.
PAYLOAD_MAX_BYTES = 2_000_000
#: Largest csv_data that a pipeline accepts, decoded; Temporal refuses payloads above 2 MiB.
CSV_MAX_BYTES = 1_000_000
#: Largest output of an assistant; a longer one is cut to this size, with the ``finish_reason`` ``length``.
OUTPUT_MAX_BYTES = 1_000_000
#: The same limit for the output encoded as JSON, where almost every character may be escaped.
OUTPUT_ESCAPED_MAX_BYTES = 1_500_000

#: Metric of the workflow: how long a pipeline took, by outcome.
PIPELINE_DURATION = "fleet_pipeline_duration"

#: Error types (``ApplicationError.type``) of a pipeline that ends as Failed.
PIPELINE_FAILED = "PipelineFailed"


def llm_queue(provider: str) -> str:
    """A provider's task queue, unless its settings name another one."""
    return f"llm-{provider}"


class AssistantState(StrEnum):
    """The state of an assistant in its pipeline."""

    WAITING = "waiting"
    QUEUED = "queued"
    RUNNING = "running"
    DONE = "done"
    FAILED = "failed"


class PipelineState(StrEnum):
    """The state of a pipeline."""

    LOADING = "loading"
    RUNNING = "running"
    COMPLETED = "completed"
    FAILED = "failed"


@dataclass(frozen=True)
class ModelChoice:
    """A provider and one of its models. ``without`` names the assistant's options that it does not take, and that
    are not sent to it."""

    provider: str
    model: str
    without: tuple[str, ...] = ()


@dataclass(frozen=True)
class CsvSelection:
    """The columns and rows of the CSV that an assistant reads; see :mod:`fleet.pipeline.csv_selection`.

    ``columns`` None: all of them. At most one of ``first``, ``top`` and ``sample`` is set, and says how many rows:
    the first ones, those with the largest numbers in the column ``by``, or a random choice with ``seed``.
    """

    columns: list[str] | None = None
    first: int | None = None
    top: int | None = None
    by: str | None = None
    sample: int | None = None
    seed: int = 0


@dataclass(frozen=True)
class Assistant:
    """One assistant from the backend, validated, with the defaults filled in.

    ``max_tokens`` None: the model's own maximum. ``input_keys`` None: the default inputs, which are the date and
    the output of the previous assistant by ``order``, or the topic for the first one. ``on_ambiguous`` is
    ``send``, ``fail``, or None for the setting of that name. ``output_schema`` is the JSON Schema that the output
    matches; None: the output is text. ``csv`` is what it reads of the CSV; None: the CSV as a whole.

    ``user_template`` is the template of the user message; None: it is built from the inputs.
    ``system_template``: ``system_prompt`` is a template too. See :mod:`fleet.pipeline.templates`. ``options`` are
    the further options of its model; None: there are none.
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
    user_template: str | None = None
    system_template: bool = False
    output_schema: dict[str, Any] | None = None
    csv: CsvSelection | None = None
    options: ModelOptions | None = None

    @property
    def needs(self) -> list[str]:
        """The fields that a worker must know to execute this assistant, among those that not every release knows.
        A worker that does not know one would ignore it silently."""
        return [name for name in LATER_FIELDS if getattr(self, name)]


#: Fields of :class:`Assistant` that releases up to 0.2.0 do not know.
LATER_FIELDS = ("output_schema", "user_template", "system_template", "csv", "options")


@dataclass(frozen=True)
class ActivityLimits:
    """The timeouts that the workflow sets for ``execute_assistant``, in seconds. An assistant that has not been
    started within ``fallback_after_seconds`` moves to its next model, if it has one."""

    timeout_seconds: float
    heartbeat_timeout_seconds: float
    retry_initial_seconds: float
    backoff_coefficient: float
    fallback_after_seconds: float = 60.0


@dataclass(frozen=True)
class PipelinePlan:
    """What ``load_assistants_from_database`` returns to the workflow.

    ``assistants`` are sorted by ``order``. ``queues`` maps each provider in use to its task queue, and each
    ``provider/model`` that has its own task queue to that queue. ``fingerprint`` identifies the content of the
    project; empty in plans of 0.2.0 and before.
    """

    project_id: str
    assistants: list[Assistant]
    queues: dict[str, str]
    limits: ActivityLimits
    fingerprint: str = ""

    def queue_of(self, choice: ModelChoice) -> str:
        """The task queue of a model's calls."""
        return self.queues.get(f"{choice.provider}/{choice.model}", self.queues[choice.provider])


@dataclass(frozen=True)
class AssistantCall:
    """Argument of ``execute_assistant``.

    ``assignment`` is what the assistant works with, where that is small. None: the worker fetches it from the
    workflow with the query ``assignment``, so that a long output read by five assistants is not stored five times
    in the history.

    ``give_up_after_seconds`` is how long the call may wait until it is first sent; after that another model takes
    it. None: no bound. ``before`` holds the last heartbeat details of an earlier execution whose call this one
    continues; see :class:`fleet.execution.attempts.Attempts`. ``needs`` are the assistant's
    :attr:`Assistant.needs`: where there are any, the query must say which of them the worker understands, so that
    one of an earlier release is refused.
    """

    function_key: str
    name: str
    provider: str
    model: str
    project_id: str
    give_up_after_seconds: float | None = None
    before: dict[str, Any] | None = None
    assignment: "Assignment | None" = None
    needs: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class NamedText:
    """The output of an earlier assistant, under its functionKey; or one field of it, under ``key.field``."""

    key: str
    name: str
    text: str


@dataclass(frozen=True)
class Assignment:
    """Everything that one assistant works with: part of its :class:`AssistantCall`, or the answer of the query
    ``assignment``.

    ``topic``, ``current_date`` and ``csv_data`` are None where this assistant does not read them. ``first_run_id``
    is the id of the pipeline's first run, which neither a reset nor ``fleet retry`` changes. ``retried``: a person
    retried the pipeline, and with it calls that may already have been paid.
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
    """Signal from ``execute_assistant``: an attempt began, or an attempt failed and will be retried.
    ``unsettled``: this call or an earlier one was sent, and may be charged although it failed."""

    function_key: str
    state: AssistantState
    attempt: int
    note: str = ""
    unsettled: bool = False


@dataclass(frozen=True)
class AssistantResult:
    """Result of ``execute_assistant``.

    ``attempts`` counts calls that ended in anything but a 429; several failures in quick succession count as one.
    ``calls`` counts all calls that were sent. ``cost_usd`` is None where the price is not known; ``price_version``
    names the price data used for it. ``seconds`` is the duration of the call that was answered.
    ``possibly_paid_twice`` counts earlier calls that were or may have been paid. ``reused_from`` is the id of the
    run that made this answer, where a retried pipeline reused it; it then cost nothing.

    ``simulated``: a simulator answered; ``cost_usd`` is then what a provider would have charged, and nothing is
    paid. ``service_tier`` is the tier that the answer names, empty for the standard one; ``price_note`` says why
    ``cost_usd`` is not exact, and is empty where it is exact.
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
class FailedCalls:
    """What the calls of an assistant that failed cost; after the :class:`ErrorRecord` in the details of the
    failure of ``execute_assistant``. Releases up to 0.2.0 do not send it.

    Tokens and ``cost_usd`` are the sums over the answers that could not be used. ``cost_usd`` is None if a price
    is not known, or if calls may have been paid and none of them is known to be; where only some of their costs
    are known, ``price_note`` says so. The other fields are as in :class:`AssistantResult`.
    """

    calls: int = 0
    possibly_paid_twice: int = 0
    input_tokens: int = 0
    cached_input_tokens: int = 0
    output_tokens: int = 0
    cost_usd: float | None = 0.0
    price_version: str | None = None
    price_note: str = ""
    service_tier: str = ""
    simulated: bool = False

    @classmethod
    def from_details(cls, details: Mapping[str, Any]) -> Self:
        """From a failure's details: unknown fields are ignored, missing ones get defaults."""
        return cls(**{item.name: details[item.name] for item in fields(cls) if item.name in details})


@dataclass(frozen=True)
class StageMetadata:
    """How an assistant's output came about. ``inputs`` are the function keys that it read; ``call_started`` (ISO
    8601) and ``call_seconds`` are those of the call that was answered; the other fields are those of
    :class:`AssistantResult`. An assistant without an answer has the model that it would have been sent to, the
    ``attempts`` that failed, the fields of :class:`FailedCalls`, and the defaults."""

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

    @classmethod
    def of_failure(cls, choice: ModelChoice, inputs: list[str], attempts: int, calls: FailedCalls | None) -> Self:
        """Those of an assistant without an answer."""
        return cls(choice.provider, choice.model, inputs, attempts, **({} if calls is None else vars(calls)))


@dataclass(frozen=True)
class RetryOf:
    """The failed run whose finished outputs a pipeline reuses; argument of ``collect_finished_outputs``.

    ``first_run_id`` is the id of the first run of the retried pipeline, by which its calls are identified. Empty
    where 0.1.0 started the retry. The first ``skip`` outputs have already been taken over: all of them together
    may be larger than what Temporal carries at once.
    """

    workflow_id: str
    run_id: str
    first_run_id: str = ""
    skip: int = 0


@dataclass(frozen=True)
class ErrorRecord:
    """The one form in which a failure is shown: in the failure's details, in queries, in ``--json``.

    ``provider`` is None where no provider was involved. ``attempts`` is as in ``AssistantResult``. ``retryable``
    says whether the same thing may succeed later without intervention.
    """

    code: str
    message: str
    provider: str | None
    attempts: int
    retryable: bool

    @classmethod
    def from_details(cls, details: Mapping[str, Any]) -> Self:
        """From a failure's details, written by any release: unknown fields are ignored, missing ones get
        defaults."""
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
    ``output_json`` is the output as JSON where the assistant has an ``output_schema``.
    """

    stage: str
    status: str
    function_key: str
    order: int
    started: str | None
    duration: float
    output: str
    metadata: dict[str, Any]
    output_json: Any = None


@dataclass(frozen=True)
class Spent:
    """What a pipeline's answers cost in total, in US dollars, and the calls of those assistants that failed.
    ``cost_usd`` is paid; ``simulated_cost_usd`` is what a provider would have charged for a simulator's answers,
    and is not paid. ``unpriced_calls`` counts the paid answers whose price is not known, and the calls of failed
    assistants that were or may have been paid at an unknown cost; they are in neither sum."""

    cost_usd: float
    simulated_cost_usd: float
    unpriced_calls: int

    @classmethod
    def on(cls, stages: Iterable[StageRecord]) -> Self:
        """The totals of these stages, whichever release recorded them."""
        return cls.of(
            (stage.metadata.get("cost_usd"), bool(stage.metadata.get("simulated")), _unpriced_in(stage))
            for stage in stages
            if stage.status in (AssistantState.DONE, AssistantState.FAILED)
        )

    @classmethod
    def of(cls, assistants: Iterable[tuple[float | None, bool, int]]) -> Self:
        """The totals of assistants, each with its cost, whether a simulator answered it, and how many of its calls
        have no known price."""
        each = list(assistants)
        paid = [(cost, unpriced) for cost, simulated, unpriced in each if not simulated]
        return cls(
            _sum(cost for cost, _ in paid),
            _sum(cost for cost, simulated, _ in each if simulated),
            sum(unpriced for _, unpriced in paid),
        )


def unpriced_calls(state: str, cost_usd: float | None, calls: int, possibly_paid_twice: int) -> int:
    """How many of an assistant's calls that were or may have been paid have no known price. Of one that is done
    that is its answer; earlier calls are counted in ``possibly_paid_twice`` alone."""
    if cost_usd is not None:
        return 0
    return 1 if state == AssistantState.DONE else min(calls, possibly_paid_twice + 1)


def _unpriced_in(stage: StageRecord) -> int:
    found = stage.metadata
    calls, twice = found.get("calls") or 0, found.get("possibly_paid_twice") or 0
    return unpriced_calls(stage.status, found.get("cost_usd"), calls, twice)


def _sum(amounts: Iterable[float | None]) -> float:
    return round(sum(amount for amount in amounts if amount is not None), 10)


@dataclass(frozen=True)
class PipelineResult:
    """Result of the workflow; where ``error`` is set, the details of its failure. ``warnings`` are things that the
    user should know although the pipeline continued. ``spent`` is None in results of 0.1.0.
    ``project_fingerprint`` is that of the plan."""

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
    project_fingerprint: str = ""


@dataclass(frozen=True)
class Trial:
    """Fifth argument of ``AssistantTryWorkflow``, after the four of a pipeline: the assistant that runs alone.

    ``outputs`` are texts by functionKey, which stand for the outputs of the assistants that it reads. With
    ``model``, that model is asked instead of its own and its fallbacks; ``queue`` is the model's task queue.
    """

    function_key: str
    outputs: dict[str, str] = field(default_factory=dict)
    model: ModelChoice | None = None
    queue: str = ""


@dataclass(frozen=True)
class AssistantProgress:
    """One assistant in the answer of the query ``progress``.

    ``attempt`` is 0 before the first attempt; ``seconds`` is the time since it was queued, and stops growing once
    it is done or failed. ``note`` is the last failure of an assistant that is being retried. ``output`` is filled
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
    """What providers limit; each limit has its own bucket."""

    REQUESTS = "requests"
    TOKENS = "tokens"
    INPUT_TOKENS = "input_tokens"
    OUTPUT_TOKENS = "output_tokens"


@dataclass(frozen=True)
class LimitSettings:
    """Limits per minute; None where none is set. ``tpm`` is all tokens together, as the provider counts them."""

    rpm: float | None = None
    tpm: float | None = None
    input_tpm: float | None = None
    output_tpm: float | None = None

    def refills(self) -> dict[Limited, float]:
        """Units per second of each limit that is set."""
        values = {
            Limited.REQUESTS: self.rpm,
            Limited.TOKENS: self.tpm,
            Limited.INPUT_TOKENS: self.input_tpm,
            Limited.OUTPUT_TOKENS: self.output_tpm,
        }
        return {what: value / 60 for what, value in values.items() if value is not None}
