"""A worker process imports only its own provider's SDK, and nothing acts at import."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

SDKS = {"openai": "openai", "anthropic": "anthropic", "gemini": "google.genai"}
PROBE = """
import json, sys
from fleet.config import load_settings
from fleet.providers.registry import provider_factory
import workers.llm
before = [sdk for sdk in {sdks!r} if sdk in sys.modules]
provider_factory(load_settings(api_base_url="http://localhost:1").provider({provider!r}))
print(json.dumps([before, [sdk for sdk in {sdks!r} if sdk in sys.modules]]))
"""


@pytest.mark.parametrize("provider", sorted(SDKS))
def test_a_worker_imports_only_its_own_providers_sdk(provider: str) -> None:
    probe = PROBE.format(sdks=list(SDKS.values()), provider=provider)
    output = subprocess.run([sys.executable, "-c", probe], capture_output=True, text=True, check=True).stdout
    before, after = json.loads(output)
    assert before == []
    assert after == [SDKS[provider]]


@pytest.mark.parametrize("background", [False, True])
def test_what_the_background_needs_of_geminis_sdk_is_loaded_if_it_is_on(background: bool) -> None:
    """It is a second of CPU; with the client, so that no call waits for it."""
    probe = f"""
import sys
from fleet.config import load_settings
from fleet.providers.registry import provider_factory
settings = load_settings(api_base_url="http://localhost:1", providers={{"gemini": {{"background": {background}}}}})
provider_factory(settings.provider("gemini"))("key")
print(any(name.startswith("google.genai._gaos") for name in sys.modules))
"""
    output = subprocess.run([sys.executable, "-c", probe], capture_output=True, text=True, check=True).stdout
    assert output.strip() == str(background)


def test_a_command_that_does_not_use_temporal_does_not_load_its_sdk() -> None:
    commands = ("main", "scale_and_roll", "logs", "down", "find_fleet", "show")
    probe = f"""
import importlib, sys
for command in {commands!r}:
    importlib.import_module("fleet.cli." + command)
    loaded = [module for module in ("temporalio", "httpx", "httpx2", "uvicorn") if module in sys.modules]
    assert not loaded, (command, loaded)
print("none")
"""
    output = subprocess.run([sys.executable, "-c", probe], capture_output=True, text=True, check=True).stdout
    assert output.strip() == "none"


def test_the_help_of_the_command_needs_no_settings() -> None:
    settings = ("pydantic", "loguru", "fleet.config")
    probe = f"import sys, fleet.cli.main; print([module for module in {settings} if module in sys.modules])"
    output = subprocess.run([sys.executable, "-c", probe], capture_output=True, text=True, check=True).stdout
    assert output.strip() == "[]"


def test_garbage_is_collected_in_a_process_that_runs(tmp_path: Path) -> None:
    probe = """
import gc, sys
from fleet.process.lifecycle import run_process
gc.disable()
async def life(*_):
    print(gc.isenabled())
    return 0
run_process("probe", life)
"""
    environment = os.environ | {"API_BASE_URL": "http://localhost:1", "FLEET_STATE_DIR": str(tmp_path)}
    done = subprocess.run([sys.executable, "-c", probe], capture_output=True, text=True, env=environment)
    assert (done.returncode, done.stdout.strip()) == (0, "True"), done.stderr


def test_importing_the_workers_leaves_garbage_collection_alone() -> None:
    probe = "import gc, workers.logs; print(gc.isenabled())"
    output = subprocess.run([sys.executable, "-c", probe], capture_output=True, text=True, check=True).stdout
    assert output.strip() == "True"
