"""Projects as they are served: changes hold at once, and a mistake does not end what worked."""

from pathlib import Path

import pytest

from fleet.projects.folder import Project
from fleet.projects.served_projects import Served, ServedProjects

SOUND = "---\nmodel: openai/gpt-4o\n---\nWrite.\n"


@pytest.fixture
def brief(tmp_path: Path) -> Path:
    folder = tmp_path / "projects" / "my"
    folder.mkdir(parents=True)
    (folder / "10-brief.prompt").write_text(SOUND, "utf-8")
    return folder / "10-brief.prompt"


def served(projects: ServedProjects) -> Served:
    found = projects.project("my")
    assert found is not None
    return found


def prompt_of(project: Project | None) -> str:
    assert project is not None
    return str(project.assistants[0]["system_prompt"])


def test_a_changed_file_holds_for_the_next_request(brief: Path) -> None:
    projects = ServedProjects(brief.parents[1])
    before = served(projects)
    brief.write_text(SOUND.replace("Write.", "Write better."), "utf-8")
    after = served(projects)
    assert (prompt_of(before.project), prompt_of(after.project)) == ("Write.", "Write better.")
    (brief.parent / "20-draft.prompt").write_text(SOUND, "utf-8")
    assert served(projects).project is not None and len(served(projects).project.assistants) == 2  # type: ignore[union-attr]


def test_a_broken_file_keeps_the_last_good_version_in_use_and_says_so(brief: Path) -> None:
    projects = ServedProjects(brief.parents[1])
    good = served(projects).project
    brief.write_text("---\nmodle: openai/gpt-4o\n---\nWrite.\n", "utf-8")
    broken = served(projects)
    assert broken.project == good
    assert [str(problem)[:22] for problem in broken.problems] == [
        "my/10-brief.prompt:2: ",
        "my/10-brief.prompt:2: ",
    ]
    assert broken.to_json()["fingerprint"] and len(broken.to_json()["problems"]) == 2
    brief.write_text(SOUND, "utf-8")
    assert served(projects).problems == []


def test_the_last_good_version_survives_a_restart(brief: Path, tmp_path: Path) -> None:
    kept = tmp_path / "kept"
    good = served(ServedProjects(brief.parents[1], kept)).project
    brief.write_text("nothing", "utf-8")
    assert served(ServedProjects(brief.parents[1], kept)).project == good
    assert served(ServedProjects(brief.parents[1])).project is None


def test_a_stored_version_that_cannot_be_read_is_as_none(brief: Path, tmp_path: Path) -> None:
    (tmp_path / "my.json").write_text("{", "utf-8")
    brief.write_text("nothing", "utf-8")
    assert served(ServedProjects(brief.parents[1], tmp_path)).project is None


def test_a_project_that_is_gone_does_not_exist(brief: Path) -> None:
    projects = ServedProjects(brief.parents[1])
    assert served(projects).project
    brief.unlink()
    assert projects.project("my") is None and projects.all() == {}
    assert projects.project("..") is None and projects.project("other") is None
