"""The same project from a database and from a folder: one contract, whichever serves it."""

from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import httpx
import pytest

from fleet.config import load_settings
from fleet.devstack.backend.app import create_app as create_embedded
from fleet.devstack.backend.database import connect, sample_project, seed_keys, seed_sample
from fleet.devstack.threaded_server import served
from fleet.errors import ApiKeyMissing, AssistantDamaged, ProjectNotFound
from fleet.execution.backend_client import Backend
from fleet.execution.load_assistants import load_project
from fleet.projects.backend_app import create_app
from fleet.projects.served_projects import ServedProjects
from fleet.projects.write_prompt import write_project

SETTINGS = load_settings(api_base_url="http://localhost:1")


@pytest.fixture(params=["database", "folder", "both"])
def source(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """A backend that has the sample project and a key of openai."""
    write_project(tmp_path / "projects" / "seo-demo", list(sample_project().assistants))
    projects = ServedProjects(tmp_path / "projects")
    if request.param == "folder":
        app = create_app(projects, {"openai": "sim-openai-key"}.get)
    else:
        with closing(connect(tmp_path / "backend.db")) as connection:
            seed_sample(connection)
            seed_keys(connection, ["openai"])
        app = create_embedded(tmp_path / "backend.db", projects=projects if request.param == "both" else None)
    with served(app) as base_url:
        yield base_url


async def test_the_sample_project_is_the_same(source: str) -> None:
    async with Backend(source) as backend:
        await backend.health()
        rows = await backend.assistants("seo-demo")
        loaded = await load_project(backend, SETTINGS, "seo-demo")
    assert [row["id"] for row in rows] == [f"seo-demo-{number}" for number in range(1, 9)]
    assert [row["order"] for row in rows] == list(range(1, 9))
    assert rows == sorted(rows, key=lambda row: int(row["order"]))
    assert [assistant.function_key for assistant in loaded.assistants] == [
        "brief_assistant",
        "research_assistant",
        "fact_validator",
        "draft_assistant",
        "humanizer_assistant",
        "seo_assistant",
        "multimedia_assistant",
        "qa_assistant",
    ]
    assert loaded.fingerprint == sample_project().fingerprint


async def test_what_is_not_there_is_refused_alike(source: str) -> None:
    async with Backend(source) as backend:
        with pytest.raises(ProjectNotFound):
            await backend.assistants("nobody")
        assert await backend.api_key("openai") == "sim-openai-key"
        with pytest.raises(ApiKeyMissing):
            await backend.api_key("nobody")


def test_only_known_fields_cross(source: str) -> None:
    (first, *_) = httpx.get(f"{source}/api/assistant/seo-demo", trust_env=False).json()
    assert set(first) == {
        "id",
        "functionKey",
        "name",
        "order",
        "active",
        "model_provider",
        "model",
        "system_prompt",
        "reasoning_effort",
        "temperature",
        "top_p",
        "max_tokens",
        "on_ambiguous",
        "input_keys",
    }


async def test_a_project_that_never_was_sound_is_refused_with_its_line(tmp_path: Path) -> None:
    (tmp_path / "my").mkdir()
    (tmp_path / "my" / "1-a.prompt").write_text("---\nmodle: a/b\nmodel: openai/gpt-4o\n---\nWrite.\n", "utf-8")
    with served(create_app(ServedProjects(tmp_path), lambda provider: None)) as base_url:
        async with Backend(base_url) as backend:
            with pytest.raises(AssistantDamaged, match=r"'my' cannot be used: my/1-a.prompt:2: modle.*Remedy"):
                await backend.assistants("my")
            told = await backend.health()
    assert told["my"].fingerprint == "" and told["my"].problems[0].startswith("my/1-a.prompt:2")
