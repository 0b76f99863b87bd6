"""``fleet try`` in a running fleet: one call through the same queue and journal, and the models side by side."""

import json
import uuid
from pathlib import Path
from typing import Any

import pytest

from tests.fleet import Fleet, json_of
from tests.waiting import wait_for

SCHEMA = {"type": "object", "properties": {"keywords": {"type": "string"}}, "required": ["keywords"]}


@pytest.fixture
def project(fleet: Fleet) -> str:
    """A brief with a schema, and a draft that reads the topic and one field of it."""
    name = f"tried-{uuid.uuid4().hex[:8]}"
    brief = {"functionKey": "brief", "output_schema": json.dumps(SCHEMA)}
    draft = {"functionKey": "draft", "input_keys": json.dumps(["topic", "brief.keywords"])}
    fleet.add_project(name, brief, draft)
    wait_for("every program runs", fleet.all_run)
    fleet.simulator.clear()
    return name


@pytest.fixture
def brief(tmp_path: Path) -> str:
    (tmp_path / "brief.json").write_text('{"keywords": "bean and roast"}', "utf-8")
    return f"brief={tmp_path / 'brief.json'}"


def calls_of(fleet: Fleet) -> list[dict[str, Any]]:
    return [call for call in fleet.simulator.ledger() if call["outcome"] == "answered"]


def test_an_assistant_runs_alone_and_is_found_again(fleet: Fleet, project: str, brief: str) -> None:
    done = fleet.fleet("try", f"{project}/draft", "--topic", "Coffee", "--input", brief, "--json")
    assert done.returncode == 0, done.stderr
    (tried,) = json_of(done.stdout)["tries"]
    assert (tried["status"], tried["calls"], tried["model"]) == ("completed", 1, "gpt-4o") and tried["output"]
    assert len(calls_of(fleet)) == 1, "the assistant alone was sent"
    name = tried["workflow_id"]
    (listed,) = json_of(fleet.fleet("list", "--project", project, "--json").stdout)["pipelines"]
    assert (listed["workflow_id"], listed["kind"], listed["state"]) == (name, "try", "completed")
    assert "(try) Coffee" in fleet.fleet("list", "--project", project).stdout
    sent = json_of(fleet.fleet("show", name, "--input", "draft", "--json").stdout)
    assert "bean and roast" in sent["user_message"] and "Coffee" in sent["user_message"]
    given = json_of(fleet.fleet("show", name, "--output", "brief", "--json").stdout)
    assert given["output_json"] == {"keywords": "bean and roast"}
    again = fleet.fleet("retry", name)
    assert again.returncode == 1 and "Remedy: try it again with `fleet try PROJECT/ASSISTANT`" in again.stderr
    assert "was not executed: its text was given" in fleet.fleet("show", name, "--input", "brief").stderr


def test_models_are_compared_side_by_side(fleet: Fleet, project: str, brief: str) -> None:
    models = ["openai/gpt-4o-mini", "anthropic/claude-sonnet-4-6"]
    options = [option for model in models for option in ("--model", model)]
    command = ["try", f"{project}/draft", "--topic", "Coffee", "--input", brief, *options]
    done = fleet.fleet(*command, "--json")
    tries = json_of(done.stdout)["tries"]
    assert [f"{tried['provider']}/{tried['model']}" for tried in tries] == models
    assert all(tried["output_tokens"] and tried["cost_usd"] and tried["seconds"] for tried in tries)
    assert len(calls_of(fleet)) == 2
    shown = fleet.fleet(*command)
    for model in models:
        assert f"{model}, written by the provider simulator" in shown.stdout
    assert "tokens in/out" in shown.stdout and shown.stdout.count("simulated") >= 2


THINKS = {
    "functionKey": "thinks",
    "model_provider": "anthropic",
    "model": "claude-sonnet-4-5",
    "thinking_budget": 2048,
    "stop": json.dumps(["simulator, not"]),
    "provider_options": json.dumps({"metadata": {"user_id": "a"}}),
    "fallback": json.dumps([{"model_provider": "openai", "model": "gpt-4o"}]),
}


def test_a_models_options_are_sent_and_another_model_gets_those_that_it_takes(fleet: Fleet) -> None:
    name = f"options-{uuid.uuid4().hex[:8]}"
    fleet.add_project(name, THINKS)
    models = ["--model", "anthropic/claude-sonnet-4-5", "--model", "openai/gpt-4o"]
    done = fleet.fleet("try", f"{name}/thinks", "--topic", "Coffee", *models, "--json")
    assert done.returncode == 0, done.stderr
    assert "openai/gpt-4o is asked without provider_options, thinking_budget, stop, which" in done.stderr
    own, other = json_of(done.stdout)["tries"]
    assert own["output"].endswith("text of a ") and own["output_tokens"] > 1000, (
        "it ended at the stop, and thought"
    )
    assert "simulator, not" in other["output"]
    sent = json_of(fleet.fleet("show", own["workflow_id"], "--input", "thinks", "--json").stdout)
    options = {
        "thinking_budget": 2048,
        "stop": ["simulator, not"],
        "provider_options": {"metadata": {"user_id": "a"}},
    }
    assert {key: sent[key] for key in options} == options
    assert 'stop ["simulator, not"]' in fleet.fleet("show", own["workflow_id"], "--input", "thinks").stdout
    sent = json_of(fleet.fleet("show", other["workflow_id"], "--input", "thinks", "--json").stdout)
    assert not options.keys() & sent.keys()


def test_a_fallback_is_asked_with_the_options_that_it_takes(fleet: Fleet) -> None:
    name = f"fallback-{uuid.uuid4().hex[:8]}"
    fleet.add_project(name, THINKS | {"model": "claude-sonnet-4-5-unheard-of"})
    ran = json_of(fleet.fleet("run", "Coffee", "--project", name, "--json").stdout)
    assert ran["status"] == "completed", ran["error"]  # of the options, OpenAI's API takes none
    (assistant,) = ran["assistants"]
    assert (assistant["provider"], assistant["model"]) == ("openai", "gpt-4o")
    assert "openai/gpt-4o is asked without thinking_budget, stop, provider_options" in fleet.log("openai_00")


def test_an_option_that_its_model_does_not_take_costs_nothing(fleet: Fleet) -> None:
    name = f"refused-{uuid.uuid4().hex[:8]}"
    fleet.add_project(name, THINKS | {"thinking_budget": 512})
    fleet.simulator.clear()
    done = fleet.fleet("run", "Coffee", "--project", name, "--json")
    said = json_of(done.stdout)["error"]["message"]
    assert done.returncode == 1 and said == (
        "assistant thinks: anthropic/claude-sonnet-4-5 does not take a thinking_budget of 512. Remedy: write 1024 "
        "to 128000 or 0"
    )
    assert fleet.simulator.ledger() == []


def test_a_structured_output_is_json(fleet: Fleet, project: str) -> None:
    (tried,) = json_of(fleet.fleet("try", f"{project}/brief", "--topic", "Coffee", "--json").stdout)["tries"]
    assert tried["output_json"].keys() == {"keywords"}


def test_a_failure_is_shown_and_the_exit_status_is_1(fleet: Fleet, project: str) -> None:
    fleet.simulator.fault("openai", "broken_json", count=2)
    done = fleet.fleet("try", f"{project}/brief", "--topic", "Coffee", "--json")
    (tried,) = json_of(done.stdout)["tries"]
    assert done.returncode == 1 and tried["status"] == "failed" and tried["error"]["code"] == "output_broken"
    explained = fleet.fleet("explain", tried["workflow_id"])
    assert "`fleet try PROJECT/ASSISTANT`" in explained.stdout and "fleet retry" not in explained.stdout


def test_what_is_missing_is_one_line_with_the_option(
    fleet: Fleet, project: str, brief: str, tmp_path: Path
) -> None:
    (tmp_path / "text.txt").write_text("no JSON", "utf-8")
    (tmp_path / "empty.txt").write_text("", "utf-8")
    (tmp_path / "binary.txt").write_bytes(b"\xff")
    (tmp_path / "rows.csv").write_text("a,b\n1,2\n", "utf-8")
    named = [f"{project}/draft", "--topic", "Coffee", "--input", brief]
    refused = [
        (
            [f"{project}/draft"],
            'draft reads topic, brief: not given. Remedy: add --topic "TOPIC" --input brief=FILE',
        ),
        ([f"{project}/draft", "--input", brief], "draft reads topic: not given"),
        ([project], "does not name an assistant. Remedy: write PROJECT/ASSISTANT"),
        ([f"{project}/nobody"], "has no assistant 'nobody'"),
        ([f"nothing-{project}/draft"], "does not exist"),
        ([*named, "--input", brief], "--input brief is given twice"),
        ([*named, "--input", "draft"], "--input 'draft' is not of the form KEY=FILE"),
        ([*named, "--input", f"other={tmp_path / 'text.txt'}"], "draft does not read 'other'"),
        ([*named, "--csv", str(tmp_path / "rows.csv")], "draft does not read a CSV"),
        ([*named, "--model", "gpt-4o"], "--model 'gpt-4o' is not a model"),
        ([*named, "--model", "nobody/m"], "Remedy: correct --model, or add the provider"),
        ([*named, "--model", "openai/m", "--model", "openai/m"], "a --model is given twice"),
        (
            [*named[:3], "--input", f"brief={tmp_path / 'text.txt'}"],
            "does not match that assistant's output schema",
        ),
        ([*named[:3], "--input", f"brief={tmp_path / 'empty.txt'}"], "is empty. Remedy"),
        ([*named[:3], "--input", f"brief={tmp_path / 'binary.txt'}"], "is not UTF-8 text"),
        ([*named[:3], "--input", f"brief={tmp_path / 'nowhere'}"], "cannot be read (No such file or directory)"),
    ]
    for arguments, said in refused:
        done = fleet.fleet("try", *arguments)
        assert done.returncode == 1 and said in done.stderr and ". Remedy: " in done.stderr, (
            arguments,
            done.stderr,
        )
        assert len(done.stderr.splitlines()) == 1, done.stderr
    assert fleet.simulator.ledger() == [], "nothing was sent"
