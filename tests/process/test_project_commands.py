"""``fleet project`` without a fleet: what it makes, shows and refuses."""

import json
from pathlib import Path

import pytest

from fleet.projects.write_prompt import write_files
from tests.fleet import Fleet, json_of


@pytest.fixture
def made(idle: Fleet, tmp_path: Path) -> Path:
    done = idle.fleet("project", "new", "my", "--dir", str(tmp_path / "projects"))
    assert done.returncode == 0 and "fleet up --detach --projects" in done.stdout, done.stderr
    return tmp_path / "projects" / "my"


def test_a_new_project_is_three_files_and_sound(idle: Fleet, made: Path) -> None:
    assert sorted(path.name for path in made.iterdir()) == [
        "10-brief.prompt",
        "20-draft.prompt",
        "30-review.prompt",
    ]
    done = idle.fleet("project", "check", str(made))
    assert done.returncode == 0 and "my is sound." in done.stdout
    assert "critical path: brief -> draft -> review" in done.stdout and "one pipeline costs about $" in done.stdout
    (plan,) = json_of(idle.fleet("project", "check", str(made.parent), "--json").stdout)["projects"]
    assert [assistant["step"] for assistant in plan["assistants"]] == [1, 2, 3] and plan["usd"] > 0
    (shown,) = json_of(idle.fleet("project", "show", str(made), "--json").stdout)["projects"]
    assert shown == plan
    (listed,) = json_of(idle.fleet("project", "list", "--dir", str(made.parent), "--json").stdout)["projects"]
    assert listed == {"project": "my", "assistants": 3, "fingerprint": plan["fingerprint"], "problems": []}


def test_a_model_of_ones_own_may_be_named(idle: Fleet, tmp_path: Path) -> None:
    idle.fleet("project", "new", "my", "--dir", str(tmp_path), "--model", "local/small")
    done = idle.fleet("project", "check", str(tmp_path / "my"))
    assert done.returncode == 1 and "my/10-brief.prompt:6: unknown provider 'local'" in done.stderr
    assert "Remedy: correct model, or add the provider" in done.stderr


def test_each_mistake_has_one_line_and_the_exit_status_is_1(idle: Fleet, made: Path) -> None:
    (made / "10-brief.prompt").write_text("---\nmodel: gpt\nmodle: a\n---\nWrite.\n", "utf-8")
    done = idle.fleet("project", "check", str(made))
    assert done.returncode == 1 and "Traceback" not in done.stderr
    lines = done.stderr.splitlines()
    assert [line.split(": ")[1] for line in lines] == ["my/10-brief.prompt:3", "my/10-brief.prompt:2"]
    assert all(". Remedy: " in line for line in lines)


def test_a_prompt_that_no_model_of_its_assistant_takes_is_warned_of(idle: Fleet, made: Path) -> None:
    (made / "30-review.prompt").write_text(f"---\nmodel: openai/gpt-4\n---\n{'slovo ' * 9000}\n", "utf-8")
    done = idle.fleet("project", "check", str(made))
    assert done.returncode == 1 and "my cannot complete." in done.stdout
    (warning,) = (line for line in done.stdout.splitlines() if line.startswith("warning: "))
    assert warning.startswith("warning: review: without its inputs already, its input has about 16,")
    assert "(9,005 at least), the context window of gpt-4 has 8,192. Remedy: shorten its prompt" in warning
    (plan,) = json_of(idle.fleet("project", "check", str(made), "--json").stdout)["projects"]
    assert plan["warnings"] == [warning.removeprefix("warning: ")] and plan["never_completes"]


def test_a_csv_is_checked_for_the_columns_that_assistants_select_and_counted_in_the_estimates(
    idle: Fleet, made: Path, tmp_path: Path
) -> None:
    csv = tmp_path / "keywords.csv"
    csv.write_text("keyword;volume\n" + "jak vybrat kávovar;100\n" * 50, "utf-8")
    selecting = "---\nmodel: openai/gpt-4o\nfleet.inputs: [csv]\nfleet.csv: {{columns: [{}]}}\n---\nPick.\n"
    (made / "10-brief.prompt").unlink()
    (made / "20-draft.prompt").write_text(selecting.format("keyword"), "utf-8")
    (made / "30-review.prompt").write_text(selecting.format("volume"), "utf-8")
    command = ("project", "check", str(made), "--csv", str(csv))
    done = idle.fleet(*command)
    assert done.returncode == 0 and "by list prices and with this CSV" in done.stdout, done.stderr
    without, with_csv = (
        json_of(idle.fleet(*part, "--json").stdout)["projects"][0]["assistants"][0]["input_tokens"]
        for part in (command[:3], command)
    )
    assert with_csv > without + 100

    (made / "20-draft.prompt").write_text(selecting.format("keywrd"), "utf-8")
    (made / "30-review.prompt").write_text(selecting.format("volum"), "utf-8")
    wrong = idle.fleet(*command)
    assert wrong.returncode == 1 and "my cannot complete." in wrong.stdout
    assert "by list prices and without a CSV" in wrong.stdout, "it cannot be counted"
    assert "warning: assistant draft: the CSV has no column 'keywrd', the nearest is 'keyword'" in wrong.stdout
    assert "warning: assistant review: the CSV has no column 'volum', the nearest is 'volume'" in wrong.stdout
    missing = idle.fleet("project", "check", str(made), "--csv", str(tmp_path / "none.csv"))
    assert (
        missing.returncode == 1 and "cannot be read" in missing.stderr and "Remedy: check --csv" in missing.stderr
    )


def test_a_prompt_that_a_fallback_takes_is_warned_of_and_the_project_is_sound(idle: Fleet, made: Path) -> None:
    fallback = "fleet:\n  fallback: [openai/gpt-4o]\n"
    (made / "30-review.prompt").write_text(
        f"---\nmodel: openai/gpt-4\n{fallback}---\n{'slovo ' * 9000}\n", "utf-8"
    )
    done = idle.fleet("project", "check", str(made))
    assert done.returncode == 0 and "my is sound." in done.stdout and "warning: review: " in done.stdout


def test_the_list_finds_what_check_finds(idle: Fleet, made: Path) -> None:
    (made / "30-review.prompt").write_text("---\nmodel: gema/gpt-4\n---\nReview.\n", "utf-8")
    listed = idle.fleet("project", "list", "--dir", str(made.parent))
    assert "my: 1 problem(s), first my/30-review.prompt:2: unknown provider 'gema'" in listed.stdout


REFUSED = [
    (("new", "my project"), "project_id 'my project' cannot be used"),
    (("new", ".my"), "'.my' cannot be a project's name"),
    (("new", "my", "--model", "gpt-4o"), "--model 'gpt-4o' is not a model"),
    (("check", "nowhere"), "nowhere is not a folder"),
    (("list", "--dir", "nowhere"), "nowhere is not a folder"),
    (("export", "nowhere"), "nowhere is not a folder"),
    (("show", "nowhere"), "no fleet is up"),
    (("import", "nowhere"), "no fleet is up"),
]


@pytest.mark.parametrize(("arguments", "said"), REFUSED, ids=[said for _, said in REFUSED])
def test_what_cannot_be_done_is_one_line_with_a_remedy(
    idle: Fleet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: tuple[str, ...], said: str
) -> None:
    monkeypatch.chdir(tmp_path)
    done = idle.fleet("project", *arguments)
    assert done.returncode == 1 and said in done.stderr and "Remedy: " in done.stderr
    assert len(done.stderr.splitlines()) == 1


def test_a_project_is_not_written_over(idle: Fleet, made: Path) -> None:
    done = idle.fleet("project", "new", "my", "--dir", str(made.parent))
    assert done.returncode == 1 and "is not empty. Remedy" in done.stderr


def test_a_folder_is_exported_as_the_backend_has_it(idle: Fleet, made: Path, tmp_path: Path) -> None:
    out = tmp_path / "my.json"
    assert idle.fleet("project", "export", str(made), "--out", str(out)).returncode == 0
    rows = json.loads(out.read_text("utf-8"))
    assert [row["functionKey"] for row in rows] == ["brief", "draft", "review"]
    assert json.loads(idle.fleet("project", "export", str(made)).stdout) == rows


@pytest.mark.parametrize("arguments", [("--projects", "nowhere"), ("--external", "--projects", ".")])
def test_up_refuses_what_is_no_folder_of_projects(idle: Fleet, arguments: tuple[str, ...]) -> None:
    idle.environment = {"API_BASE_URL": "http://127.0.0.1:1"}
    done = idle.fleet("up", "--detach", "--port-base", str(idle.port_base), *arguments)
    assert done.returncode == 1 and "Remedy: " in done.stderr and not (idle.state / "fleet.json").exists()


def test_options_are_shown_with_what_a_fallback_does_not_take(idle: Fleet, tmp_path: Path) -> None:
    front = (
        "model: openai/gpt-5\nconfig:\n  reasoningEffort: low\n  providerOptions: {user: a}\n"
        "fleet.fallback: [anthropic/claude-opus-5, openai/gpt-4o]\nfleet.inputs: [topic]"
    )
    write_files(tmp_path / "my", {"1-a.prompt": f"---\n{front}\n---\nWrite.\n"})
    shown = idle.fleet("project", "check", str(tmp_path / "my"))
    assert shown.returncode == 0, shown.stderr
    assert 'reasoning_effort "low"' in shown.stdout and 'provider_options {"user": "a"}' in shown.stdout
    assert "its fallback anthropic/claude-opus-5 is asked without provider_options" in shown.stdout
    assert "its fallback openai/gpt-4o is asked without reasoning_effort" in shown.stdout
    (plan,) = json_of(idle.fleet("project", "show", str(tmp_path / "my"), "--json").stdout)["projects"]
    (planned,) = plan["assistants"]
    assert planned["options"] == {"reasoning_effort": "low", "provider_options": {"user": "a"}}
    text = (tmp_path / "my" / "1-a.prompt").read_text("utf-8").replace("openai/gpt-5", "openai/gpt-4.1")
    (tmp_path / "my" / "1-a.prompt").write_text(text, "utf-8")
    refused = idle.fleet("project", "check", str(tmp_path / "my"))
    assert refused.returncode == 1 and refused.stderr.splitlines() == [
        "fleet: my/1-a.prompt:4: openai/gpt-4.1 does not take config.reasoningEffort. Remedy: remove it, or "
        "choose a model that thinks"
    ]
