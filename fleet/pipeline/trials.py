"""One assistant alone, with texts in place of the outputs that it reads: the plan and the answers of a trial.
Pure, since the workflow uses it too."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from temporalio.converter import value_to_type

from fleet.contracts import TOPIC_KEY, Assistant, AssistantResult, PipelinePlan, Trial, llm_queue
from fleet.errors import InputError
from fleet.pipeline.assistants import dependencies

#: What stands for provider and model of a text that a trial was given.
GIVEN_PROVIDER, GIVEN_MODEL = "given", "text"


def trial_of(further: Sequence[Any]) -> Trial:
    """The trial that a workflow was started with; ``further`` are its arguments after the four of a pipeline.

    Raises:
        InputError: they are something else.
    """
    try:
        (argument,) = further
        trial: Trial = value_to_type(Trial, argument)
    except (TypeError, ValueError):
        raise InputError(
            "the fifth and last argument is not a trial. Remedy: use `fleet try PROJECT/ASSISTANT`, or pass "
            '{"function_key": "…", "outputs": {"…": "…"}}'
        ) from None
    return trial


def read_by(assistant: Assistant, assistants: list[Assistant]) -> list[Assistant]:
    """The assistants whose outputs this one reads. ``assistants`` are all of the project, sorted by ``order``."""
    needed = dependencies(assistants)[assistant.function_key]
    return [other for other in assistants if other.function_key in needed]


def refuse_missing(
    assistant: Assistant, needed: list[Assistant], outputs: dict[str, str], *, topic_missing: bool = False
) -> None:
    """Raise InputError if a text is missing that the assistant reads, or one is given that it does not read.
    ``topic_missing``: it reads the topic, which is not given either."""
    keys = [other.function_key for other in needed]
    missing = [key for key in keys if key not in outputs]
    if missing or topic_missing:
        options = ['--topic "TOPIC"'] * topic_missing + [f"--input {key}=FILE" for key in missing]
        earlier = f" (an earlier output: `fleet show WORKFLOW_ID --output {missing[0]}`)" if missing else ""
        read = ", ".join([TOPIC_KEY] * topic_missing + missing)
        raise InputError(
            f"{assistant.function_key} reads {read}: not given. Remedy: add {' '.join(options)}{earlier}"
        )
    if surplus := [key for key in outputs if key not in keys]:
        reads = f"name one of {', '.join(keys)}" if keys else "leave --input out, it reads no other assistant"
        raise InputError(f"{assistant.function_key} does not read {surplus[0]!r}. Remedy: {reads}")


def trial_plan(plan: PipelinePlan, trial: Trial) -> PipelinePlan:
    """The project's plan with the tried assistant alone, which is the last one, behind those that it reads.

    Those only stand for their outputs: they read nothing.

    Raises:
        InputError: the project has no such assistant, or one of its inputs is missing.
    """
    assistant = next((each for each in plan.assistants if each.function_key == trial.function_key), None)
    if assistant is None:
        keys = ", ".join(each.function_key for each in plan.assistants)
        raise InputError(
            f"project {plan.project_id!r} has no assistant {trial.function_key!r}. Remedy: name one of {keys}"
        )
    needed = read_by(assistant, plan.assistants)
    refuse_missing(assistant, needed, trial.outputs)
    queues = plan.queues
    if trial.model is not None:
        options = assistant.options and assistant.options.without(trial.model.without)
        assistant = replace(
            assistant, provider=trial.model.provider, model=trial.model.model, fallback=[], options=options
        )
        queue = trial.queue or queues.get(assistant.provider) or llm_queue(assistant.provider)
        queues = {assistant.provider: queue} | queues | {f"{assistant.provider}/{assistant.model}": queue}
    return replace(plan, assistants=[*(_silent(other) for other in needed), assistant], queues=queues)


def _silent(assistant: Assistant) -> Assistant:
    return replace(
        assistant,
        provider=GIVEN_PROVIDER,
        model=GIVEN_MODEL,
        input_keys=[],
        fallback=[],
        user_template=None,
        system_template=False,
        csv=None,
        options=None,
    )


def given_results(trial: Trial) -> list[AssistantResult]:
    """The given texts as answers, which cost nothing."""
    return [
        AssistantResult(
            function_key=key,
            output=text,
            provider=GIVEN_PROVIDER,
            model=GIVEN_MODEL,
            finish_reason="",
            input_tokens=0,
            cached_input_tokens=0,
            output_tokens=0,
            cost_usd=0.0,
            price_version=None,
            attempts=0,
            seconds=0.0,
            started="",
            idempotency_key="",
            reused_from=GIVEN_PROVIDER,
        )
        for key, text in trial.outputs.items()
    ]
