"""Fetches a project's assistants from the backend and checks them."""

from dataclasses import dataclass, replace

from fleet.config import Settings
from fleet.contracts import Assistant, ModelChoice
from fleet.execution.backend_client import Backend
from fleet.pipeline.assistants import parse_assistants
from fleet.pipeline.fingerprint import fingerprint_of
from fleet.providers.options import left_out, refuse_options


@dataclass(frozen=True)
class LoadedProject:
    """The active assistants of a project, sorted by ``order``, with the settings' defaults filled in; and the
    fingerprint of what the backend returned."""

    assistants: list[Assistant]
    fingerprint: str


async def load_project(backend: Backend, settings: Settings, project_id: str) -> LoadedProject:
    """A project from the backend, checked.

    Raises:
        BackendError: the project does not exist, has no usable assistants, or the backend is unavailable.
    """
    payload = await backend.assistants(project_id)
    assistants = parse_assistants(
        payload,
        project_id,
        default_temperature=settings.default_temperature,
        default_max_tokens=settings.default_max_tokens,
        provider_name=lambda name: settings.provider(name).name,
    )
    return LoadedProject(with_options_that_are_taken(settings, assistants), fingerprint_of(payload))


def with_options_that_are_taken(settings: Settings, assistants: list[Assistant]) -> list[Assistant]:
    """The assistants, each fallback with the names of the options that it does not take.

    Raises:
        AssistantDamaged: an assistant's own model does not take one of its options.
    """
    return [_checked(settings, assistant) if assistant.options else assistant for assistant in assistants]


def _checked(settings: Settings, assistant: Assistant) -> Assistant:
    refuse_options(
        assistant.function_key,
        settings.provider(assistant.provider),
        assistant.model,
        assistant.options,
        assistant.max_tokens,
    )
    fallback = [without_refused(settings, assistant, choice) for choice in assistant.fallback]
    return replace(assistant, fallback=fallback)


def without_refused(settings: Settings, assistant: Assistant, choice: ModelChoice) -> ModelChoice:
    """Another model than the assistant's own, with the names of the options that it does not take."""
    return replace(choice, without=left_out(settings.provider(choice.provider), choice, assistant))


async def load_assistants(backend: Backend, settings: Settings, project_id: str) -> list[Assistant]:
    """The assistants of :func:`load_project` alone.

    Raises:
        BackendError: the project does not exist, has no usable assistants, or the backend is unavailable.
    """
    return (await load_project(backend, settings, project_id)).assistants
