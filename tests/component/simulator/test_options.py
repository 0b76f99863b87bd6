"""The simulator's start options and configuration file."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from fleet.devstack.simulator.__main__ import configure
from fleet.devstack.simulator.engine import Engine
from fleet.devstack.simulator.vendors import vendor_of

GOOD = {
    "limits": [{"provider": "openai", "rpm": 600, "burst_seconds": 6}],
    "latency": [{"provider": "gemini", "median_seconds": 2.5}],
    "tenants": [{"provider": "openai", "rpm": 300}],
    "faults": [{"provider": "anthropic", "kind": "529", "rate": 0.1}],
}


def test_a_file_sets_limits_latency_tenants_and_faults() -> None:
    engine = Engine(vendor_of)
    configure(engine, GOOD)
    (limit,) = engine.limits.shown()
    assert (limit["provider"], limit["rpm"], limit["burst_seconds"]) == ("openai", 600, 6)
    assert engine.latency_of("gemini").median_seconds == 2.5
    assert engine.faults.shown() == [{"provider": "anthropic", "kind": "529", "rate": 0.1, "form": "seconds"}]


BAD: list[tuple[Any, str]] = [
    ([], "must hold a JSON object"),
    ({"limit": []}, "unknown: limit"),
    ({"limits": [{"provider": "openai", "rpm": -1}]}, "rpm must be a number"),
    ({"faults": [{"provider": "openai", "kind": "fire"}]}, "kind must be one of"),
    ({"latency": [{"median_seconds": 1}]}, "provider"),
]


@pytest.mark.parametrize(("content", "said"), BAD, ids=[said for _, said in BAD])
def test_a_wrong_file_is_refused_by_name(tmp_path: Path, content: Any, said: str) -> None:
    path = tmp_path / "simulator.json"
    path.write_text(json.dumps(content), "utf-8")
    command = [sys.executable, "-m", "fleet.devstack.simulator", "--port", "1", "--config", str(path)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 1
    assert "simulator.json" in done.stderr and said in done.stderr and "Traceback" not in done.stderr
