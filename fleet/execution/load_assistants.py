"""Fetches a project's assistants from the backend and checks them."""

from fleet.config import Settings
from fleet.contracts import Assistant
from fleet.execution.backend_client import Backend
from fleet.pipeline.assistants import parse_assistants


async def load_assistants(backend: Backend, settings: Settings, project_id: str) -> list[Assistant]:
    """The active assistants of a project, sorted by ``order``, with the settings' defaults filled in.

    Raises:
        BackendError: the project does not exist, has no usable assistants, or the backend is unavailable.
    """
    return parse_assistants(
        await backend.assistants(project_id),
        project_id,
        default_temperature=settings.default_temperature,
        default_max_tokens=settings.default_max_tokens,
        provider_name=lambda name: settings.provider(name).name,
    )
