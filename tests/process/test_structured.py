"""Pipelines with structured outputs, through a whole fleet: what programs get, and what a broken answer costs."""

import json
import uuid
from pathlib import Path
from typing import Any

import pytest

from tests.fleet import Fleet, json_of
from tests.waiting import wait_for

SCHEMA = {
    "type": "object",
    "properties": {"title": {"type": "string"}, "keywords": {"type": "array", "items": {"type": "string"}}},
    "required": ["title", "keywords"],
    "additionalProperties": False,
}


def project(fleet: Fleet, **first: Any) -> str:
    """A brief with a schema, and a draft that reads one field of it."""
    name = f"structured-{uuid.uuid4().hex[:8]}"
    brief = {"functionKey": "brief", "output_schema": json.dumps(SCHEMA)} | first
    draft = {"functionKey": "draft", "input_keys": json.dumps(["brief.keywords"])}
    fleet.add_project(name, brief, draft)
    return name


def run(fleet: Fleet, name: str) -> dict[str, Any]:
    wait_for("every program runs", fleet.all_run)
    return json_of(fleet.fleet("run", "Kávovar", "--project", name, "--json").stdout)


@pytest.mark.parametrize("provider", ["openai", "anthropic", "gemini", "groq", "lasting", "enduring"])
def test_a_result_has_json_and_a_later_assistant_reads_one_field(fleet: Fleet, provider: str) -> None:
    models = {"anthropic": "claude-sonnet-4-6", "gemini": "gemini-2.5-flash", "enduring": "gemini-2.5-flash"}
    name = project(fleet, model_provider=provider, model=models.get(provider, "gpt-4o"))
    result = run(fleet, name)
    brief, draft = result["assistants"]
    assert result["status"] == "completed" and brief["calls"] == 1
    assert brief["output_json"].keys() == {"title", "keywords"} and "output_json" not in draft
    assert json.dumps(brief["output_json"]["keywords"], ensure_ascii=False)[:40] in result["final_output"]


def test_the_json_is_there_when_a_pipeline_is_looked_at_again(fleet: Fleet, tmp_path: Path) -> None:
    result = run(fleet, project(fleet))
    name, value = result["workflow_id"], result["assistants"][0]["output_json"]
    brief, draft = json_of(fleet.fleet("show", name, "--json").stdout)["stages"]
    assert brief["output_json"] == value and "output_json" not in draft
    assert json_of(fleet.fleet("show", name, "--output", "brief", "--json").stdout)["output_json"] == value
    assert fleet.fleet("results", name, "--out", str(tmp_path), "--format", "json").returncode == 0
    written = json.loads((tmp_path / f"{name}.json").read_text("utf-8"))
    assert written["stages"][0]["output_json"] == value


def test_a_broken_answer_is_asked_for_once_more_and_counted_as_paid(fleet: Fleet) -> None:
    name = project(fleet)
    fleet.simulator.clear()
    fleet.simulator.fault("openai", "broken_json", count=1)
    brief, draft = run(fleet, name)["assistants"]
    assert (brief["calls"], brief["possibly_paid_twice"], draft["calls"]) == (2, 1, 1)
    assert brief["output_json"]["title"]
    assert [call["outcome"] for call in fleet.simulator.ledger()] == ["fault:broken_json", "answered", "answered"]
    assert "does not match output_schema at $: " in fleet.log("openai_00")


def test_a_second_broken_answer_fails_by_its_place_and_a_retry_asks_anew(fleet: Fleet) -> None:
    name = project(fleet)
    fleet.simulator.clear()
    fleet.simulator.fault("openai", "broken_json", count=2)
    failed = run(fleet, name)
    assert failed["error"]["code"] == "output_broken" and "at $: " in failed["error"]["message"]
    assert len(fleet.simulator.ledger()) == 2
    paid = {"attempts": 1, "calls": 2, "possibly_paid_twice": 1}
    shown = json_of(fleet.fleet("show", failed["workflow_id"], "--json").stdout)
    for told, stage in ((failed, failed["assistants"][0]), (shown["spent"], shown["stages"][0])):
        assert {name: stage[name] for name in paid} == paid
        assert stage["simulated"] and stage["cost_usd"] == told["simulated_cost_usd"] > 0
        assert stage["input_tokens"] > 0 and stage["output_tokens"] > 0
    retried = json_of(fleet.fleet("retry", failed["workflow_id"], "--json").stdout)
    assert retried["status"] == "completed"
    assert retried["assistants"][0]["possibly_paid_twice"] == 2
    assert len(fleet.simulator.ledger()) == 4


def test_a_schema_that_cannot_be_used_costs_nothing(fleet: Fleet) -> None:
    name = project(fleet, output_schema=json.dumps({"type": "list"}))
    fleet.simulator.clear()
    failed = run(fleet, name)
    assert "assistant brief: output_schema cannot be used" in failed["error"]["message"]
    assert fleet.simulator.ledger() == []
