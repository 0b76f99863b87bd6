"""A program loads only the packages that it uses: each unused one costs memory in every process. Which SDK the
process of a provider loads is in tests/process/test_imports.py.
"""

import json
import subprocess
import sys

import pytest

SDKS = ["openai", "anthropic", "google.genai"]
TEMPORAL = ["temporalio", "google.protobuf"]
WEB = ["starlette", "uvicorn"]
TERMINAL = ["rich", "typer"]
PRICES = ["genai_prices"]
HTTP = ["httpx", "httpx2"]
#: Messages of services of Temporal that no program uses.
SERVICES = [f"temporalio.api.{name}.v1.request_response_pb2" for name in ("cloud.cloudservice", "operatorservice")]

NOT_LOADED = {
    "guardian": [*SDKS, *TEMPORAL, *WEB, *TERMINAL, *PRICES, *HTTP, "sqlite3", "supervisor"],
    "logs": [*SDKS, *TEMPORAL, *WEB, *TERMINAL, *PRICES, *HTTP, "sqlite3", "supervisor"],
    "pipeline": [*SDKS, *SERVICES, *WEB, *TERMINAL, *PRICES, *HTTP, "sqlite3", "supervisor"],
    "assistants": [*SDKS, *SERVICES, *WEB, *TERMINAL, *PRICES, "supervisor"],
    "control": [*SDKS, *SERVICES, *TERMINAL, *PRICES, "supervisor"],
    "llm": [*SDKS, *SERVICES, *WEB, *TERMINAL, "supervisor"],
}
PROBE = "import json, sys, workers.{program}; print(json.dumps(list(sys.modules)))"


@pytest.mark.parametrize("program", sorted(NOT_LOADED))
def test_a_program_loads_no_package_that_it_does_not_use(program: str) -> None:
    command = [sys.executable, "-c", PROBE.format(program=program)]
    loaded = json.loads(subprocess.run(command, capture_output=True, text=True, check=True).stdout)
    assert [package for package in NOT_LOADED[program] if package in loaded] == []
