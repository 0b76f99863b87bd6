"""A supervised fleet through its commands: what it shows, what it survives, what it refuses."""

import os
import signal
import socket
import subprocess
import time
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from temporalio.api.enums.v1 import TaskQueueKind, TaskQueueType
from temporalio.api.taskqueue.v1 import TaskQueue
from temporalio.api.workflowservice.v1 import DescribeTaskQueueRequest

from fleet.config import PROJECT_ROOT
from tests.fleet import PROGRAMS, Fleet, json_of
from tests.waiting import wait_for

RUN = ("run", "Jak vybrat kávovar", "--project", "seo-demo", "--json")
#: What a fleet's processes have no use for.
OF_THE_SHELL = (
    "AWS_SECRET_ACCESS_KEY",
    "GIT_SSH_COMMAND",
    "HTTPS_PROXY",
    "OPENAI_API_KEY",
    "PYTHONSTARTUP",
)
ASSISTANT_FIELDS = {
    "name",
    "function_key",
    "provider",
    "model",
    "status",
    "attempts",
    "calls",
    "seconds",
    "input_tokens",
    "output_tokens",
    "cost_usd",
    "price_note",
    "service_tier",
    "simulated",
    "possibly_paid_twice",
    "reused",
}


def test_status_shows_servers_processes_and_queues(fleet: Fleet) -> None:
    fleet.wait_until_well()
    status = fleet.status()
    assert status["temporal"]["ok"] and status["backend"]["ok"]
    assert status["temporal"]["address"] == f"127.0.0.1:{fleet.port_base}"
    processes = {process["program"]: process for process in status["processes"]}
    assert processes.keys() == PROGRAMS | {"groq", "lasting", "enduring"}
    assert all(
        process["pid"] and process["process"] == f"{process['program']}_00" for process in status["processes"]
    )
    queues = {queue["queue"]: queue for queue in status["queues"]}
    assert queues.keys() == {
        "pipeline",
        "control",
        "assistants",
        "llm-openai",
        "llm-anthropic",
        "llm-gemini",
        "llm-groq",
        "llm-groq-llama-guard",
        "llm-lasting",
        "llm-enduring",
    }
    assert {queue["pollers"] for queue in queues.values()} == {1}
    assert status["machines"] == [], "there is no other one on this server"
    fleet.wait_for_open_pipelines()  # of other tests
    wait_for("nothing waits", lambda: {queue["backlog"] for queue in fleet.seen().get("queues", [])} == {0})


async def test_a_process_is_known_by_its_machine_and_not_by_the_hosts_name_alone(fleet: Fleet) -> None:
    machine = json_of((fleet.state / "machine.json").read_text("utf-8"))["id"]
    queue = TaskQueue(name="llm-openai", kind=TaskQueueKind.TASK_QUEUE_KIND_NORMAL)
    client = await fleet.client()
    described = await client.workflow_service.describe_task_queue(
        DescribeTaskQueueRequest(
            namespace=client.namespace,
            task_queue=queue,
            task_queue_type=TaskQueueType.TASK_QUEUE_TYPE_ACTIVITY,
            report_pollers=True,
        )
    )
    identities = {poller.identity for poller in described.pollers}
    assert f"openai_00@{socket.gethostname()}+{machine}:{fleet.pids()['openai']}" in identities


def test_a_pipeline_runs_and_is_reported_in_one_object(fleet: Fleet) -> None:
    fleet.simulator.clear()
    csv = fleet.state / "keywords.csv"
    csv.write_text("klíčové slovo,hledanost\nkávovar,100\n", "utf-8")
    done = fleet.fleet(*RUN, "--csv", str(csv), "--date", "2025-01-31")
    assert done.returncode == 0, done.stderr
    result = json_of(done.stdout)
    assert (result["status"], len(result["assistants"]), result["not_run"]) == ("completed", 8, [])
    assert all(
        assistant.keys() == ASSISTANT_FIELDS and assistant["status"] == "done"
        for assistant in result["assistants"]
    )
    assert {assistant["attempts"] for assistant in result["assistants"]} == {1}
    assert all(assistant["simulated"] and assistant["cost_usd"] > 0 for assistant in result["assistants"])
    assert result["cost_usd"] == 0 < result["simulated_cost_usd"]
    assert "[SIMULATOR]" in result["final_output"]
    # Six calls deep, each of 0.4 s or so; the calls beside them do not count.
    durations = [call["seconds"] for call in fleet.simulator.ledger()]
    assert max(durations) * 2 < result["critical_path_seconds"] < sum(durations)
    assert result["critical_path_seconds"] <= result["seconds"]


@pytest.mark.parametrize("victims", [("openai", "gemini", "anthropic", "assistants"), ("pipeline",)], ids=len)
def test_a_pipeline_completes_although_workers_are_killed(fleet: Fleet, victims: tuple[str, ...]) -> None:
    wait_for("every program runs", fleet.all_run)
    fleet.simulator.clear()
    pids = fleet.pids()
    run = fleet.start(*RUN)
    for victim in victims:
        wait_for(f"a call of {victim} is on its way", partial(_in_flight, fleet, victim))
        os.kill(pids[victim], signal.SIGKILL)
    out, err = run.communicate(timeout=120)
    assert run.returncode == 0, err
    result = json_of(out)
    assert (result["status"], len(result["assistants"])) == ("completed", 8)
    by_provider: dict[str, int] = {}
    for assistant in result["assistants"]:
        by_provider[assistant["provider"]] = max(assistant["attempts"], by_provider.get(assistant["provider"], 0))
    assert by_provider == {name: 2 if name in victims else 1 for name in by_provider}
    again = wait_for("all are started again", fleet.all_run)
    assert {name for name in pids if again[name] != pids[name]} == set(victims)


def _in_flight(fleet: Fleet, victim: str) -> bool:
    provider = victim if victim in ("openai", "anthropic", "gemini") else None
    calls = fleet.simulator.ledger()
    return any(call["outcome"] == "in_flight" and provider in (None, call["provider"]) for call in calls)


def test_a_worker_that_is_told_to_stop_finishes_its_call_first(fleet: Fleet) -> None:
    wait_for("every program runs", fleet.all_run)
    fleet.simulator.clear()
    run = fleet.start(*RUN)
    wait_for("a call of openai is on its way", lambda: _in_flight(fleet, "openai"))
    fleet.supervisorctl("signal", "TERM", "openai:*")
    out, err = run.communicate(timeout=120)
    assert run.returncode == 0, err
    assert {assistant["attempts"] for assistant in json_of(out)["assistants"]} == {1}
    assert len(fleet.simulator.ledger()) == 8
    assert "openai_00 has drained" in fleet.log("openai_00")
    assert "exited: openai_00 (exit status 0; expected)" in fleet.log("supervisord")


def test_an_added_provider_has_its_own_queue_and_program(fleet: Fleet) -> None:
    wait_for("every program runs", fleet.all_run)
    fleet.simulator.clear()
    fleet.add_project("groq-only", {"model_provider": "groq", "model": "llama-3.3-70b"})
    done = fleet.fleet("run", "Kávovar", "--project", "groq-only", "--json")
    assert done.returncode == 0, done.stderr
    (call,) = fleet.simulator.ledger()
    assert (call["provider"], call["api"], call["model"]) == ("groq", "chat", "llama-3.3-70b")
    assert json_of(done.stdout)["assistants"][0]["cost_usd"] is None


def test_a_failed_pipeline_says_why_and_keeps_what_was_answered(fleet: Fleet) -> None:
    wait_for("every program runs", fleet.all_run)
    fleet.simulator.fault("anthropic", "404")
    done = fleet.fleet(*RUN)
    result = json_of(done.stdout)
    assert (done.returncode, result["status"]) == (1, "failed")
    by_name = {assistant["name"]: assistant["status"] for assistant in result["assistants"]}
    assert by_name == {"BriefAssistant": "done", "ResearchAssistant": "done", "FactValidator": "failed"}
    assert result["not_run"][0] == "DraftAssistant" and result["error"]["provider"] == "anthropic"
    assert done.stderr.splitlines()[-1].startswith("fleet: FactValidator: anthropic: ")


REFUSALS = [
    (("run", "t", "--project", "nobody"), "project 'nobody' does not exist"),
    (("run", "", "--project", "seo-demo"), "topic is empty"),
    (("run", "t", "--project", "seo-demo", "--date", "31.1.2025"), "current_date"),
    (("run", "t", "--project", "seo-demo", "--csv", "missing.csv"), "missing.csv cannot be read"),
    (("up",), "a fleet is up in"),
]


@pytest.mark.parametrize(("arguments", "said"), REFUSALS)
def test_what_cannot_be_done_ends_in_one_line(fleet: Fleet, arguments: tuple[str, ...], said: str) -> None:
    done = fleet.fleet(*arguments)
    assert done.returncode == 1
    complaints = [line for line in done.stderr.splitlines() if line.startswith("fleet: ")]
    assert len(complaints) == 1 and said in complaints[0] and "Remedy:" in complaints[0]
    assert "Traceback" not in done.stdout + done.stderr


def test_a_backend_that_is_away_is_waited_for(fleet: Fleet) -> None:
    said = "⏳ ACTIVITY WAITS"
    before = fleet.log("assistants_00").count(said)
    with fleet.without("backend"):
        run = fleet.start(*RUN)
        wait_for("it is waited for", lambda: fleet.log("assistants_00").count(said) > before)
    out, err = run.communicate(timeout=120)
    assert run.returncode == 0, err
    assert json_of(out)["status"] == "completed"


def test_a_preview_shows_what_would_be_sent_without_a_call(fleet: Fleet) -> None:
    fleet.simulator.clear()
    csv = fleet.state / "keywords.csv"
    csv.write_text("klíčové slovo,hledanost\nkávovar,100\n", "utf-8")
    arguments = ("preview", "--project", "seo-demo", "--csv", str(csv), "--date", "2025-01-31")
    brief = json_of(fleet.fleet(*arguments, "--assistant", "brief_assistant", "--json").stdout)
    assert brief["user_message"].startswith("Current date: 2025-01-31")
    assert "| kávovar | 100 |" in brief["user_message"] and brief["input_tokens"] > 20
    assert 0 < brief["input_usd"] < brief["most_usd"]
    draft = fleet.fleet(*arguments, "--assistant", "DraftAssistant")
    assert draft.returncode == 0 and "(what FactValidator will have answered)" in draft.stdout
    nobody = fleet.fleet(*arguments, "--assistant", "nobody")
    assert nobody.returncode == 1 and "has no assistant 'nobody'" in nobody.stderr
    assert fleet.simulator.ledger() == []


def test_no_wait_returns_while_the_pipeline_runs(fleet: Fleet) -> None:
    started = json_of(fleet.fleet(*RUN, "--no-wait").stdout)
    assert started["status"] == "running" and started["workflow_id"].startswith("seo-demo-")
    assert len(started["run_id"]) == 36


def test_the_socket_and_the_state_folder_are_private(fleet: Fleet) -> None:
    assert fleet.state.stat().st_mode & 0o777 == 0o700
    assert (fleet.state / "supervisor.sock").stat().st_mode & 0o777 == 0o700


def test_a_taken_port_is_named_and_nothing_is_left_behind(fleet: Fleet, idle: Fleet) -> None:
    up = idle.fleet("up", "--detach", "--port-base", str(fleet.port_base))
    assert up.returncode == 1 and f"port {fleet.port_base}" in up.stderr and "--port-base" in up.stderr
    assert not (idle.state / "fleet.json").exists()


def test_a_demo_runs_beside_another_fleet_whatever_the_environment_says(
    fleet: Fleet, idle: Fleet, tmp_path: Path
) -> None:
    personal = tmp_path / "config" / "temporalio" / "temporal.toml"
    personal.parent.mkdir(parents=True)
    personal.write_text('[profile.production]\naddress = "unreachable.invalid:7233"\n', "utf-8")
    idle.environment = {
        "TEMPORAL_HOST": "unreachable.invalid:7233",
        "TEMPORAL_ADDRESS": "unreachable.invalid:7233",
        "TEMPORAL_API_KEY": "of-production-0123456789",
        "TEMPORAL_TLS_CLIENT_CERT_PATH": "/nowhere/client.crt",
        "TEMPORAL_PROFILE": "no-such-profile",
        "XDG_CONFIG_HOME": str(tmp_path / "config"),
        "API_BASE_URL": "http://unreachable.invalid",
        **dict.fromkeys(OF_THE_SHELL, "of-the-shell"),
        "LD_PRELOAD": "libm.so.6",
    }
    command = [str(PROJECT_ROOT / "scripts/demo.sh"), "--json", "--keep", "--port-base", str(idle.port_base)]
    done = subprocess.run(command, env=idle.variables, capture_output=True, text=True, timeout=180, check=False)
    assert done.returncode == 0, done.stderr
    result: dict[str, Any] = json_of(done.stdout)
    assert (result["status"], len(result["assistants"])) == ("completed", 8)
    pids = wait_for("the programs run", lambda: pids if (pids := idle.pids()).keys() == PROGRAMS else None)
    servers = {name: idle.server(name).pid for name in ("temporal", "backend", "simulator", "supervisord")}
    for name, pid in (pids | servers).items():
        environment = Path("/proc", str(pid), "environ").read_text("utf-8")
        given = {variable.partition("=")[0] for variable in environment.split("\0")}
        assert "of-production" not in environment, name
        assert not given & {*OF_THE_SHELL, "LD_PRELOAD"} and {"PATH", "HOME"} <= given, name
    idle.wait_until_well()
    _processes_die_with_supervisord(idle, pids)
    fleet.wait_until_well()


def _processes_die_with_supervisord(fleet: Fleet, pids: dict[str, int]) -> None:
    os.kill(int(fleet.supervisorctl("pid").stdout), signal.SIGKILL)
    wait_for("the workers leave", lambda: not any(Path("/proc", str(pid)).exists() for pid in pids.values()))
    down = fleet.fleet("down")
    assert down.returncode == 0, down.stderr
    assert not (fleet.state / "fleet.json").exists()


def test_a_second_signal_ends_a_draining_worker_at_once(fleet: Fleet) -> None:
    wait_for("every program runs", fleet.all_run)
    fleet.simulator.clear()
    fleet.simulator.fault("groq", "hang")
    fleet.add_project("groq-hangs", {"model_provider": "groq", "model": "llama-3.3-70b"})
    started = json_of(fleet.fleet("run", "Kávovar", "--project", "groq-hangs", "--no-wait", "--json").stdout)
    wait_for("the call hangs", lambda: fleet.simulator.ledger())
    pid = fleet.pids()["groq"]
    os.kill(pid, signal.SIGTERM)
    wait_for("it drains", lambda: "draining" in fleet.log("groq_00"))
    time.sleep(0.5)  # the drain goes on: the call hangs
    assert Path("/proc", str(pid)).exists()
    os.kill(pid, signal.SIGTERM)
    wait_for("it is gone", lambda: not Path("/proc", str(pid)).exists(), 5)
    # The next process would send the call again, while other tests count theirs.
    assert fleet.temporal("workflow", "terminate", "--workflow-id", started["workflow_id"]).returncode == 0
    fleet.simulator.clear()
    fleet.wait_for_open_pipelines()
