"""What a project will do: its steps, its longest chain, its estimated tokens and cost. No call is made."""

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import cache
from typing import Any

from fleet.config import Settings
from fleet.contracts import Assistant, ModelChoice
from fleet.errors import InputError
from fleet.execution.load_assistants import with_options_that_are_taken
from fleet.execution.requests import request_for
from fleet.model_options import ModelOptions
from fleet.pipeline.assistants import dependencies, parse_assistants, reads, source_of
from fleet.pipeline.csv_selection import refuse_selections
from fleet.pipeline.inputs import PipelineInputs
from fleet.pipeline.prompts import CHARACTERS_PER_TOKEN, build_system_prompt, build_user_message, estimate_tokens
from fleet.pipeline.stages import Stages
from fleet.providers.context_windows import overflow_of
from fleet.providers.known_models import nearest_known
from fleet.providers.prices import usd_for

#: The length of an answer that nothing bounds, and of a topic, for estimates.
ASSUMED_OUTPUT_TOKENS = 1000
_TOPIC = PipelineInputs(topic="x" * 60, project_id="", csv_text="", current_date="2025-01-31")


@dataclass(frozen=True)
class PlannedAssistant:
    """One assistant: ``step`` is 1 for those that wait for nobody. Tokens are estimates from the length of texts,
    ``output_tokens`` the most that it may answer and think; dollars are None if a price is not known. ``options``
    are the further options of its model by name; ``left_out`` has those that a fallback does not take, by
    ``provider/model``."""

    function_key: str
    name: str
    order: int
    model: str
    reads: list[str]
    step: int
    input_tokens: int
    output_tokens: int
    usd: float | None
    options: dict[str, Any]
    left_out: dict[str, list[str]]


@dataclass(frozen=True)
class ProjectPlan:
    """A project's assistants by ``order``; ``critical_path`` is the chain that takes longest. ``warnings`` say
    what will fail although the files are sound; ``never_completes``: all models of an assistant will, or the CSV
    lacks what one selects. ``csv_counted``: the estimates include a CSV."""

    project_id: str
    fingerprint: str
    assistants: list[PlannedAssistant]
    critical_path: list[str]
    warnings: list[str] = field(default_factory=list)
    never_completes: bool = False
    csv_counted: bool = False

    @property
    def usd(self) -> float | None:
        """The cost of one pipeline; None if a price is not known."""
        costs = [assistant.usd for assistant in self.assistants]
        return None if None in costs else sum(cost for cost in costs if cost is not None)

    def to_json(self) -> dict[str, Any]:
        """As ``--json`` prints it."""
        return asdict(self) | {"usd": self.usd}


def plan_of(
    settings: Settings, project_id: str, fingerprint: str, rows: Sequence[Any], csv_text: str = ""
) -> ProjectPlan:
    """The plan for assistants as the Backend API's contract has them, for pipelines with this CSV.

    Raises:
        BackendError: they cannot be used.
    """
    assistants = parse_assistants(
        list(rows),
        project_id,
        default_temperature=settings.default_temperature,
        default_max_tokens=settings.default_max_tokens,
        provider_name=lambda name: settings.provider(name).name,
    )
    assistants = with_options_that_are_taken(settings, assistants)
    waits_for = dependencies(assistants)
    answers = {assistant.function_key: _max_tokens_of(assistant) for assistant in assistants}

    @cache
    def chain(key: str) -> tuple[int, list[str]]:
        """The longest chain that ends with this assistant, and its tokens."""
        before = max((chain(needed) for needed in waits_for[key]), default=(0, []), key=lambda found: found[0])
        return before[0] + answers[key], [*before[1], key]

    @cache
    def step(key: str) -> int:
        return 1 + max((step(needed) for needed in waits_for[key]), default=0)

    unreadable = [warning for assistant in assistants for warning in _not_in_csv(assistant, csv_text)]
    stages = Stages(assistants, _TOPIC)
    csv_counted = bool(csv_text) and not unreadable
    read = Stages(assistants, replace(_TOPIC, csv_text=csv_text)) if csv_counted else stages
    planned = [_planned(settings, read, assistant, assistants, answers, step) for assistant in assistants]
    longest = max((chain(assistant.function_key) for assistant in assistants), key=lambda found: found[0])
    too_long = [(assistant, list(_too_long(settings, stages, assistant))) for assistant in assistants]
    never = any(len(warnings) == 1 + len(assistant.fallback) for assistant, warnings in too_long)
    warnings = unreadable + [warning for _, found in too_long for warning in found]
    warnings += [warning for assistant in assistants for warning in _not_known(settings, assistant)]
    never = never or bool(unreadable)
    return ProjectPlan(project_id, fingerprint, planned, longest[1], warnings, never, csv_counted)


def _not_in_csv(assistant: Assistant, csv_text: str) -> Iterator[str]:
    """A warning if the CSV lacks what an assistant selects."""
    try:
        refuse_selections([assistant], csv_text, in_full=True)
    except InputError as error:
        yield str(error)


def _too_long(settings: Settings, stages: Stages, assistant: Assistant) -> Iterator[str]:
    """A warning for each of its models whose context window is too small for its prompt alone, without inputs."""
    assignment = stages.assignment(assistant.function_key)
    outputs = [replace(output, text="") for output in assignment.outputs]
    own = ModelChoice(assistant.provider, assistant.model)
    request = request_for(replace(assignment, topic="", outputs=outputs), own)
    for choice in [own, *assistant.fallback]:
        overflow = overflow_of(settings.provider(choice.provider), replace(request, model=choice.model))
        if overflow is not None:
            yield (
                f"{assistant.function_key}: without its inputs already, {overflow}. Remedy: shorten its prompt, "
                "lower max_tokens, or name a model with a larger context window"
            )


def _not_known(settings: Settings, assistant: Assistant) -> Iterator[str]:
    """A warning for each of its models that is not known, if a known one has a similar name."""
    for choice in [ModelChoice(assistant.provider, assistant.model), *assistant.fallback]:
        if near := nearest_known(settings.provider(choice.provider), choice.model):
            yield (
                f"{assistant.function_key}: the price data has no model {choice.provider}/{choice.model} (did you "
                f"mean {near}?). Remedy: correct the name; if the model is newer than the price data, leave it"
            )


def _max_tokens_of(assistant: Assistant) -> int:
    """The most that it may answer and think: max_tokens bounds both."""
    options = assistant.options or ModelOptions()
    return assistant.max_tokens or ASSUMED_OUTPUT_TOKENS + max(options.thinking_budget or 0, 0)


def _planned(
    settings: Settings,
    stages: Stages,
    assistant: Assistant,
    assistants: list[Assistant],
    answers: dict[str, int],
    step: Any,
) -> PlannedAssistant:
    key = assistant.function_key
    assignment = stages.assignment(key)
    outputs = [
        replace(output, text="x" * round(answers[source_of(output.key, answers)[0]] * CHARACTERS_PER_TOKEN))
        for output in assignment.outputs
    ]
    assignment = replace(assignment, outputs=outputs)
    tokens = estimate_tokens(build_system_prompt(assignment)) + estimate_tokens(build_user_message(assignment))
    provider = settings.provider(assistant.provider)
    return PlannedAssistant(
        function_key=key,
        name=assistant.name,
        order=assistant.order,
        model=f"{assistant.provider}/{assistant.model}",
        reads=reads(assistant, assistants),
        step=step(key),
        input_tokens=tokens,
        output_tokens=answers[key],
        usd=usd_for(provider, assistant.model, tokens, answers[key]),
        options=assistant.options.given if assistant.options else {},
        left_out={f"{each.provider}/{each.model}": [*each.without] for each in assistant.fallback if each.without},
    )
