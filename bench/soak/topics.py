"""``scripts/soak.sh topics [--rows N] [--seed N] [--json]``: a file of topics is run to its end while workers are
killed every ten seconds, and the command itself every twenty; it is called again each time.

The last line is one JSON object; the exit status is 1 unless every row completed, and no call was sent again that
had been answered (see ``answers``)."""

import argparse
import asyncio
import json
import random
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from bench.soak.answers import Told, sent_again, told_by
from bench.soak.kills import ENVIRONMENT, Killer
from fleet.contracts import WORKFLOW_TYPE
from tests.fleet import Fleet, json_of, running_fleet

PROJECT = "topics"
COMMAND_SECONDS = 20.0
MAX_CALLS_OF_THE_COMMAND = 500
_LATENCY_SECONDS = 0.1


def run(fleet: Fleet, file: Path, rows: int, chance: random.Random, say: Callable[[str], None]) -> dict[str, Any]:
    """Run all rows; the last line."""
    fleet.add_project(PROJECT, {"model_provider": "openai", "model": "gpt-4o", "max_tokens": 200})
    fleet.simulator.put("latency", provider="openai", median_seconds=_LATENCY_SECONDS, seconds_per_output_token=0)
    fleet.simulator.clear()
    killer, over = Killer([fleet.state], chance, say), threading.Event()
    killing = threading.Thread(target=killer.run, args=(over,), daemon=True)
    killing.start()
    began = time.monotonic()
    try:
        told, killed = _until_done(fleet, ("run", "--topics", str(file), "--project", PROJECT, "--json"), say)
    finally:
        over.set()
        killing.join()
    calls = fleet.simulator.ledger()
    again = sent_again(calls, killer.kills, asyncio.run(_told(fleet)))
    return {
        "rows": rows,
        "completed": told["completed"],
        "failed": told["failed"],
        "seconds": round(time.monotonic() - began, 1),
        "calls": len(calls),
        "answered_and_sent_again": again.answered,
        "cut_off_in_the_answer": again.cut_off_in_the_answer,
        "kills_of_workers": len(killer.kills),
        "kills_of_the_command": killed,
    }


def _until_done(fleet: Fleet, command: tuple[str, ...], say: Callable[[str], None]) -> tuple[dict[str, Any], int]:
    """The command's last line, and how often it was killed before."""
    for killed in range(MAX_CALLS_OF_THE_COMMAND):
        running = fleet.start(*command)
        try:
            output, _ = running.communicate(timeout=COMMAND_SECONDS)
        except subprocess.TimeoutExpired:  # by which it has been killed
            say("kill the command")
        else:
            return json_of(output), killed
    raise SystemExit(f"the rows did not end within {MAX_CALLS_OF_THE_COMMAND} calls of the command")


async def _told(fleet: Fleet) -> dict[str, Told]:
    client, told = await fleet.client(), dict[str, Told]()
    async for pipeline in client.list_workflows(f"WorkflowType = '{WORKFLOW_TYPE}'"):
        result = await client.get_workflow_handle(pipeline.id, run_id=pipeline.run_id).result()
        told |= told_by(pipeline.id, result)
    return told


def main() -> None:
    """Run what was asked for."""
    parser = argparse.ArgumentParser(
        prog="scripts/soak.sh topics", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rows", type=int, default=2000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--json", action="store_true", help="the last line alone")
    options = parser.parse_args()
    began = time.monotonic()

    def say(text: str) -> None:
        if not options.json:
            print(f"{time.monotonic() - began:6.1f} s  {text}", flush=True)

    with (
        tempfile.TemporaryDirectory(prefix="fleet-soak-") as folder,
        running_fleet(Path(folder, "state"), ENVIRONMENT) as fleet,
    ):
        file = Path(folder, "topics.csv")
        file.write_text("topic\n" + "".join(f"Kávovar {row}\n" for row in range(options.rows)), "utf-8")
        result = run(fleet, file, options.rows, random.Random(options.seed), say)
    print(json.dumps(result), flush=True)
    sound = result["completed"] == options.rows and not result["answered_and_sent_again"]
    sys.exit(0 if sound else 1)


if __name__ == "__main__":
    main()
