"""A fleet with a model server of one's own beside simulated providers, and with a provider that is left out."""

import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route

from fleet.devstack.threaded_server import served
from tests.fleet import Fleet, json_of, running_fleet

REAL_KEY = "a-real-key-of-the-user-0123"
ANSWER = "Napsal vlastní model."


@dataclass
class OwnServer:
    """What a llama.cpp or Ollama server answers, without a key; ``headers`` are those of each call."""

    headers: list[dict[str, str]] = field(default_factory=list)

    def app(self) -> Starlette:
        async def models(request: Request) -> JSONResponse:
            return JSONResponse({"object": "list", "data": [{"id": "qwen3:0.6b", "object": "model"}]})

        async def chat(request: Request) -> JSONResponse:
            self.headers.append(dict(request.headers))
            model = json.loads(await request.body())["model"]
            message = {"role": "assistant", "content": ANSWER}
            usage = {"prompt_tokens": 20, "completion_tokens": 5, "total_tokens": 25}
            choices = [{"index": 0, "message": message, "finish_reason": "stop"}]
            return JSONResponse({"id": "1", "model": model, "choices": choices, "usage": usage})

        return Starlette(
            routes=[Route("/v1/models", models), Route("/v1/chat/completions", chat, methods=["POST"])]
        )


@pytest.fixture(scope="module")
def server() -> Iterator[tuple[OwnServer, str]]:
    own = OwnServer()
    with served(own.app()) as address:
        yield own, address


@pytest.fixture(scope="module")
def mixed(tmp_path_factory: pytest.TempPathFactory, server: tuple[OwnServer, str]) -> Iterator[Fleet]:
    environment = {
        "FLEET_PROVIDERS__MINE__BASE_URL": f"{server[1]}/v1",
        "FLEET_PROVIDERS__MINE__NEEDS_KEY": "false",
        "FLEET_PROVIDERS__MINE__PRICES": "0",
        "FLEET_PROVIDERS__KEYED__BASE_URL": f"{server[1]}/v1",
        "KEYED_API_KEY": REAL_KEY,
        "FLEET_BACKEND_TOKEN_FILE": "/nowhere/token",  # of another backend
        "FLEET_PROVIDERS__GROQ__BASE_URL": "https://api.groq.invalid/openai/v1",
        "FLEET_PROVIDERS__GEMINI__ENABLED": "false",
    }
    with running_fleet(tmp_path_factory.mktemp("mixed") / "state", environment) as fleet:
        fleet.add_project("mine", {"model_provider": "mine", "model": "qwen3:0.6b"})
        fleet.add_project("keyed", {"model_provider": "keyed", "model": "qwen3:0.6b"})
        fleet.add_project("groq", {"model_provider": "groq", "model": "llama-3.3-70b"})
        yield fleet


def run(fleet: Fleet, project: str) -> dict[str, Any]:
    done = fleet.fleet("run", "Kávovary", "--project", project, "--json")
    assert done.returncode == 0, done.stderr
    (assistant,) = json_of(done.stdout)["assistants"]
    return json_of(done.stdout) | {"assistant": assistant}


def test_a_server_on_loopback_is_called_itself_without_a_key_and_costs_nothing(
    mixed: Fleet, server: tuple[OwnServer, str]
) -> None:
    own, _ = server
    own.headers.clear()
    result = run(mixed, "mine")
    assert result["final_output"] == ANSWER
    assert (result["assistant"]["simulated"], result["assistant"]["cost_usd"]) == (False, 0.0)
    (headers,) = own.headers
    assert not {"authorization", "x-api-key"} & headers.keys()


def test_a_real_key_is_given_to_the_fleets_own_processes_alone(
    mixed: Fleet, server: tuple[OwnServer, str]
) -> None:
    own, _ = server
    own.headers.clear()
    assert run(mixed, "keyed")["final_output"] == ANSWER
    assert own.headers[0]["authorization"] == f"Bearer {REAL_KEY}"
    address = f"http://127.0.0.1:{mixed.port_base + 2}/api-keys/keyed"
    stranger = httpx.get(address, trust_env=False)
    assert stranger.status_code == 401 and REAL_KEY not in stranger.text
    token_file = mixed.state / "devstack" / "backend-token"
    assert token_file.stat().st_mode & 0o077 == 0
    token = {"Authorization": f"Bearer {token_file.read_text('ascii')}"}
    assert httpx.get(address, headers=token, trust_env=False).json() == {"api_key": REAL_KEY}
    rebound = httpx.get(address, headers=token | {"Host": "evil.example"}, trust_env=False)
    assert rebound.status_code == 400 and REAL_KEY not in rebound.text
    tried = mixed.fleet("provider", "test", "keyed", "--json")
    assert tried.returncode == 0, tried.stderr


def test_an_added_provider_elsewhere_stays_simulated(mixed: Fleet) -> None:
    assert run(mixed, "groq")["assistant"]["simulated"] is True


def test_a_provider_is_tried_with_one_call_at_the_address_that_the_fleet_uses(
    mixed: Fleet, server: tuple[OwnServer, str]
) -> None:
    own, address = server
    own.headers.clear()
    tried = json_of(mixed.fleet("provider", "test", "mine", "--json").stdout)
    assert (tried["address"], tried["model"], tried["answer"]) == (f"{address}/v1", "qwen3:0.6b", ANSWER)
    assert (tried["input_tokens"], tried["output_tokens"], tried["cost_usd"], tried["limits"]) == (20, 5, 0.0, {})
    assert len(own.headers) == 1 and "authorization" not in own.headers[0]
    simulated = mixed.fleet("provider", "test", "openai")
    assert simulated.returncode == 0, simulated.stderr
    for said in ("the simulator", "gpt-6-luna", "nothing is paid", "x-ratelimit-remaining-requests"):
        assert said in simulated.stdout


def test_a_disabled_provider_has_no_process_no_queue_and_no_line_in_doctor(mixed: Fleet) -> None:
    mixed.wait_until_well()
    status = mixed.status()
    assert "gemini" not in {process["program"] for process in status["processes"]}
    assert "llm-gemini" not in {queue["queue"] for queue in status["queues"]}
    shown = mixed.supervisorctl("status").stdout
    assert "openai_00" in shown and "gemini" not in shown
    assert "gemini" not in mixed.fleet("doctor", "--json").stdout
    assert "gemini" not in mixed.fleet("limits").stdout


@pytest.mark.parametrize("command", [("scale", "gemini", "2"), ("roll", "gemini"), ("pause", "gemini")])
def test_a_command_for_a_disabled_provider_says_that_it_is_disabled(
    mixed: Fleet, command: tuple[str, ...]
) -> None:
    done = mixed.fleet(*command)
    assert done.returncode == 78 and "FLEET_PROVIDERS__GEMINI__ENABLED=false" in done.stderr


def test_an_assistant_of_a_disabled_provider_fails_its_pipeline_by_name(mixed: Fleet) -> None:
    done = mixed.fleet("run", "Kávovary", "--project", "seo-demo", "--json")
    assert done.returncode == 1
    assert "research_assistant: provider 'gemini' is disabled" in done.stderr and "Remedy" in done.stderr


def test_a_provider_is_tried_before_any_fleet_is_up(
    idle: Fleet, server: tuple[OwnServer, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    prefix = "FLEET_PROVIDERS__MINE__"
    idle.environment = {f"{prefix}BASE_URL": f"{server[1]}/v1", f"{prefix}NEEDS_KEY": "false"}
    done = idle.fleet("provider", "test", "mine")
    assert (
        done.returncode == 0 and ANSWER in done.stdout and "unknown; FLEET_PROVIDERS__MINE__PRICES" in done.stdout
    )
    idle.environment = {f"{prefix}BASE_URL": "http://127.0.0.1:9/v1", f"{prefix}NEEDS_KEY": "false"}
    away = idle.fleet("provider", "test", "mine")
    assert away.returncode == 1 and "cannot be reached" in away.stderr and "Remedy" in away.stderr
    idle.environment = {f"{prefix}BASE_URL": f"{server[1]}/v1"}
    keyless = idle.fleet("provider", "test", "mine")
    assert "MINE_API_KEY" in keyless.stderr and f"{prefix}NEEDS_KEY=false" in keyless.stderr
