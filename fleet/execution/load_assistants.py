"""Fetches a project's assistants from the backend and checks them."""

from dataclasses import dataclass

from fleet.config import Settings
from fleet.contracts import Assistant
from fleet.execution.backend_client import Backend
from fleet.pipeline.assistants import parse_assistants
from fleet.pipeline.fingerprint import fingerprint_of


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
    return LoadedProject(assistants, fingerprint_of(payload))


async def load_assistants(backend: Backend, settings: Settings, project_id: str) -> list[Assistant]:
    """The assistants of :func:`load_project` alone.

    Raises:
        BackendError: the project does not exist, has no usable assistants, or the backend is unavailable.
    """
    return (await load_project(backend, settings, project_id)).assistants
