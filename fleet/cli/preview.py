"""``fleet preview``: what an assistant would be sent, and its approximate cost, without a call."""

from dataclasses import asdict, dataclass, replace
from typing import Any

from fleet.config import Settings
from fleet.contracts import Assignment, Assistant, ModelChoice
from fleet.errors import InputError
from fleet.execution.backend_client import Backend
from fleet.execution.load_assistants import load_assistants
from fleet.execution.requests import request_for
from fleet.pipeline.inputs import PipelineInputs
from fleet.pipeline.prompts import estimate_tokens
from fleet.pipeline.stages import Stages
from fleet.providers.context_windows import overflow_of
from fleet.providers.model_profiles import profile_of
from fleet.providers.prices import usd_for


@dataclass(frozen=True)
class Preview:
    """One assistant's request; ``options`` are the further options of its model by name, ``max_tokens`` None means
    that its model decides. Tokens are estimates from the length of the text; the outputs of earlier assistants
    are not known and not counted. ``max_output_tokens`` None means that nothing bounds the answer; dollars are
    None if a price is not known. ``warning`` says that the request would not be sent."""

    name: str
    function_key: str
    provider: str
    model: str
    reads: list[str]
    system_prompt: str
    user_message: str
    temperature: float
    top_p: float | None
    max_tokens: int | None
    options: dict[str, Any]
    input_tokens: int
    max_output_tokens: int | None
    input_usd: float | None
    most_usd: float | None
    warning: str = ""

    def to_json(self) -> dict[str, Any]:
        """As ``--json`` prints it."""
        return asdict(self)


async def preview(settings: Settings, inputs: PipelineInputs, wanted: str) -> Preview:
    """Preview the assistant whose functionKey or name is ``wanted``.

    Raises:
        InputError: the project has no such assistant.
        BackendError: its assistants cannot be loaded.
    """
    async with Backend.from_settings(settings) as backend:
        assistants = await load_assistants(backend, settings, inputs.project_id)
    return preview_of(settings, assistants, inputs, wanted)


def preview_of(settings: Settings, assistants: list[Assistant], inputs: PipelineInputs, wanted: str) -> Preview:
    """Preview one of these assistants, as :func:`preview` does.

    Raises:
        InputError: it is none of them.
    """
    assistant = find_assistant(assistants, wanted, inputs.project_id)
    assignment = _with_placeholders(Stages(assistants, inputs).assignment(assistant.function_key))
    request = request_for(assignment, ModelChoice(assistant.provider, assistant.model))
    system_prompt, message = request.system_prompt, request.user_message
    provider = settings.provider(assistant.provider)
    tokens = estimate_tokens(system_prompt) + estimate_tokens(message)
    most = assistant.max_tokens or profile_of(provider.kind, assistant.model).max_output_tokens
    return Preview(
        name=assistant.name,
        function_key=assistant.function_key,
        provider=assistant.provider,
        model=assistant.model,
        reads=[output.key for output in assignment.outputs],
        system_prompt=system_prompt,
        user_message=message,
        temperature=request.temperature,
        top_p=request.top_p,
        max_tokens=request.max_tokens,
        options=request.model_options.given,
        input_tokens=tokens,
        max_output_tokens=most,
        input_usd=usd_for(provider, assistant.model, tokens, 0),
        most_usd=usd_for(provider, assistant.model, tokens, most) if most else None,
        warning=f"it would not be sent: {overflow}" if (overflow := overflow_of(provider, request)) else "",
    )


def find_assistant(assistants: list[Assistant], wanted: str, project_id: str) -> Assistant:
    """The assistant of a project with that functionKey or name.

    Raises:
        InputError: the project has none.
    """
    for assistant in assistants:
        if wanted in (assistant.function_key, assistant.name):
            return assistant
    keys = ", ".join(assistant.function_key for assistant in assistants)
    raise InputError(
        f"project {project_id!r} has no assistant {wanted!r}. Remedy: name one by its functionKey: {keys}"
    )


def _with_placeholders(assignment: Assignment) -> Assignment:
    """Put placeholders for the outputs of earlier assistants, which are known only within a pipeline."""
    outputs = [replace(output, text=f"(what {output.name} will have answered)") for output in assignment.outputs]
    return replace(assignment, outputs=outputs)
