"""Scaling, rolling, health and logs of a running fleet."""

import os
import re
import signal
from collections.abc import Iterator

import pytest
from prometheus_client.parser import text_string_to_metric_families

from fleet.config import PROJECT_ROOT
from tests.commands import Command
from tests.fleet import Fleet, json_of
from tests.waiting import wait_for

RUN = ("run", "Jak vybrat kávovar", "--project", "seo-demo", "--json")
#: Two that are rolled side by side, and one that is rolled after them.
ROLLED = ("anthropic", "openai", "control")


def pids_of(fleet: Fleet, program: str) -> dict[str, int]:
    return {
        process["process"]: process["pid"]
        for process in fleet.status()["processes"]
        if process["program"] == program and process["pid"]
    }


@pytest.fixture
def scaled(fleet: Fleet) -> Iterator[Fleet]:
    """The fleet, with one process of each program again afterwards."""
    wait_for("every program runs", fleet.all_run)
    yield fleet
    for program in ("openai", "anthropic"):
        assert fleet.fleet("scale", program, "1").returncode == 0


def test_scaling_leaves_the_others_alone_and_drifts_from_nothing(scaled: Fleet) -> None:
    first = pids_of(scaled, "openai")
    up = scaled.fleet("scale", "openai", "3")
    assert up.returncode == 0, up.stderr
    three = pids_of(scaled, "openai")
    assert three.keys() == {"openai_00", "openai_01", "openai_02"} and first.items() <= three.items()
    assert "No config updates" in scaled.supervisorctl("reread").stdout
    status = {queue["queue"]: queue["pollers"] for queue in scaled.status()["queues"]}
    assert status["llm-openai"] == 3
    with scaled.latency("openai", 2.0):
        run = scaled.start(*RUN)
        wait_for("a call is on its way", lambda: scaled.in_flight("openai"))
        down = scaled.supervisorctl("scale", "openai", "1")
        assert down.returncode == 0 and "draining openai_01" in down.stdout, down.stdout + down.stderr
        out, err = run.communicate(timeout=120)
    assert {assistant["attempts"] for assistant in json_of(out)["assistants"]} == {1}, err
    assert pids_of(scaled, "openai") == first
    assert "No config updates" in scaled.supervisorctl("reread").stdout


WRONG = [
    (("scale", "nobody", "2"), "there is no program 'nobody'"),
    (("scale", "openai", "0"), "1 to 64 processes"),
    (("scale", "control", "2"), "control always has one process"),
    (("roll", "nobody"), "there is no program 'nobody'"),
]


@pytest.mark.parametrize(("arguments", "said"), WRONG, ids=[said for _, said in WRONG])
def test_what_cannot_be_scaled_or_rolled_is_named(fleet: Fleet, arguments: tuple[str, ...], said: str) -> None:
    done = fleet.fleet(*arguments)
    assert done.returncode == 1 and said in done.stderr and "Remedy:" in done.stderr


def test_a_roll_renews_all_and_no_call_is_lost_or_repeated(scaled: Fleet) -> None:
    assert scaled.fleet("scale", "anthropic", "2").returncode == 0
    before = {process["process"]: process["pid"] for process in scaled.status()["processes"]}
    scaled.simulator.clear()
    runs = [scaled.start(*RUN) for _ in range(2)]
    wait_for("calls are on their way", lambda: scaled.in_flight("openai"))
    rolled = scaled.supervisorctl("roll")
    assert rolled.returncode == 0, rolled.stdout
    for run in runs:
        out, err = run.communicate(timeout=120)
        assert run.returncode == 0, err
        assert {assistant["attempts"] for assistant in json_of(out)["assistants"]} == {1}
    after = {process["process"]: process["pid"] for process in scaled.status()["processes"]}
    assert after.keys() == before.keys() and all(after[name] != before[name] for name in before)
    assert len(scaled.simulator.ledger()) == 16
    assert "No config updates" in scaled.supervisorctl("reread").stdout


def test_the_number_outlives_a_restart_of_supervisord(scaled: Fleet) -> None:
    assert scaled.supervisorctl("scale", "openai", "2").returncode == 0
    before = pids_of(scaled, "openai")
    assert "Restarted" in scaled.supervisorctl("reload").stdout
    after = wait_for("both are back", lambda: _all_new(before, pids_of(scaled, "openai")))
    assert after.keys() == {"openai_00", "openai_01"}
    wait_for("every program runs", scaled.all_run)
    assert "No config updates" in scaled.supervisorctl("reread").stdout


def _all_new(before: dict[str, int], now: dict[str, int]) -> dict[str, int] | None:
    return now if len(now) >= len(before) and not set(now.values()) & set(before.values()) else None


def test_a_roll_that_fails_leaves_the_old_poller_and_the_others(scaled: Fleet) -> None:
    before = {process["process"]: process["pid"] for process in scaled.status()["processes"]}
    in_its_way = scaled.state / "logs" / "anthropic_01.log"
    in_its_way.unlink(missing_ok=True)
    in_its_way.mkdir()  # so the stand-in cannot open its log
    try:
        failed = scaled.fleet("roll", *ROLLED)
    finally:
        in_its_way.rmdir()
    assert failed.returncode == 1 and "the others were left alone; renewed: none" in failed.stderr
    # supervisord gives it up, or on a slow machine takes it for started and starts it again and again.
    assert "anthropic_01 does not come up (" in failed.stderr and "Remedy: " in failed.stderr
    assert {process["process"]: process["pid"] for process in scaled.status()["processes"]} == before
    assert "No config updates" in scaled.supervisorctl("reread").stdout


def test_an_interrupted_roll_says_how_far_it_came_and_leaves_nothing_over(scaled: Fleet) -> None:
    before = {process["process"]: process["pid"] for process in scaled.status()["processes"]}
    rolling = scaled.start("roll", *ROLLED)
    assert rolling.stdout is not None
    wait_for("a process is being renewed", lambda: "renewing" in rolling.stdout.readline())
    rolling.send_signal(signal.SIGINT)
    _, said = rolling.communicate(timeout=60)
    assert rolling.returncode == 130 and "Traceback" not in said
    after = {process["process"]: process["pid"] for process in scaled.status()["processes"]}
    assert after.keys() == before.keys() and all(after.values())
    renewed = {name for name in before if after[name] != before[name]}
    told = re.search(r"renewed: (.+)\. Remedy: roll again", said)
    assert told and set(told[1].split(", ")) == renewed and 0 < len(renewed) < len(ROLLED)


def test_metrics_tell_of_processes_queues_and_budgets(fleet: Fleet) -> None:
    pids = wait_for("every program runs", fleet.all_run)
    fleet.wait_until_well()
    found: dict[str, dict[tuple[str, ...], float]] = {}
    for family in text_string_to_metric_families(fleet.control("metrics").text):
        for sample in family.samples:
            found.setdefault(sample.name, {})[tuple(sample.labels.values())] = sample.value
    assert found["fleet_server_up"] == {("temporal",): 1, ("backend",): 1}
    assert {program for _, program in found["fleet_process_up"]} == pids.keys()
    assert set(found["fleet_process_up"].values()) == {1}
    assert max(found["fleet_process_pulse_age_seconds"].values()) < 10
    assert min(found["fleet_process_uptime_seconds"].values()) >= 0
    assert found["fleet_queue_pollers"][("llm-openai",)] >= 1 and ("pipeline",) in found["fleet_queue_backlog"]
    assert found["fleet_budget_breaker"][("llm-openai", "closed")] == 1
    assert found["fleet_budget_rate_per_second"][("llm-openai",)] > 0


def test_health_says_what_is_wrong_and_when_all_is_well(fleet: Fleet) -> None:
    fleet.wait_until_well()
    assert fleet.control("ready").status_code == 200
    well = fleet.fleet("health", "--json")
    assert (well.returncode, json_of(well.stdout)) == (0, {"ok": True, "problems": []})
    with fleet.without("backend"):
        wait_for("the outage is reported", lambda: fleet.control("health").status_code == 503)
        ill = fleet.fleet("health")
    assert ill.returncode == 1 and "backend" in ill.stdout.lower()
    wait_for("all is well again", lambda: fleet.fleet("health").returncode == 0)
    fleet.supervisorctl("stop", "control:*")
    away = fleet.fleet("health")
    assert away.returncode == 1 and "does not answer" in away.stdout
    fleet.supervisorctl("start", "control:*")


@pytest.mark.parametrize("options", [(), ("--no-wait",)], ids=["waiting", "no wait"])
def test_a_project_that_does_not_exist_is_found_out_before_a_pipeline_starts(
    fleet: Fleet, options: tuple[str, ...]
) -> None:
    done = fleet.fleet("run", "x", "--project", "never-made", *options)
    assert done.returncode == 1 and "project 'never-made' does not exist" in done.stderr
    assert "Remedy:" in done.stderr and "started" not in done.stdout
    assert "never-made" not in fleet.temporal("workflow", "list").stdout


def test_a_paused_queue_is_in_status_and_top_with_the_command_that_resumes_it(fleet: Fleet) -> None:
    wait_for("every program runs", fleet.all_run)
    assert fleet.fleet("pause", "gemini", "--why", "the bill").returncode == 0
    try:
        said = "llm-gemini is paused: the bill; `fleet resume gemini`"
        status = fleet.fleet("status")
        assert status.returncode == 0 and f"note: {said}" in status.stdout, status.stdout
        wait_for("top tells it", lambda: said in fleet.fleet("top", "--once").stdout)
        wait_for(
            "the log of the provider has what its budget said",
            lambda: "PROVIDER PAUSED: llm-gemini: the bill" in fleet.fleet("logs", "--provider", "google").stdout,
        )
        assert "llm-gemini: the bill" not in fleet.fleet("logs", "--provider", "openai", "-n", "1000").stdout
        assert ", 1 queue paused" in fleet.fleet("top", "--once").stdout
    finally:
        assert fleet.fleet("resume", "gemini").returncode == 0
    assert "paused" not in fleet.fleet("status").stdout


def test_logs_say_which_process_died_and_by_what_signal(fleet: Fleet) -> None:
    pids = wait_for("every program runs", fleet.all_run)
    os.kill(pids["openai"], signal.SIGKILL)
    said = f"PROCESS DIED: openai_00 (pid {pids['openai']}): terminated by SIGKILL at "
    wait_for("the log has it", lambda: said in fleet.fleet("logs", "--provider", "openai").stdout)
    wait_for("every program runs", fleet.all_run)
    assert fleet.fleet("logs", "-n", "10000").stdout.count(said) == 1


def test_supervisorctl_in_a_checkout_finds_the_fleet_of_the_state_folder(
    fleet: Fleet, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(PROJECT_ROOT)
    done = Command("supervisorctl", "status", environment=fleet.variables).end(30)
    assert "openai:openai_00" in done.stdout and f"FLEET_STATE_DIR, {fleet.state}" in done.stderr


def test_logs_are_one_story_in_order_of_time(fleet: Fleet) -> None:
    done = fleet.fleet(*RUN)
    workflow = json_of(done.stdout)["workflow_id"]
    told = wait_for("all is merged", lambda: _story(fleet, workflow))
    assert [line["time"] for line in told] == sorted(line["time"] for line in told)
    assert {line["process"] for line in told} >= {"assistants_00", "openai_00", "anthropic_00", "gemini_00"}
    only = fleet.fleet("logs", "--workflow", workflow, "--provider", "gemini", "-n", "50").stdout.splitlines()
    assert only and all("gemini_00" in line for line in only if not line.startswith(" "))
    nothing = fleet.fleet("logs", "--level", "error", "--since", "0s")
    assert nothing.returncode == 0 and nothing.stdout == ""
    assert nothing.stderr == "fleet: no line of the logs matches. Remedy: see all of them with `fleet logs`\n"
    merged = fleet.state / "logs" / "worker_production.log"
    wait_for("it is in the merged file", lambda: workflow in merged.read_text("utf-8"))
    for wrong, said in ((("--since", "later"), "is not a valid time"), (("--level", "loud"), "unknown log level")):
        refused = fleet.fleet("logs", *wrong)
        assert refused.returncode == 1 and said in refused.stderr


def _story(fleet: Fleet, workflow: str) -> list[dict[str, str]] | None:
    lines = [json_of(line) for line in fleet.fleet("logs", "--workflow", workflow, "--json").stdout.splitlines()]
    return lines if sum("ACTIVITY SUCCESS" in line["message"] for line in lines) == 9 else None


def test_logs_follow_what_comes(fleet: Fleet) -> None:
    following = fleet.start("logs", "-f", "-n", "0", "--json")
    try:
        done = fleet.fleet(*RUN)
        workflow = json_of(done.stdout)["workflow_id"]
        assert following.stdout is not None
        seen = 0
        for line in following.stdout:
            seen += json_of(line).get("workflow_id") == workflow
            if seen >= 20:
                break
        assert seen >= 20
    finally:
        os.kill(following.pid, signal.SIGINT)
        following.communicate(timeout=30)
    assert following.returncode == 130


def test_the_doctor_finds_nothing_and_then_what_is_wrong(fleet: Fleet) -> None:
    wait_for("every program runs", fleet.all_run)
    well = fleet.fleet("doctor", "--json")
    checks = {check["what"]: check for check in json_of(well.stdout)["checks"]}
    # The added provider has no key in the backend's sample; other tests have had pipelines fail on purpose.
    wrong = {
        what for what, check in checks.items() if not check["ok"] and not what.startswith(("pipelines", "assis"))
    }
    assert wrong <= {"API key of groq"}, [checks[what] for what in wrong]
    assert {
        "Temporal",
        "namespace",
        "clock",
        "supervisord.conf",
        "queue llm-openai",
        "journal of gemini",
    } <= checks.keys()
    assert "sim-openai-key" not in well.stdout
    assert not checks["namespace"]["remedy"], "the embedded server ends the polls of what drains"
    stray = fleet.state / "programs.d" / "stray.conf"
    stray.write_text("[program:openai]\nstopwaitseconds=30\nstopwaitsecs=5\n", "utf-8")
    fleet.state.chmod(0o755)
    try:
        with fleet.without("backend"):
            ill = fleet.fleet("doctor")
    finally:
        fleet.state.chmod(0o700)
        stray.unlink()
    assert ill.returncode == 1 and "Traceback" not in ill.stderr
    for said in (
        "unknown key stopwaitseconds",
        "stopwaitsecs 5 of openai",
        "is open to others",
        "remedy: chmod 700",
    ):
        assert said in ill.stdout, ill.stdout
    fleet.wait_until_well()
