"""``python -m fleet.devstack.simulator --port N``: serve the simulator on loopback."""

import argparse
import json
import sys
from pathlib import Path
from typing import Any

from fleet.devstack.http_program import serve_until_signal
from fleet.devstack.simulator.app import create_app
from fleet.devstack.simulator.engine import Engine
from fleet.devstack.simulator.transports import ReachableProtocol
from fleet.devstack.simulator.vendors import vendor_of

#: Longer than any client keeps an idle connection, as the providers' own front ends do.
KEEP_ALIVE_SECONDS = 75


def configure(engine: Engine, settings: Any) -> None:
    """Apply a configuration file: ``{"limits": [...], "latency": [...], "tenants": [...], "faults": [...]}``,
    each entry as the control of that name takes it.

    Raises:
        ValueError: an entry is wrong.
    """
    if not isinstance(settings, dict):
        raise ValueError("the file must hold a JSON object")
    if unknown := set(settings) - {"limits", "latency", "tenants", "faults"}:
        raise ValueError(f"unknown: {', '.join(sorted(unknown))}")
    for entry in settings.get("limits", []):
        engine.limits.set(entry["provider"], entry.get("model"), entry)
    for entry in settings.get("latency", []):
        engine.latencies[entry["provider"]] = engine.latency_of(entry["provider"]).changed(entry)
    for entry in settings.get("tenants", []):
        engine.limits.set_tenant(entry["provider"], entry["rpm"])
    for entry in settings.get("faults", []):
        engine.faults.add(entry)


def main() -> None:
    """Read the options, serve until SIGTERM."""
    parser = argparse.ArgumentParser(prog="simulator", description="Simulates LLM providers.")
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=8010)
    parser.add_argument("--seed", type=int, default=1, help="answers and latencies repeat under the same seed")
    parser.add_argument("--config", type=Path, help="JSON file with limits, latency, tenants and faults")
    parser.add_argument("--access-log", action="store_true")
    options = parser.parse_args()
    engine = Engine(vendor_of, options.seed)
    try:
        if options.config:
            configure(engine, json.loads(options.config.read_text("utf-8")))
    except (OSError, ValueError, KeyError) as error:
        sys.exit(f"simulator: {options.config}: {error}. Remedy: correct the file")
    serve_until_signal(
        create_app(engine),
        host=options.host,
        port=options.port,
        http=ReachableProtocol,
        access_log=options.access_log,
        log_level="info",
        timeout_graceful_shutdown=1,
        timeout_keep_alive=KEEP_ALIVE_SECONDS,
    )


if __name__ == "__main__":
    main()
