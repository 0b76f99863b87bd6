"""The one object that the page and ``fleet top`` show."""

import io
import re
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
from prometheus_client import CollectorRegistry
from rich.console import Console

from fleet.budgets.messages import BudgetStatus, LimitStatus
from fleet.cli.top import picture, sparks
from fleet.config import Settings
from fleet.control.health.metric_totals import Counted
from fleet.control.health.observer import Snapshot
from fleet.control.health.pipeline_runs import MAX_LISTED, Run, Runs
from fleet.control.health.status import FleetStatus, QueueStatus, Reachable, queues_of
from fleet.control.machines.other_machines import OtherMachine, Told
from fleet.control.supervision.supervisord_client import ProcessStatus
from fleet.control.web.history import MIN_STEPS, History
from fleet.control.web.page_state import median_of, pipelines_of, state_of, totals_of, waiting_in
from fleet.control.web.recent_errors import MOST, Troubles
from fleet.process.liveness import LivenessRecord, Unreachable
from fleet.process.metrics import Metrics, Usage

NOW = datetime(2026, 3, 2, 12, 0).timestamp()
PARKED = BudgetStatus(
    queue="llm-gemini",
    rate=0.0,
    breaker="parked",
    why="key_rejected",
    exact=True,
    calls=3,
    answered=1,
    refused=0,
    limits=[LimitStatus("requests", 600.0, 12.0, 0.0, 1.0, measured=True)],
)


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings(API_BASE_URL="http://localhost:8000", state_dir=tmp_path)


def counted_with(calls: int) -> Counted:
    """What a process has counted after so many answered calls of two seconds, and a 429 and a timeout."""
    registry = CollectorRegistry()
    metrics = Metrics(registry)
    metrics.started("openai", "openai_00")
    metrics.started("openai", "openai_00")
    for _ in range(calls):
        metrics.call_ended("openai", "llm-openai", "answered", 2.0)
        metrics.used("openai", "llm-openai", Usage("gpt-4o", 100, 0, 10, 0.01))
        metrics.used("gemini", "llm-gemini", Usage("gemini-2.5-flash", 50, 0, 5, 0.03, simulated=True))
    metrics.call_ended("openai", "llm-openai", "rate")
    metrics.call_ended("openai", "llm-openai", "timed_out")
    return Counted(list(registry.collect()))


def test_a_process_that_takes_no_calls_says_what_it_cannot(settings: Settings) -> None:
    lost = Unreachable("reach openai", "no route to host")
    liveness = LivenessRecord("openai_00", 7, stage="probing", unreachable=lost)
    snapshot = replace(snapshot_at(settings, NOW, calls=1), liveness_records={"openai_00": liveness})
    shown = state_of(settings, snapshot, History(), [])
    (process,) = shown["processes"]
    assert (process["stage"], process["cannot"]) == ("probing", "reach openai")
    liveness.stage = "serving"
    assert state_of(settings, snapshot, History(), [])["processes"][0]["cannot"] is None


def snapshot_at(settings: Settings, at: float, calls: int) -> Snapshot:
    queues = [QueueStatus(name, 1, 7 if name == "llm-openai" else 0, 3.0) for name in queues_of(settings)]
    status = FleetStatus(
        temporal=Reachable("localhost:7233", ok=True),
        backend=Reachable("http://localhost:8000", ok=True),
        processes=[ProcessStatus("openai", "openai_00", "RUNNING", 7, 60)],
        queues=queues,
        budgets={"llm-gemini": PARKED},
    )
    return Snapshot(at, status, counted_with(calls))


@pytest.fixture
def state(settings: Settings) -> dict[str, Any]:
    history = History()
    for minute in range(3):
        snapshot = snapshot_at(settings, NOW + minute * 60, calls=10 * minute)
        history.note(snapshot.at, totals_of(snapshot.counted), waiting_in(snapshot))
    return state_of(settings, snapshot, history, [])


def test_a_provider_shows_the_last_hour_and_today(state: dict[str, Any]) -> None:
    (openai,) = (provider for provider in state["providers"] if provider["provider"] == "openai")
    assert openai["breaker"] is None and openai["why"] == "the budget workflow is not running (no pipeline worker)"
    assert openai["hour"] == {"answered": 20, "refused": 0, "failed": 0, "median_seconds": 1.75}
    assert openai["today"]["cost_usd"] == 0.2 and openai["today"]["input_tokens"] == 2000
    assert len(openai["series"]["answered"]) == MIN_STEPS and openai["series"]["answered"][-3:] == [0, 10, 10]
    assert openai["series"]["backlog"][-1] == 7 and openai["backlog"] == 7
    assert state["today"]["answered"] == 20 and state["today"]["unpriced_calls"] == 0


def test_what_a_simulator_answered_is_shown_apart_from_what_is_paid(state: dict[str, Any]) -> None:
    by_name = {provider["provider"]: provider["today"] for provider in state["providers"]}
    assert (by_name["gemini"]["cost_usd"], by_name["gemini"]["simulated_cost_usd"]) == (0.0, 0.6)
    assert (by_name["openai"]["cost_usd"], by_name["openai"]["simulated_cost_usd"]) == (0.2, 0.0)
    assert (state["today"]["cost_usd"], state["today"]["simulated_cost_usd"]) == (0.2, 0.6)
    assert state["series"]["cost_usd"][-2:] == [0.1, 0.1]
    assert state["series"]["simulated_cost_usd"][-2:] == [0.3, 0.3]


def test_a_parked_provider_is_a_problem_with_a_remedy(state: dict[str, Any]) -> None:
    (gemini,) = (provider for provider in state["providers"] if provider["provider"] == "gemini")
    assert (gemini["breaker"], gemini["rate"], gemini["why"]) == ("parked", 0.0, "key_rejected")
    assert not state["ok"] and any("`fleet resume gemini`" in problem for problem in state["problems"])


def test_restarts_count_deaths_and_no_orderly_starts(settings: Settings, state: dict[str, Any]) -> None:
    assert [process["restarts"] for process in state["processes"]] == [0]
    first, second = LivenessRecord("openai_00", 6, started_at=1.0), LivenessRecord("openai_00", 7, started_at=2.0)
    first.follows(None)
    for stage, restarts in (("serving", 1), ("ended", 0)):
        second.follows(replace(first, stage=stage))
        snapshot = replace(snapshot_at(settings, NOW, 0), liveness_records={"openai_00": second})
        (process,) = state_of(settings, snapshot, History(), [])["processes"]
        assert process["restarts"] == restarts


def test_a_paused_queue_is_no_problem_and_is_told_with_the_command_that_resumes_it(settings: Settings) -> None:
    paused = replace(PARKED, queue="llm-openai", breaker="paused", why="the bill")
    snapshot = snapshot_at(settings, NOW, 0)
    snapshot = replace(snapshot, status=replace(snapshot.status, budgets={"llm-openai": paused}))
    shown = state_of(settings, snapshot, History(), [])
    assert shown["notices"] == ["llm-openai is paused: the bill; `fleet resume openai`"]
    shown |= {"version": "1", "pipelines": {}, "progress": {}}
    written = io.StringIO()
    Console(file=written, width=200).print(picture(shown))
    text = written.getvalue()
    assert ", 1 queue paused" in text and "llm-openai is paused: the bill" in text


def test_the_page_is_operable_only_with_a_token(settings: Settings) -> None:
    snapshot = snapshot_at(settings, NOW, 0)
    known = Settings(API_BASE_URL="http://localhost:8000", control_token="x" * 16)
    assert not state_of(settings, snapshot, History(), [])["operable"]
    shown = state_of(known, snapshot, History(), [])
    assert shown["operable"] and "x" * 16 not in str(shown)


def test_there_is_no_median_of_nothing() -> None:
    assert median_of(History(), "llm-openai") is None


def test_pipelines_are_listed_with_what_the_page_needs() -> None:
    run = Run("seo-1", "run-1", "running", NOW, None, retry=True)
    assert pipelines_of(Runs(NOW, {"running": 2000}, [run] * MAX_LISTED, []))["running"] == 2000
    found = pipelines_of(Runs(NOW, {"running": 2000}, [run], []))
    assert found["running"] == 1 and found["ended"] == []
    assert found["listed"] == [{"workflow_id": "seo-1", "run_id": "run-1", "started_at": NOW, "retry": True}]


def test_errors_are_read_on_from_the_merged_log(tmp_path: Path) -> None:
    log = tmp_path / "worker_production.log"
    troubles = Troubles(tmp_path)
    assert troubles.look() == []
    line = "2026-01-31 10:00:{:02d}.000 | {:<7} | openai_00 | workflow_id=seo-1 | message {}\n"
    log.write_text("".join(line.format(n, "ERROR" if n % 2 else "INFO", n) for n in range(10)), "utf-8")
    assert [trouble.message for trouble in troubles.look()] == [f"message {n}" for n in (9, 7, 5, 3, 1)]
    with log.open("a", encoding="utf-8") as file:
        file.write(line.format(11, "ERROR", 11) + "2026-01-31 10:00:13.000 | ERROR   | openai_00 | - | ha")
    latest = troubles.look()
    assert latest[0].message == "message 11" and latest[0].process == "openai_00"
    assert latest[0].context == {"workflow_id": "seo-1"}
    with log.open("a", encoding="utf-8") as file:
        file.write("lf\n")
    assert troubles.look()[0].message == "half"
    log.rename(tmp_path / "worker_production.log.1")
    log.write_text("".join(line.format(n % 60, "ERROR", n) for n in range(40)), "utf-8")
    assert len(troubles.look()) == MOST and troubles.look()[0].message == "message 39"


def test_the_terminal_shows_it_without_acting_on_foreign_text(state: dict[str, Any]) -> None:
    from rich.console import Console

    state["problems"].append("evil \x1b[31m[bold]text[/bold]")
    state["pipelines"] = {"running": 0, "listed": [], "ended": []}
    state["progress"] = {}
    console = Console(width=200, record=True)
    console.print(picture(state))
    text = console.export_text()
    assert (
        "PARKED" in text
        and "$0.2000 + $0.6000 simulated, not paid" in text
        and "\x1b[31m" not in text
        and "[bold]text[/bold]" in text
    )


def test_the_terminal_calls_nothing_simulated_that_is_paid(state: dict[str, Any]) -> None:
    from rich.console import Console

    state["pipelines"] = {"running": 0, "listed": [], "ended": []}
    state["progress"] = {}
    del state["today"]["simulated_cost_usd"]  # as a control process of 0.1.0 tells it
    console = Console(width=200, record=True)
    console.print(picture(state))
    text = console.export_text()
    assert "today  $0.2000  " in text and "simulated" not in text


MACHINES = [
    OtherMachine(
        "vm2",
        "bbbb",
        ["openai_00"],
        3.0,
        {"llm-openai": 2, "llm-gemini": 1},
        "1.2.0",
        "http://vm2:8020",
        heard_seconds=240.0,
        told=Told("1.2.0", 7200, {"openai_00": "RUNNING", "gemini_00": "FATAL"}, ["gemini_00 is FATAL \x1b[31m"]),
    ),
    OtherMachine("vm3", "cccc", heard_seconds=3600.0, gone_seconds=3600.0, why_not="http://vm3:8020: no answer"),
]


def test_the_other_machines_are_shown_with_what_they_told_and_one_that_is_gone_since_when(
    settings: Settings,
) -> None:
    from rich.console import Console

    snapshot = snapshot_at(settings, NOW, calls=1)
    snapshot = replace(snapshot, status=replace(snapshot.status, machines=MACHINES))
    state = state_of(settings, snapshot, History(), [])
    assert [machine["machine"] for machine in state["machines"]] == ["bbbb", "cccc"]
    state |= {"pipelines": {"running": 0, "listed": [], "ended": []}, "progress": {}}
    console = Console(width=200, record=True)
    console.print(picture(state, in_all=True))
    lines = console.export_text().splitlines()
    (well,) = (line for line in lines if line.startswith("vm2+bbbb"))
    cells = ["vm2+bbbb", "problems", "1.2.0", "2 h", "1 of 2 run", "3", "3.0 s ago", "4 min ago"]
    assert re.split(r"\s{2,}", well.strip()) == cells
    (gone,) = (line for line in lines if line.startswith("vm3+cccc"))
    assert "gone since 2026-03-02 11:00:00" in gone
    assert "  ! vm2+bbbb: gemini_00 is FATAL \\x1b[31m" in lines
    assert "  vm3+cccc could not be asked: http://vm3:8020: no answer" in lines
    console.print(picture(state))
    assert "vm2+bbbb" not in console.export_text()
    del state["machines"]  # as a control process of 0.1.0 tells it
    console.print(picture(state, in_all=True))
    assert "no other machine is known" in console.export_text()


def test_a_series_is_a_row_of_blocks() -> None:
    assert sparks([None, None, 0.0, 0.0, 1.0, 1.0, 8.0, 8.0]) == "  ▁█"


def test_nothing_in_the_terminal_is_cut_in_the_middle_of_a_word_or_counted_wrongly(state: dict[str, Any]) -> None:
    state["providers"][0]["limits"] = [{"what": "input_tokens", "per_minute": 10_000_000.0}]
    state["providers"][0]["why"] = "finding out how much the provider takes, " * 4
    state["pipelines"] = {"running": 1, "listed": [], "ended": []}
    state["progress"] = {}
    written = io.StringIO()
    Console(file=written, width=240).print(picture(state))
    text = written.getvalue()
    assert "10,000,000 input tokens" in text and "1 pipeline runs" in text and "provider …" in text


@pytest.mark.parametrize("width", [80, 100, 120, 160, 240])
def test_no_column_is_squeezed_whatever_the_terminals_width(state: dict[str, Any], width: int) -> None:
    why = "finding out how much the provider takes, since it has not said"
    openai, gemini = sorted(state["providers"], key=lambda each: each["provider"] != "openai")[:2]
    openai |= {
        "breaker": "closed",
        "rate": 20.0,
        "why": why,
        "limits": [{"what": "input_tokens", "per_minute": 10_000_000.0}],
    }
    gemini |= {"breaker": "parked", "why": "key_rejected"}
    run = {"workflow_id": "seo-demo-20260131-100000-abcdef", "run_id": "r", "started_at": state["at"] - 70}
    at_work = {
        "done": 2,
        "total": 8,
        "topic": "Jak vybrat kávovar do malé kanceláře",
        "running": ["Draft assistant"],
    }
    state["pipelines"] = {"running": 1, "listed": [run], "ended": []}
    state["progress"] = {f"{run['workflow_id']}~r": at_work}
    written = io.StringIO()
    Console(file=written, width=width).print(picture(state))
    text = written.getvalue()
    (row,) = (line for line in text.splitlines() if line.startswith("llm-openai ") and "healthy" in line)
    assert row.split()[:3] == ["llm-openai", "healthy", "20.0"]
    assert ("10,000,000 input tokens" in row) == (width >= 120)
    assert "…" not in text and max(map(len, text.splitlines())) <= width
    assert run["workflow_id"] in text and "██░░░░░░ 2/8" in text and "Draft assistant" in text
    assert all(word in text for word in why.split())
    assert len(text.splitlines()) < 30


def test_the_narrowest_terminal_still_shows_queue_and_state(state: dict[str, Any]) -> None:
    state["pipelines"], state["progress"] = {"running": 0}, {}
    written = io.StringIO()
    Console(file=written, width=40).print(picture(state))
    assert any(line.split()[:2] == ["llm-gemini", "PARKED"] for line in written.getvalue().splitlines())
