"""A project from its folder: what is wrong between its files, and how it is written."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from fleet.config import load_settings
from fleet.errors import OperationError
from fleet.pipeline.fingerprint import fingerprint_of
from fleet.projects.folder import Project, problems_in, read_project
from fleet.projects.new_project import new_project_files
from fleet.projects.write_prompt import write_files, write_project
from fleet.provider_settings import ProviderSettings


def project_of(folder: Path, files: Mapping[str, str]) -> Path:
    """A project's folder; each file's text is its front matter's further lines, then its body."""
    texts = {name: f"---\nmodel: openai/gpt-4o\n{text}" for name, text in files.items()}
    write_files(folder, texts)
    return folder


def sound(folder: Path) -> Project:
    project, problems = read_project(folder)
    assert project is not None, problems
    return project


PLAIN = "---\nWrite.\n"
SCHEMA = "output:\n  schema:\n    title: string\n    who: {age: number}\n---\nWrite.\n"


def provider_of(name: str) -> ProviderSettings:
    return load_settings(api_base_url="http://localhost:1").provider(name)


@pytest.mark.parametrize(
    ("files", "told"),
    [
        ({"1-a.prompt": PLAIN, "2-a.prompt": PLAIN}, "my/2-a.prompt:1: key 'a' is used by my/1-a.prompt too"),
        ({"1-a.prompt": PLAIN, "01-b.prompt": PLAIN}, "my/1-a.prompt:1: order 1 is used by my/01-b.prompt too"),
        (
            {"1-a.prompt": "fleet.inputs: [topic, nobody]\n---\nWrite."},
            "my/1-a.prompt:3: its input 'nobody' does not exist. Remedy: name some of csv, date, topic",
        ),
        (
            {"1-a.prompt": "fleet.inputs: [topc]\n---\nWrite."},
            "my/1-a.prompt:3: its input 'topc' does not exist (did you mean topic?). Remedy: name some of csv",
        ),
        (
            {"1-a.prompt": "fleet.inputs: [a]\n---\nWrite."},
            "my/1-a.prompt:3: it reads its own output. Remedy: remove one of these inputs",
        ),
        (
            {"1-a.prompt": "fleet.active: false\n---\nWrite.", "2-b.prompt": "fleet.inputs: [a]\n---\nWrite."},
            "my/2-b.prompt:3: its input 'a' is inactive",
        ),
        (
            {"1-a.prompt": '---\nWrite.\n\n{{role "user"}}\nOn {{nobody}}\n'},
            "my/1-a.prompt:7: its input 'nobody' does not exist",
        ),
        (
            {"1-a.prompt": "fleet.inputs: [csv]\n---\nWrite {{topic}}.\n"},
            "my/1-a.prompt:5: its template names 'topic', which it does not read",
        ),
        (
            {"1-a.prompt": "fleet.csv: {rows: {first: 5}}\n---\nWrite."},
            "my/1-a.prompt:3: fleet.csv chooses from the CSV, which it does not read",
        ),
        (
            {"1-a.prompt": "fleet.inputs: [b]\n---\nWrite.", "2-b.prompt": "fleet.inputs: [a]\n---\nWrite."},
            "my/1-a.prompt:3: the inputs form a cycle: a, b wait for each other",
        ),
        (
            {"1-a.prompt": PLAIN, "2-b.prompt": "fleet.inputs: [a.title]\n---\nWrite."},
            "my/2-b.prompt:3: its input 'a.title' is a field, and my/1-a.prompt has no output.schema",
        ),
        (
            {"1-a.prompt": SCHEMA, "2-b.prompt": "fleet.inputs: [a.titel]\n---\nWrite."},
            "my/2-b.prompt:3: its input 'a.titel': the output.schema of my/1-a.prompt has no property 'titel' "
            "there. Remedy: name one of a.title, a.who, or add it to the schema",
        ),
        (
            {"1-a.prompt": SCHEMA, "2-b.prompt": '---\nWrite.\n{{role "user"}}\nFor {{a.who.name}}'},
            "my/2-b.prompt:6: its input 'a.who.name': the output.schema of my/1-a.prompt has no property 'name'",
        ),
        (
            {"1-a.prompt": "fleet.inputs: [topic.x]\n---\nWrite."},
            "my/1-a.prompt:3: its input 'topic.x' does not exist",
        ),
        (
            {
                "1-a.prompt": f"fleet.inputs: [b.title]\n{SCHEMA}",
                "2-b.prompt": f"fleet.inputs: [a.title]\n{SCHEMA}",
            },
            "my/1-a.prompt:3: the inputs form a cycle: a, b wait for each other",
        ),
        (
            {"1-a.prompt": "config:\n  maxOutputTokens: 9\n  reasoningEffort: low\n---\nWrite."},
            "my/1-a.prompt:5: openai/gpt-4o does not take config.reasoningEffort. Remedy: remove it, or choose",
        ),
        (
            {"1-a.prompt": "config: {stop: END}\n---\nWrite."},
            "my/1-a.prompt:3: openai/gpt-4o does not take config.stopSequences. Remedy: set FLEET_PROVIDERS__O",
        ),
        (
            {"1-a.prompt": "config:\n  providerOptions:\n    user: a\n    temperature: 1\n---\nWrite."},
            "my/1-a.prompt:6: config.providerOptions may not contain temperature, which the fleet sets. Remedy: "
            "remove it there, and set config.temperature",
        ),
        (
            {"1-a.prompt": "config:\n  provider_options:\n    reasoning:\n      effort: low\n---\nWrite."},
            "my/1-a.prompt:6: config.providerOptions may not contain reasoning.effort, which the fleet sets. "
            "Remedy: remove it there, and set config.reasoningEffort",
        ),
        ({"1-a.prompt": "fleet.active: false\n---\nWrite."}, "my: all its assistants are inactive"),
        ({"1-a.prompt": "fleet.fallback: [nobody/m]\n---\nWrite."}, "my/1-a.prompt:3: unknown provider 'nobody'"),
    ],
)
def test_a_contradiction_between_files_has_one_line(tmp_path: Path, files: dict[str, str], told: str) -> None:
    found, problems = read_project(project_of(tmp_path / "my", files), provider_of)
    assert found is None and len(problems) == 1
    assert str(problems[0]).startswith(told) and ". Remedy: " in str(problems[0])


def test_a_folder_whose_name_is_no_id_is_told(tmp_path: Path) -> None:
    _, problems = read_project(project_of(tmp_path / "my project", {"1-a.prompt": PLAIN}))
    assert [problem.says for problem in problems] == ["its name cannot be a project's id"]


def test_a_file_that_cannot_be_read_does_not_make_its_readers_wrong(tmp_path: Path) -> None:
    files = {"1-a.prompt": "temperatur: 3\n---\nWrite.", "2-b.prompt": "fleet.inputs: [a]\n---\nWrite."}
    _, problems = read_project(project_of(tmp_path / "my", files))
    assert [problem.file for problem in problems] == ["my/1-a.prompt"]


def test_a_template_in_the_system_prompt_adds_to_the_default_inputs(tmp_path: Path) -> None:
    files = {"1-a.prompt": "---\nOn {{date}}.", "2-b.prompt": "---\nWrite on {{topic}}, not {{a}}."}
    first, second = sound(project_of(tmp_path / "my", files)).assistants
    assert "input_keys" not in first and second["input_keys"] == ["date", "a", "topic"]


def test_a_new_project_is_sound_and_reads_what_it_says(tmp_path: Path) -> None:
    files = write_files(tmp_path / "my", new_project_files(tmp_path / "my", "openai/gpt-4o-mini"))
    assert f"fleet project check {tmp_path / 'my'}\n" in files[0].read_text("utf-8")
    found, problems = read_project(tmp_path / "my", provider_of)
    assert found is not None and not problems
    assert [row.get("input_keys") for row in found.assistants] == [
        ["date", "topic", "csv"],
        ["topic", "brief", "brief.keywords"],
        ["brief", "draft"],
    ]


@pytest.mark.parametrize(
    ("model", "config"),
    [
        ("openai/gpt-4o", {"temperature": 0.7}),
        ("OpenAI/gpt-6-luna", {"reasoning_effort": "low"}),
        ("anthropic/claude-opus-5", {"reasoning_effort": "low"}),
        ("openai/gpt-5-pro", {}),  # takes no effort but "high"
        ("mine/gpt-6-luna", {"temperature": 0.7}),  # another server's model
    ],
)
def test_a_new_project_sets_what_its_model_takes(tmp_path: Path, model: str, config: dict[str, Any]) -> None:
    folder = tmp_path / "my"
    write_files(folder, new_project_files(folder, model))
    found, problems = read_project(folder)
    assert found is not None and not problems
    for row in found.assistants:
        given = {name: row.get(name) for name in ("temperature", "reasoning_effort")}
        assert {name: value for name, value in given.items() if value is not None} == config


ROWS: list[dict[str, Any]] = [
    {
        "id": "my-1",
        "functionKey": "brief",
        "name": "Brief: the plan #1",
        "order": 2,
        "active": True,
        "model_provider": "openai",
        "model": "gpt-4o",
        "system_prompt": "Use {{ braces }} — and žluťoučký.",
        "temperature": 0.5,
        "top_p": None,
        "max_tokens": None,
        "on_ambiguous": None,
        "output_schema": {
            "type": "object",
            "properties": {"tags": {"type": "array", "items": {"type": "string"}}},
        },
    },
    {
        "id": "my-2",
        "functionKey": "draft",
        "name": "Draft",
        "order": 30,
        "active": True,
        "model_provider": "groq",
        "model": "meta/llama",
        "system_prompt": "On {{date}}.",
        "temperature": None,
        "top_p": 1.0,
        "max_tokens": 5,
        "on_ambiguous": "fail",
        "input_keys": ["brief", "topic", "date", "brief.tags", "csv"],
        "csv": {"columns": ["klíčové slovo", "volume"], "rows": {"sample": 20, "seed": 7}},
        "reasoning_effort": "none",
        "thinking_budget": 0,
        "stop": ["---", "- a: b #", "\n\n"],
        "seed": 7,
        "provider_options": {"top_k": 3, "chat_template_kwargs": {"enable_thinking": False, "note": "no: #"}},
        "fallback": [{"model_provider": "openai", "model": "gpt-4o"}],
        "user_template": "{{brief}}\n\n{{topic}}",
        "system_template": True,
    },
]


def test_what_is_written_is_read_back_the_same(tmp_path: Path) -> None:
    written = write_project(tmp_path / "my", ROWS)
    assert [path.name for path in written] == ["02-brief.prompt", "30-draft.prompt"]
    assert sound(tmp_path / "my").assistants == ROWS


def test_nothing_is_written_over(tmp_path: Path) -> None:
    project_of(tmp_path / "my", {"1-a.prompt": PLAIN})
    with pytest.raises(OperationError, match=r"my is not empty. Remedy"):
        write_project(tmp_path / "my", ROWS)


@pytest.mark.parametrize("key", ["a/b", "../b", "a b", ""])
def test_a_key_that_is_no_file_name_is_refused(tmp_path: Path, key: str) -> None:
    with pytest.raises(OperationError, match=r"cannot be a file's name. Remedy"):
        write_project(tmp_path / "my", [ROWS[0] | {"functionKey": key}])
    assert list((tmp_path).iterdir()) == []


def test_a_folder_of_projects_is_told_from_others(tmp_path: Path) -> None:
    with pytest.raises(OperationError, match=r"nowhere is not a folder. Remedy"):
        problems_in(tmp_path / "nowhere")
    with pytest.raises(OperationError, match=r"has no project. Remedy: make one with `fleet project new"):
        problems_in(tmp_path)
    project_of(tmp_path / "my", {"1-a.prompt": PLAIN})
    assert problems_in(tmp_path) == []
    with pytest.raises(OperationError, match=r"is a project, and not a folder of projects. Remedy"):
        problems_in(tmp_path / "my")


def test_the_fingerprint_follows_the_content_alone() -> None:
    known = fingerprint_of(ROWS)
    same = [{name: value for name, value in row.items() if value is not None} | {"updated": 7} for row in ROWS]
    assert fingerprint_of(same[::-1]) == known
    assert fingerprint_of([ROWS[0], ROWS[1] | {"temperature": 0.1}]) != known
