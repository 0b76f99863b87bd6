"""``fleet try``: one assistant alone, by one model or by several of them side by side."""

import asyncio
import re
import secrets
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from rich import box
from rich.table import Table
from temporalio.client import Client
from temporalio.service import RPCError

from fleet.cli.console import Console
from fleet.cli.preview import find_assistant
from fleet.cli.run import Outcome, Started, follow, memo_of, stage_json
from fleet.cli.show import cost_of, shown, shown_lines
from fleet.config import Settings
from fleet.contracts import (
    CSV_KEY,
    PAYLOAD_MAX_BYTES,
    PIPELINE_QUEUE,
    TOPIC_KEY,
    TRY_TYPE,
    Assistant,
    ModelChoice,
    Progress,
    StageRecord,
    Trial,
)
from fleet.errors import InputError, OperationError, SettingsError, TooLarge
from fleet.execution.backend_client import Backend
from fleet.execution.load_assistants import load_assistants, without_refused
from fleet.pipeline.assistants import reads
from fleet.pipeline.inputs import PipelineInputs
from fleet.pipeline.structured_outputs import answer_problem
from fleet.pipeline.trials import read_by, refuse_missing
from fleet.process.payload_size import payload_bytes
from fleet.process.temporal_connection import connect_once
from fleet.projects.prompt_file import model_choice

#: The topic of a trial whose assistant reads none: the pipeline's first argument is never empty.
NO_TOPIC = "(none)"

Say = Callable[[str], None]


@dataclass(frozen=True)
class Tried:
    """What one model answered; ``stage`` is the assistant's, None where the trial ended before it."""

    choice: ModelChoice
    outcome: Outcome
    stage: StageRecord | None

    def to_json(self) -> dict[str, Any]:
        """As ``--json`` prints it."""
        whole = self.outcome
        answer: dict[str, Any] = {
            "workflow_id": whole.workflow_id,
            "run_id": whole.run_id,
            "status": "completed" if whole.completed else "failed",
            "seconds": whole.seconds,
            "provider": self.choice.provider,
            "model": self.choice.model,
        }
        if self.stage is not None:
            answer |= stage_json(self.stage) | {"status": answer["status"], "output": self.stage.output}
        if whole.error is not None:
            answer["error"] = vars(whole.error)
        return answer | {"warnings": whole.warnings}


def split_name(text: str) -> tuple[str, str]:
    """Project and assistant of ``PROJECT/ASSISTANT``.

    Raises:
        InputError: it is not of that form.
    """
    project, _, assistant = text.partition("/")
    if not project or not assistant:
        raise InputError(
            f"{text!r} does not name an assistant. Remedy: write PROJECT/ASSISTANT, e.g. my-project/brief"
        )
    return project, assistant


def read_texts(given: Sequence[str]) -> dict[str, str]:
    """The texts of ``KEY=FILE`` options, by key.

    Raises:
        InputError: an option is not of that form, or its file cannot be read as text.
    """
    texts: dict[str, str] = {}
    for option in given:
        key, _, name = option.partition("=")
        if not key or not name:
            raise InputError(
                f"--input {option!r} is not of the form KEY=FILE. Remedy: write --input brief=brief.md"
            )
        if key in texts:
            raise InputError(f"--input {key} is given twice. Remedy: leave one of them out")
        try:
            texts[key] = Path(name).read_text("utf-8").strip()
        except OSError as error:
            raise InputError(f"{name} cannot be read ({error.strerror}). Remedy: check --input {key}") from None
        except UnicodeDecodeError:
            raise InputError(f"{name} is not UTF-8 text. Remedy: store it as UTF-8") from None
        if not texts[key]:
            raise InputError(f"{name} is empty. Remedy: give --input {key} the text that the assistant is to read")
    return texts


def models_of(settings: Settings, given: Sequence[str]) -> list[ModelChoice]:
    """The models of ``--model`` options.

    Raises:
        InputError: an option is not PROVIDER/MODEL, is given twice, or names a provider that is not configured.
    """
    found = []
    for option in given:
        choice = model_choice(option)
        if choice is None:
            raise InputError(
                f"--model {option!r} is not a model. Remedy: write PROVIDER/MODEL, e.g. openai/gpt-6-luna"
            )
        try:
            found.append(ModelChoice(settings.provider(choice[0]).name, choice[1]))
        except SettingsError as error:
            raise InputError(str(error).replace("the assistant's model_provider", "--model")) from None
    if len(set(found)) < len(found):
        raise InputError("a --model is given twice. Remedy: name each model once")
    return found


async def try_assistant(
    settings: Settings,
    wanted: str,
    inputs: PipelineInputs,
    outputs: dict[str, str],
    models: Sequence[ModelChoice],
    say: Say,
) -> list[Tried]:
    """Execute the assistant whose functionKey or name is ``wanted``, by its own model or by each of ``models``.

    Raises:
        InputError: the project has no such assistant, or something that it reads is not given.
        BackendError: its assistants cannot be loaded.
        TemporalUnavailable: the server cannot be reached, or stopped answering.
        OperationError: the server refused to start it.
    """
    async with Backend.from_settings(settings) as backend:
        assistants = await load_assistants(backend, settings, inputs.project_id)
    assistant = find_assistant(assistants, wanted, inputs.project_id)
    _refuse_unusable(assistant, assistants, inputs, outputs)
    own = ModelChoice(assistant.provider, assistant.model)
    models = [without_refused(settings, assistant, model) if model != own else model for model in models]
    for model in models:
        if model.without:
            left_out = ", ".join(model.without)
            say(f"{model.provider}/{model.model} is asked without {left_out}, which it does not take")
    trials = [Trial(assistant.function_key, outputs, *_asked(settings, model)) for model in models]
    trials = trials or [Trial(assistant.function_key, outputs)]
    client = await connect_once(settings)
    started = [Started(client, await _start(client, inputs, trial), settings) for trial in trials]
    for each, trial in zip(started, trials, strict=True):
        model = trial.model or own
        say(f"trying {assistant.function_key} on {model.provider}/{model.model}: {each.workflow_id}")
    outcomes = await _all(started, say)
    return [_tried(trial, own, outcome) for trial, outcome in zip(trials, outcomes, strict=True)]


def _asked(settings: Settings, model: ModelChoice) -> tuple[ModelChoice, str]:
    return model, settings.provider(model.provider).queue_of(model.model)


def _refuse_unusable(
    assistant: Assistant, assistants: list[Assistant], inputs: PipelineInputs, outputs: dict[str, str]
) -> None:
    """Raise InputError where what is given is not what the assistant reads."""
    key, read = assistant.function_key, reads(assistant, assistants)
    needed = read_by(assistant, assistants)
    refuse_missing(assistant, needed, outputs, topic_missing=TOPIC_KEY in read and inputs.topic == NO_TOPIC)
    if inputs.csv_text and CSV_KEY not in read:
        raise InputError(f"{key} does not read a CSV. Remedy: leave --csv out, or add csv to what it reads")
    for other in needed:
        if other.output_schema is None:
            continue
        if problem := answer_problem(outputs[other.function_key], other.output_schema):
            raise InputError(
                f"--input {other.function_key} does not match that assistant's output schema: {problem}. Remedy: "
                "correct the file"
            )
    if (size := payload_bytes(outputs)) > PAYLOAD_MAX_BYTES:
        raise TooLarge(f"the given inputs of {key}", size, PAYLOAD_MAX_BYTES, "shorten the files of --input")


async def _start(client: Client, inputs: PipelineInputs, trial: Trial) -> Any:
    name = re.sub(r"[^A-Za-z0-9._-]+", "-", f"{inputs.project_id[:60]}-try-{trial.function_key[:60]}")
    try:
        return await client.start_workflow(
            TRY_TYPE,
            args=[inputs.topic, inputs.project_id, inputs.csv_text, inputs.current_date, trial],
            id=f"{name}-{datetime.now(UTC):%Y%m%d-%H%M%S}-{secrets.token_hex(3)}",
            task_queue=PIPELINE_QUEUE,
            memo=memo_of(inputs.topic, inputs.project_id),
        )
    except RPCError as error:
        raise OperationError(f"Temporal did not start the trial: {error.message}") from None


async def _all(started: Sequence[Started], say: Say) -> list[Outcome]:
    """Wait for all trials; what holds one up is said, with its name where there are several."""

    def show(progress: Progress) -> None:
        """One call has no progress to show but its waits, which are said."""

    def note(each: Started) -> Say:
        return say if len(started) == 1 else lambda text: say(f"{each.workflow_id}: {text}")

    try:
        async with asyncio.TaskGroup() as group:
            following = [group.create_task(follow(each, show, note(each))) for each in started]
    except asyncio.CancelledError:
        for each in started:
            say(
                f"left {each.workflow_id}: if it still runs, it goes on without this command; see it with `fleet "
                f"show {each.workflow_id}`, end it with `fleet cancel {each.workflow_id}`"
            )
        raise
    except BaseExceptionGroup as several:
        raise several.exceptions[0] from None
    return [task.result() for task in following]


def _tried(trial: Trial, own: ModelChoice, outcome: Outcome) -> Tried:
    stages = [stage for stage in outcome.stages if stage.function_key == trial.function_key]
    choice = trial.model or own
    if stages and stages[0].status == "done":  # a fallback may have answered
        choice = ModelChoice(str(stages[0].metadata["provider"]), str(stages[0].metadata["model"]))
    return Tried(choice, outcome, stages[0] if stages else None)


def show_tried(console: Console, found: Sequence[Tried]) -> None:
    """A line of time, tokens and cost for each model, then each one's text."""
    table = Table(box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False)
    for name in ("provider/model", "state", "tries", "seconds", "tokens in/out", "cost"):
        table.add_column(name)
    for each in found:
        table.add_row(*_row(each))
    console.print(table)
    for each in found:
        if each.stage is None or not each.stage.output:
            continue
        note = ", written by the provider simulator" if each.stage.metadata.get("simulated") else ""
        console.rule(f"{shown(each.choice.provider)}/{shown(each.choice.model)}{note}")
        console.print(shown_lines(each.stage.output), highlight=False, soft_wrap=True)
    console.rule()
    for each in found:
        for warning in each.outcome.warnings:
            console.say(f"warning: {warning}")
        console.say(f"what it was sent: fleet show {each.outcome.workflow_id} --input {_key(each)}")


def _key(tried: Tried) -> str:
    return tried.stage.function_key if tried.stage else "ASSISTANT"


def _row(tried: Tried) -> tuple[str, ...]:
    name = f"{shown(tried.choice.provider)}/{shown(tried.choice.model)}"
    stage = tried.stage
    known = {} if stage is None else stage.metadata
    tokens = f"{known.get('input_tokens')}/{known.get('output_tokens')}"
    if stage is not None and stage.status == "done":
        return name, "[green]done", str(known["attempts"]), f"{known['call_seconds']:.2f}", tokens, cost_of(known)
    paid = (tokens, cost_of(known)) if known.get("calls") else ("", "")
    return name, "[bold red]failed", str(known.get("attempts") or ""), f"{tried.outcome.seconds:.2f}", *paid
