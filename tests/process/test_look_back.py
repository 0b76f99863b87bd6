"""Looking back at pipelines through the commands: what ran, what came of it, what was sent; and ending one."""

import hashlib
import json
import sqlite3
import uuid
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from tests.fleet import Fleet, json_of
from tests.waiting import wait_for


def project(fleet: Fleet, *assistants: dict[str, Any]) -> str:
    name = f"looked-at-{uuid.uuid4().hex[:8]}"
    fleet.add_project(name, *assistants)
    return name


def ran(fleet: Fleet, name: str, *options: str) -> dict[str, Any]:
    """The result of a pipeline of that project."""
    wait_for("every program runs", fleet.all_run)
    return json_of(fleet.fleet("run", "Jak vybrat kávovar", "--project", name, "--json", *options).stdout)


def shown(fleet: Fleet, workflow_id: str) -> dict[str, Any]:
    return json_of(fleet.fleet("show", workflow_id, "--json").stdout)


def test_a_finished_pipeline_is_found_and_its_outputs_are_read_again(fleet: Fleet) -> None:
    name = project(fleet, {}, {})
    done = ran(fleet, name)
    listed = json_of(fleet.fleet("list", "--project", name, "--state", "completed", "--json").stdout)["pipelines"]
    assert [pipeline["workflow_id"] for pipeline in listed] == [done["workflow_id"]]
    assert (listed[0]["topic"], listed[0]["state"]) == ("Jak vybrat kávovar", "completed")
    by_text = fleet.fleet("list", "--text", "KÁVOVAR", "--since", "10m", "--project", name)
    assert done["workflow_id"] in by_text.stdout, "a table has the whole id"
    detail = shown(fleet, done["workflow_id"])
    assert [stage["state"] for stage in detail["stages"]] == ["done", "done"]
    assert detail["spent"]["cost_usd"] == 0 < detail["spent"]["simulated_cost_usd"] == done["simulated_cost_usd"]
    last = fleet.fleet("show", done["workflow_id"], "--output")
    assert last.stdout == done["final_output"] + "\n"
    first = json_of(fleet.fleet("show", done["workflow_id"], "--output", "assistant_1", "--json").stdout)
    assert first["output"] == detail["stages"][0]["output"] != done["final_output"]
    table = fleet.fleet("show", done["workflow_id"])
    assert table.returncode == 0 and "assistant_2" in table.stdout and "simulated, not paid" in table.stdout


def test_a_pipeline_of_another_client_is_found_by_its_arguments(fleet: Fleet) -> None:
    name = project(fleet, {})
    workflow_id = f"foreign-{uuid.uuid4().hex[:8]}"
    start = ["workflow", "execute", "--type", "AssistantPipelineWorkflow", "--task-queue", "pipeline"]
    start += ["--workflow-id", workflow_id, "--input", '"Mlýnek"', "--input", json.dumps(name)]
    assert fleet.temporal(*start).returncode == 0
    listed = json_of(fleet.fleet("list", "--project", name, "--text", "mlýn", "--json").stdout)["pipelines"]
    assert [pipeline["workflow_id"] for pipeline in listed] == [workflow_id]


def test_what_an_assistant_was_sent_is_exactly_what_its_journal_recorded(fleet: Fleet, tmp_path: Path) -> None:
    csv = tmp_path / "keywords.csv"
    csv.write_text("klíčové slovo,hledanost\nkávovar,100\n", "utf-8")
    first = {"input_keys": '["topic", "csv", "date"]', "system_prompt": "Piš česky.\n\nStručně."}
    name = project(fleet, first, {"top_p": 0.5, "max_tokens": 300})
    done = ran(fleet, name, "--csv", str(csv), "--date", "2025-01-31")
    for key, contained in (("assistant_1", "| kávovar | 100 |"), ("assistant_2", "[SIMULATOR]")):
        sent = json_of(fleet.fleet("show", done["workflow_id"], "--input", key, "--json").stdout)
        assert sent["sent"] and contained in sent["user_message"]
        names = ("model", "system_prompt", "user_message", "temperature", "top_p", "max_tokens")
        asked = json.dumps({name: sent[name] for name in names})
        # The journal names a call by the digest of everything that was sent.
        parts = (done["workflow_id"], done["run_id"], key, "openai", asked)
        assert hashlib.sha256("\x1f".join(parts).encode()).hexdigest() in _journal(fleet)
    text = fleet.fleet("show", done["workflow_id"], "--input", "Assistant 1").stdout
    assert "Piš česky." in text and "Current date: 2025-01-31" in text


def _journal(fleet: Fleet) -> set[str]:
    with closing(sqlite3.connect(fleet.state / "journal" / "openai.db")) as journal:
        return {row[0] for row in journal.execute("SELECT key FROM calls")}


def test_what_a_reused_answer_was_made_of_is_that_of_the_run_that_made_it(fleet: Fleet) -> None:
    name = project(fleet, {}, {"model": "gpt-nonexistent"})
    failed = ran(fleet, name)
    fleet.backend("UPDATE Assistant SET system_prompt = 'Anew.', model = 'gpt-4o' WHERE project_id = ?", name)
    again = fleet.fleet("retry", failed["workflow_id"], "--json")
    assert again.returncode == 0, again.stderr
    kept = json_of(fleet.fleet("show", failed["workflow_id"], "--input", "assistant_1", "--json").stdout)
    assert (kept["system_prompt"], kept["run_id"]) == ("Write.", failed["run_id"])
    new = json_of(fleet.fleet("show", failed["workflow_id"], "--input", "assistant_2", "--json").stdout)
    assert (new["system_prompt"], new["run_id"]) == ("Anew.", json_of(again.stdout)["run_id"])


@pytest.mark.parametrize("form", ["md", "json", "html"])
def test_results_are_written_to_a_folder(fleet: Fleet, tmp_path: Path, form: str) -> None:
    done = ran(fleet, project(fleet, {}))
    written = fleet.fleet(
        "results", done["workflow_id"], "--format", form, "--out", str(tmp_path / "new"), "--json"
    )
    path = Path(json_of(written.stdout)["file"])
    assert path == tmp_path / "new" / f"{done['workflow_id']}.{form}"
    text = path.read_text("utf-8")
    assert "[SIMULATOR]" in text and "Jak vybrat kávovar" in text


def test_a_cancelled_pipeline_keeps_what_was_sent_and_a_retry_pays_only_for_the_rest(fleet: Fleet) -> None:
    alone = {"input_keys": '["topic"]'}
    waits = alone | {"model_provider": "anthropic", "model": "claude-sonnet-4-6"}
    name = project(fleet, alone, waits, {"input_keys": '["assistant_1"]'})
    wait_for("every program runs", fleet.all_run)
    fleet.simulator.clear()
    fleet.fleet("pause", "anthropic")
    try:
        with fleet.latency("openai", 4.0):
            begun = json_of(fleet.fleet("run", "Kávovar", "--project", name, "--no-wait", "--json").stdout)
            workflow_id = begun["workflow_id"]
            wait_for("the call is on its way", lambda: fleet.in_flight("openai"))
            done = json_of(fleet.fleet("cancel", workflow_id, "--json").stdout)
            assert done["awaited"] == ["assistant_1"] and "assistant_2" in done["dropped"]
            ended = wait_for("it has ended", lambda: _ended(fleet, workflow_id))
    finally:
        fleet.fleet("resume", "anthropic")
    assert ended["status"] == "canceled"
    assert [stage["state"] for stage in ended["stages"]] == ["done", "waiting", "waiting"]
    assert [call["outcome"] for call in fleet.simulator.ledger()] == ["answered"]
    table = fleet.fleet("show", workflow_id).stdout
    assert table.count(" not run ") == 2 and " waiting " not in table
    again = fleet.fleet("cancel", workflow_id)
    assert again.returncode == 1 and "has already ended (canceled)" in again.stderr
    retried = json_of(fleet.fleet("retry", workflow_id, "--json").stdout)
    assert [assistant["reused"] for assistant in retried["assistants"]] == [True, False, False]
    assert len(fleet.simulator.ledger()) == 3


def _ended(fleet: Fleet, workflow_id: str) -> dict[str, Any] | None:
    detail = shown(fleet, workflow_id)
    return detail if detail["status"] != "running" else None


def test_a_run_names_the_command_that_shows_it_again(fleet: Fleet) -> None:
    name = project(fleet, {})
    waited = fleet.fleet("run", "Kávovar", "--project", name).stdout
    workflow_id = next(line.split()[1] for line in waited.splitlines() if line.startswith("pipeline "))
    assert waited.splitlines()[-1] == f"see it again: fleet show {workflow_id}"
    left = fleet.fleet("run", "Kávovar", "--project", name, "--no-wait").stdout.splitlines()
    assert left[0].startswith(f"started {name}-") and left[-1] == f"look at it: fleet show {left[0].split()[1]}"


REFUSALS = [
    (("show", "nobody"), "knows no pipeline 'nobody'"),
    (("results", "nobody", "--out", "x"), "knows no pipeline 'nobody'"),
    (("cancel", "nobody"), "knows no pipeline 'nobody'"),
    (("results", "nobody", "--out", "x", "--format", "pdf"), "unknown format 'pdf'"),
    (("list", "--state", "asleep"), "unknown state 'asleep'"),
    (("list", "--since", "yesterday"), "'yesterday' is not a valid time"),
    (("show", "x", "assistant_1"), "what of 'assistant_1'?"),
    (("retry", ""), "knows no pipeline ''"),
    (("provider", "test", "nobody"), "there is no provider 'nobody'"),
    (("cancel", "budget-llm-openai"), "which is not a pipeline"),
]


@pytest.mark.parametrize(("arguments", "said"), REFUSALS, ids=lambda value: str(value)[:40])
def test_what_cannot_be_looked_at_ends_in_one_line(fleet: Fleet, arguments: tuple[str, ...], said: str) -> None:
    done = fleet.fleet(*arguments)
    assert done.returncode == 1 and "Traceback" not in done.stderr
    (complaint,) = [line for line in done.stderr.splitlines() if line.startswith("fleet: ")]
    assert said in complaint and "Remedy:" in complaint


def test_an_assistant_that_is_not_there_is_named_with_those_that_are(fleet: Fleet) -> None:
    done = ran(fleet, project(fleet, {}, {}))
    for option in ("--output", "--input"):
        nobody = fleet.fleet("show", done["workflow_id"], option, "nobody")
        assert nobody.returncode == 1
        assert "no assistant 'nobody'" in nobody.stderr and "assistant_1, assistant_2" in nobody.stderr
