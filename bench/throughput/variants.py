"""The two variants, and the pipelines that both run."""

import asyncio
import json
import tempfile
import uuid
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path

from temporalio.client import Client

from bench.throughput.bare import PIPELINE, queue_of
from bench.throughput.processes import PROVIDERS, Processes, bare_works, fleet_works
from fleet.contracts import PIPELINE_QUEUE, WORKFLOW_TYPE
from tests.fleet import Fleet, running_fleet

LATENCY_SECONDS = 0.01
PROJECT, ASSISTANTS = "chain", 8
MODELS = {"openai": "gpt-4o", "anthropic": "claude-haiku-4-5", "gemini": "gemini-3.5-flash-lite"}


@dataclass(frozen=True)
class Variant:
    """How one of the two is run: its processes, and its workflow."""

    name: str
    works: Callable[[Fleet], AbstractContextManager[Processes]]
    workflow: str
    queue: str


VARIANTS = (
    Variant("bare", bare_works, PIPELINE, queue_of("pipeline")),
    Variant("fleet", fleet_works, WORKFLOW_TYPE, PIPELINE_QUEUE),
)


def prepare(fleet: Fleet) -> None:
    """Quick providers without limits, and a project of eight assistants, each of which reads the one before it."""
    for provider in PROVIDERS:
        quick = {"median_seconds": LATENCY_SECONDS, "sigma": 0, "seconds_per_output_token": 0}
        fleet.simulator.put("latency", provider=provider, **quick)
    rows = []
    for number in range(ASSISTANTS):
        provider = PROVIDERS[number % len(PROVIDERS)]
        inputs = [f"assistant_{number}"] if number else ["topic"]
        rows.append(
            {
                "model_provider": provider,
                "model": MODELS[provider],
                "max_tokens": 3000,
                "input_keys": json.dumps(inputs),
            }
        )
    fleet.add_project(PROJECT, *rows)


async def run_pipelines(client: Client, variant: Variant, count: int) -> list[str]:
    """Start so many at once, and wait for all; their ids."""
    names = [f"{variant.name}-{uuid.uuid4().hex[:12]}" for _ in range(count)]
    await asyncio.gather(
        *(
            client.execute_workflow(
                variant.workflow, args=["Kávovary", PROJECT], id=name, task_queue=variant.queue
            )
            for name in names
        )
    )
    return names


@contextmanager
def stopped_fleet(environment: Mapping[str, str] | None = None) -> Iterator[Fleet]:
    """The servers of a fleet whose programs are stopped, ready for both variants, until the block ends;
    ``environment`` has further variables of its programs."""
    with (
        tempfile.TemporaryDirectory(prefix="fleet-bench-") as folder,
        running_fleet(Path(folder, "state"), environment or {}) as fleet,
    ):
        prepare(fleet)
        fleet.supervisorctl("stop", "all")
        yield fleet
