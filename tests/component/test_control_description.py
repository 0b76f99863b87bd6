"""The OpenAPI description of the control process is true: with a real server and a real Temporal, schemathesis
finds no request that is answered otherwise."""

import asyncio
import json
import subprocess
import sys
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import jsonschema
import pytest
from starlette.applications import Starlette
from temporalio.client import Client

from fleet.control.web.access import ACCESS, Access, access_to
from fleet.control.web.credentials import PageCredentials
from fleet.control.web.openapi import description
from fleet.control.web.operations import OPERATIONS
from tests.control_server import HealthyFleet, control_app, control_settings, served_control
from tests.temporal import running_temporal

OPERATOR = "a-token-of-the-operator-0123"
SCHEMATHESIS_SECONDS = 200


@dataclass(frozen=True)
class Control:
    """A served control process with the tokens of a reader and an operator."""

    address: str
    temporal: str
    reader: str

    def get(self, path: str, token: str = "") -> httpx.Response:
        headers = {"authorization": f"Bearer {token}"} if token else {}
        return httpx.get(f"{self.address}{path}", headers=headers, trust_env=False, verify=False, timeout=20)


@pytest.fixture(scope="module")
def control(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Control]:
    with running_temporal() as temporal:
        settings = control_settings(tmp_path_factory.mktemp("state"), temporal, control_token=OPERATOR)
        with served_control(settings, HealthyFleet) as address:
            yield Control(address, temporal, PageCredentials.of(settings).token())


def closed(schema: Any) -> Any:
    """The schema, with no fields allowed but those that it names."""
    if isinstance(schema, list):
        return [closed(part) for part in schema]
    if not isinstance(schema, dict):
        return schema
    found = {name: closed(part) for name, part in schema.items()}
    return found | {"additionalProperties": False} if "properties" in found else found


def check(answer: httpx.Response, path: str) -> None:
    """The answer has exactly what the description says of it."""
    document = description()
    told = document["paths"][path]["get"]["responses"][str(answer.status_code)]
    schema = closed(told["content"]["application/json"]["schema"])
    definitions = {"components": {"schemas": closed(document["components"]["schemas"])}}
    jsonschema.validate(answer.json(), schema | definitions)


def found_by_schemathesis(control: Control, folder: Path, *options: str) -> str:
    """What the command says; fails if it finds something."""
    command = [
        sys.executable,
        "-m",
        "schemathesis.cli",
        "run",
        f"{control.address}/openapi.json",
        "--checks",
        "all",
    ]
    command += ["--generation-deterministic", "--request-timeout", "20", "--continue-on-failure"]
    command += ["--no-color", "--warnings", "off", *options]
    done = subprocess.run(
        command, cwd=folder, capture_output=True, text=True, timeout=SCHEMATHESIS_SECONDS, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    # It asks for the description itself, and leaves that operation out.
    assert f"Tested: {len(OPERATIONS) - 1}" in done.stdout, done.stdout
    return done.stdout


@pytest.mark.timeout(SCHEMATHESIS_SECONDS + 40)
def test_schemathesis_finds_nothing(control: Control, tmp_path: Path) -> None:
    token = ("--header", f"Authorization: Bearer {OPERATOR}")
    found_by_schemathesis(control, tmp_path, "--phases", "coverage,fuzzing", "--max-examples", "5", *token)


@pytest.mark.timeout(SCHEMATHESIS_SECONDS + 40)
def test_schemathesis_finds_nothing_without_a_credential_either(control: Control, tmp_path: Path) -> None:
    found_by_schemathesis(control, tmp_path, "--phases", "fuzzing", "--max-examples", "3")


def test_every_route_is_described_and_everything_described_has_a_route(tmp_path: Path) -> None:
    app: Any = control_app(control_settings(tmp_path))
    while not isinstance(app, Starlette):
        app = app._app
    routed = {(method, route.path) for route in app.routes for method in route.methods if method != "HEAD"}
    paths = description()["paths"]
    assert routed == {(method.upper(), path) for path, methods in paths.items() for method in methods}


def test_what_an_operation_needs_is_described() -> None:
    for path, methods in description()["paths"].items():
        for told in methods.values():
            needed = access_to(path) in (Access.READ, Access.OPERATE)
            assert needed == bool(told["security"] and {} not in told["security"]), path
            assert needed == ("401" in told["responses"]) or path == "/login", path
    assert set(description()["paths"]) == set(ACCESS)


def test_it_is_served_to_everybody_on_the_machine(control: Control) -> None:
    assert control.get("/openapi.json").json() == json.loads(json.dumps(description()))


@pytest.mark.parametrize("path", ["/health", "/ready", "/status", "/api/state", "/api/pipelines"])
def test_answers_have_no_fields_that_are_not_described(control: Control, path: str) -> None:
    check(control.get(path, control.reader), path)
    check(control.get(path), path) if access_to(path) is Access.OPEN else None


async def test_a_pipeline_has_no_fields_that_are_not_described(control: Control) -> None:
    client = await Client.connect(control.temporal)
    workflow_id = f"described-{uuid.uuid4().hex[:6]}"
    handle = await client.start_workflow(
        "AssistantPipelineWorkflow", args=["a topic", "demo", None, None], id=workflow_id, task_queue="pipeline"
    )
    path = f"/api/pipeline?workflow_id={workflow_id}"
    check(await asyncio.to_thread(control.get, path, control.reader), "/api/pipeline")
    run = f"{workflow_id}~{handle.first_execution_run_id}"
    check(await asyncio.to_thread(control.get, f"/api/progress?run={run}", control.reader), "/api/progress")
    await handle.terminate()
