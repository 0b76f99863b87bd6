"""A program loads only the packages that it uses: each unused one costs memory in every process."""

import json
import subprocess
import sys

import pytest

SDKS = ["openai", "anthropic", "google.genai"]
TEMPORAL = ["temporalio", "google.protobuf"]
WEB = ["starlette", "uvicorn"]
TERMINAL = ["rich", "typer"]
PRICES = ["genai_prices"]

NOT_LOADED = {
    "guardian": [*SDKS, *TEMPORAL, *WEB, *TERMINAL, *PRICES, "httpx", "sqlite3"],
    "logs": [*SDKS, *TEMPORAL, *WEB, *TERMINAL, *PRICES, "httpx", "sqlite3", "supervisor"],
    "pipeline": [*SDKS, *WEB, *TERMINAL, *PRICES, "httpx", "sqlite3", "supervisor"],
    "assistants": [*SDKS, *WEB, *TERMINAL, *PRICES, "supervisor"],
    "control": [*SDKS, *TERMINAL, *PRICES],
    "llm": [*SDKS, *WEB, *TERMINAL, "supervisor"],
}
PROBE = "import json, sys, workers.{program}; print(json.dumps(list(sys.modules)))"


@pytest.mark.parametrize("program", sorted(NOT_LOADED))
def test_a_program_loads_no_package_that_it_does_not_use(program: str) -> None:
    command = [sys.executable, "-c", PROBE.format(program=program)]
    loaded = json.loads(subprocess.run(command, capture_output=True, text=True, check=True).stdout)
    assert [package for package in NOT_LOADED[program] if package in loaded] == []


@pytest.mark.parametrize("kind", ["openai", "anthropic", "gemini"])
def test_a_provider_process_loads_its_own_sdk_alone(kind: str) -> None:
    own = {"gemini": "google.genai"}.get(kind, kind)
    probe = PROBE.format(program=f"llm, fleet.providers.{kind}.adapter")
    loaded = json.loads(
        subprocess.run([sys.executable, "-c", probe], capture_output=True, text=True, check=True).stdout
    )
    assert [sdk for sdk in SDKS if sdk in loaded] == [own]
