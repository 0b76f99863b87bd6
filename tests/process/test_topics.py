"""Many pipelines of one file of topics, with one command."""

import csv
import os
import shlex
import signal
import threading
import uuid
from pathlib import Path
from typing import Any

from tests.fleet import Fleet, json_of
from tests.waiting import wait_for

NUMBER = 30


def project(fleet: Fleet, **assistant: Any) -> str:
    wait_for("every program runs", fleet.all_run)
    name = f"many-{uuid.uuid4().hex[:8]}"
    fleet.add_project(name, assistant)
    return name


def topics(folder: Path, number: int = NUMBER) -> str:
    path = folder / "topics.csv"
    path.write_text("id,topic\n" + "".join(f"{each},Kávovar {each}\n" for each in range(number)), "utf-8")
    return str(path)


def test_every_topic_is_run_once_although_the_command_and_a_worker_are_killed(
    fleet: Fleet, tmp_path: Path
) -> None:
    name, file = project(fleet), topics(tmp_path)
    fleet.simulator.clear()
    command = ("run", "--topics", file, "--project", name, "--max-open", "6", "--json")
    killed = fleet.start(*command)
    wait_for("some have been answered", lambda: _answered(fleet) >= 5)
    os.kill(killed.pid, signal.SIGKILL)
    killed.communicate(timeout=30)
    os.kill(fleet.pids()["pipeline"], signal.SIGKILL)
    done = fleet.fleet(*command)
    assert done.returncode == 0, done.stderr
    told = json_of(done.stdout)
    assert (told["completed"], told["failed"], told["open"]) == (NUMBER, 0, 0)
    assert 0 < told["started"] <= NUMBER - 5 and told["cost_usd"] == 0 < told["simulated_cost_usd"]
    assert _answered(fleet) == len(fleet.simulator.ledger()) == NUMBER, "none was called twice"
    again = json_of(fleet.fleet(*command).stdout)
    assert (again["started"], again["completed"]) == (0, NUMBER)
    assert len(fleet.simulator.ledger()) == NUMBER
    out = tmp_path / "out"
    results = ("results", "--topics", file, "--project", name, "--out", str(out), "--format", "html", "--json")
    assert json_of(fleet.fleet(*results).stdout)["written"] == NUMBER
    with (out / "index.csv").open(encoding="utf-8") as index:
        listed = list(csv.DictReader(index))
    assert [row["topic"] for row in listed] == [f"Kávovar {each}" for each in range(NUMBER)]
    assert all((out / row["file"]).stat().st_size > 500 and row["state"] == "completed" for row in listed)


def _answered(fleet: Fleet) -> int:
    return sum(call["outcome"] == "answered" for call in fleet.simulator.ledger())


def test_an_interrupted_command_leaves_its_pipelines_running_and_says_how_to_follow_them(
    fleet: Fleet, tmp_path: Path
) -> None:
    name, file = project(fleet, model_provider="groq", model="llama-3.3-70b"), topics(tmp_path, 5)
    fleet.simulator.clear()
    command = ("run", "--topics", file, "--project", name, "--max-open", "2", "--json")
    assert fleet.fleet("pause", "groq").returncode == 0
    try:
        run = fleet.start(*command)
        wait_for("two are open", lambda: _states(fleet, name, 2) == {"running"})
        run.send_signal(signal.SIGINT)
        out, err = run.communicate(timeout=60)
    finally:
        fleet.fleet("resume", "groq")
    assert run.returncode == 128 + signal.SIGINT, err
    told = json_of(out)
    assert (told["open"], told["completed"], told["failed"]) == (2, 0, 0) and "Traceback" not in err
    assert f"left 2 running: they go on without this command. `fleet {shlex.join(command)}`" in err
    assert "follows them again and starts the 3 that are not started" in err
    wait_for("they end without it", lambda: _states(fleet, name, 2) == {"completed"})
    again = json_of(fleet.fleet(*command).stdout)
    assert (again["started"], again["completed"]) == (3, 5)
    assert len(fleet.simulator.ledger()) == 5, "none was called twice"


def test_no_more_than_allowed_are_open_at_a_time(fleet: Fleet, tmp_path: Path) -> None:
    name, file = project(fleet), topics(tmp_path, 6)
    run = fleet.start("run", "--topics", file, "--project", name, "--max-open", "2", "--json")
    seen: set[int] = set()
    while run.returncode is None:
        seen.add(
            len(
                json_of(fleet.fleet("list", "--project", name, "--state", "running", "--json").stdout)["pipelines"]
            )
        )
    out, err = run.communicate(timeout=60)
    assert json_of(out)["completed"] == 6, err
    assert max(seen) <= 2 and 2 in seen


def test_what_failed_is_retried_together(fleet: Fleet, tmp_path: Path) -> None:
    name, file = project(fleet, model="gpt-nonexistent"), topics(tmp_path, 3)
    failed = fleet.fleet("run", "--topics", file, "--project", name, "--json")
    assert failed.returncode == 1 and json_of(failed.stdout)["failed"] == 3
    assert f"fleet retry --failed --since 1d --project {name}" in failed.stderr
    fleet.backend("UPDATE Assistant SET model = 'gpt-4o' WHERE project_id = ?", name)
    retried = json_of(fleet.fleet("retry", "--failed", "--since", "10m", "--project", name, "--json").stdout)
    assert len(retried["retried"]) == 3
    again = fleet.fleet("retry", "--failed", "--since", "10m", "--project", name)
    assert again.returncode == 0 and again.stdout == "retried 0 pipelines\n", "those were retried already"
    followed = json_of(fleet.fleet("run", "--topics", file, "--project", name, "--json").stdout)
    assert (followed["started"], followed["completed"], followed["failed"]) == (0, 3, 0)


def test_a_command_whose_pipelines_all_wait_says_why(fleet: Fleet, tmp_path: Path) -> None:
    name, file = project(fleet, model_provider="groq", model="llama-3.3-70b"), topics(tmp_path, 3)
    assert fleet.fleet("pause", "groq", "--why", "lunch").returncode == 0
    lines: list[str] = []
    try:
        run = fleet.start("run", "--topics", file, "--project", name, "--json")
        reading = threading.Thread(target=lambda: [lines.append(line) for line in run.stderr], daemon=True)
        reading.start()
        wait_for("it says why", lambda: any("paused" in line for line in lines))
    finally:
        fleet.fleet("resume", "groq")
    reading.join(60)
    with run.stdout, run.stderr:
        assert json_of(run.stdout.read())["completed"] == 3
    assert "Assistant 1 in queue: groq was paused: lunch. Remedy: `fleet resume groq`" in "".join(lines)


def test_all_pipelines_of_a_project_are_cancelled_together(fleet: Fleet, tmp_path: Path) -> None:
    name, file = project(fleet, model_provider="groq", model="llama-3.3-70b"), topics(tmp_path, 4)
    assert fleet.fleet("pause", "groq").returncode == 0
    try:
        left = json_of(fleet.fleet("run", "--topics", file, "--project", name, "--no-wait", "--json").stdout)
        assert (left["started"], left["open"], left["completed"]) == (4, 4, 0)
        done = json_of(fleet.fleet("cancel", "--project", name, "--json").stdout)
        assert len(done["cancelled"]) == 4
        wait_for("all have ended", lambda: _states(fleet, name) == {"canceled"})
    finally:
        fleet.fleet("resume", "groq")


def _states(fleet: Fleet, name: str, number: int | None = None) -> set[str]:
    """The states of a project's pipelines; empty unless there are that many."""
    listed = json_of(fleet.fleet("list", "--project", name, "--json").stdout)["pipelines"]
    return {pipeline["state"] for pipeline in listed} if number in (None, len(listed)) else set()


def test_a_project_without_running_pipelines_has_nothing_to_cancel(fleet: Fleet) -> None:
    done = fleet.fleet("cancel", "--project", "nobody")
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[0] == "no pipeline of project 'nobody' runs: nothing is cancelled"


def test_what_contradicts_itself_is_refused(fleet: Fleet, tmp_path: Path) -> None:
    file = topics(tmp_path, 1)
    for arguments, said in (
        (("run", "Kávovar", "--topics", file, "--project", "seo-demo"), "exclude each other"),
        (("run", "--project", "seo-demo"), "no topic is given"),
        (("results", "--topics", file, "--out", str(tmp_path)), "the project of --topics is not named"),
        (("retry", "--failed"), "--failed takes --since"),
        (("retry", "--since", "1h"), "which pipeline?"),
        (("cancel",), "which pipeline?"),
        (("cancel", "x", "--project", "y"), "which pipeline?"),
    ):
        done = fleet.fleet(*arguments)
        assert done.returncode == 1 and said in done.stderr and "Remedy:" in done.stderr, arguments
