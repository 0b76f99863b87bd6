"""The soak, shortened: scaled, rolled, restarted and killed, and nothing lost."""

import subprocess
import sys

import pytest

from fleet.config import PROJECT_ROOT
from tests.fleet import json_of


@pytest.mark.timeout(600)
def test_a_fleet_that_is_scaled_rolled_restarted_and_killed_loses_nothing() -> None:
    command = [sys.executable, "-m", "bench.soak", "--minutes", "1", "--seed", "3", "--json"]
    done = subprocess.run(command, cwd=PROJECT_ROOT, capture_output=True, text=True, timeout=590, check=False)
    assert done.returncode == 0, done.stderr + done.stdout
    result = json_of(done.stdout)
    assert result["failed"] == 0 and result["completed"] == result["pipelines"] > 10
    assert result["answered_and_sent_again"] == 0 and result["calls"] >= 8 * result["pipelines"]
    assert (result["scales"], result["rolls"], result["restarts"]) == (2, 2, 1) and result["kills"] >= 3
    gaps = result["max_seconds_without_poller"]
    assert gaps.keys() == {"pipeline", "control", "assistants", "llm-openai", "llm-anthropic", "llm-gemini"}
    assert max(gaps.values()) <= 15
