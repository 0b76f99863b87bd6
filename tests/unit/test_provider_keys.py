"""Where a provider's API key comes from."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from fleet.config import Settings, load_settings
from fleet.contracts import Assistant
from fleet.devstack.simulated_settings import simulated_providers
from fleet.errors import ApiKeyMissing
from fleet.execution.activities import LoadActivities
from fleet.execution.provider_keys import provider_key
from fleet.process.metrics import Metrics
from fleet.redaction import redact

ROW = {
    "id": "1",
    "functionKey": "draft",
    "name": "Draft",
    "order": 1,
    "model_provider": "openai",
    "model": "gpt-4o",
    "system_prompt": "Piš.",
    "active": True,
}


@pytest.fixture
def file(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """The file of OpenAI's key."""
    file = tmp_path / "openai.key"
    file.write_text("the-key-in-the-file\n", "utf-8")
    monkeypatch.setenv("FLEET_PROVIDERS__OPENAI__API_KEY_FILE", str(file))
    return file


def settings() -> Settings:
    return load_settings(API_BASE_URL="http://localhost:1")


class AskedBackend:
    """A backend that has a key for each provider, and notes who was asked for."""

    def __init__(self) -> None:
        self.asked: list[str] = []

    async def api_key(self, provider: str, *, fresh: bool = False) -> str:
        self.asked.append(provider)
        return f"the backend's for {provider}"

    async def see_key(self, provider: str) -> None:
        self.asked.append(provider)

    async def assistants(self, project_id: str) -> list[Any]:
        return [ROW, ROW | {"id": "2", "functionKey": "qa", "order": 2, "model_provider": "anthropic"}]


async def test_a_key_in_a_file_is_used_and_the_backend_is_not_asked(file: Path) -> None:
    backend: Any = AskedBackend()
    openai, anthropic = settings().provider("openai"), settings().provider("anthropic")
    assert await provider_key(backend, openai) == "the-key-in-the-file"
    assert await provider_key(backend, anthropic) == "the backend's for anthropic"
    assert backend.asked == ["anthropic"]
    assert "the-key-in-the-file" not in redact("rejected: the-key-in-the-file")


async def test_a_new_key_in_the_file_is_used_for_the_next_call(file: Path) -> None:
    backend: Any = AskedBackend()
    renew = file.write_text
    assert await provider_key(backend, settings().provider("openai")) == "the-key-in-the-file"
    renew("a-new-key-in-the-file", "utf-8")
    assert await provider_key(backend, settings().provider("openai")) == "a-new-key-in-the-file"


async def test_a_missing_file_is_named_with_its_variable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FLEET_PROVIDERS__OPENAI__API_KEY_FILE", "/nowhere/openai.key")
    backend: Any = AskedBackend()
    said = r"FLEET_PROVIDERS__OPENAI__API_KEY_FILE: /nowhere/openai.key cannot be read .* Remedy: "
    with pytest.raises(ApiKeyMissing, match=said):
        await provider_key(backend, settings().provider("openai"))


async def test_the_assistants_worker_reads_no_providers_file(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FLEET_PROVIDERS__OPENAI__API_KEY_FILE", "/nowhere/openai.key")
    backend: Any = AskedBackend()
    loading = LoadActivities(settings(), backend, SimpleNamespace(), Metrics())  # type: ignore[arg-type]
    load: Any = LoadActivities.load
    plan = await load.__wrapped__(loading, "seo")
    assert [type(assistant) for assistant in plan.assistants] == [Assistant, Assistant]
    assert backend.asked == ["anthropic"]


def test_the_simulator_never_gets_the_key_of_a_file(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    variables = simulated_providers("http://127.0.0.1:8010", settings().providers.values())
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    assert settings().provider("openai").api_key_file is None
    assert settings().provider("openai").key_from_backend
