"""CPU time of each program's start: ``scripts/bench.sh startup [--rounds N] [--baseline CHECKOUT] [--json]``.

A row is one start, from the process's first instruction to its first poll: for a worker, until the Temporal server
lists it as a poller; for ``control`` its first answer over HTTP; for ``guardian`` its first READY to supervisord;
for ``logs`` the first look. ``cpu_seconds`` is the CPU time that the kernel counted for the process by then,
``seconds`` the time on the clock. ``idle_cpu_seconds`` is the CPU time two seconds later, so that work which was
only put off is seen. A command (``fleet ...``) is measured until it ends.

With ``--baseline`` another checkout is started in turn with this one; the last row then has the ratios of the
medians, this one's over the baseline's. Both use the environment in their ``.venv``, or the one that
``--environment`` and ``--baseline-environment`` name. One made by ``make_environment FOLDER devstack``
(scripts/environment.sh) has what an installation has, and no package that only tests need.
"""

import argparse
import asyncio
import contextlib
import json
import os
import platform
import resource
import tempfile
import time
from asyncio.subprocess import Process
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from statistics import median

import httpx
from temporalio.api.enums.v1 import TaskQueueType
from temporalio.api.taskqueue.v1 import TaskQueue
from temporalio.api.workflowservice.v1 import DescribeTaskQueueRequest
from temporalio.client import Client

from fleet.config import PROJECT_ROOT, load_settings
from fleet.devstack.detached_processes import end_processes
from fleet.devstack.simulated_settings import simulated_providers
from fleet.devstack.stack import Ports, Stack
from tests.ports import free_port_base

LOOK_SECONDS = 0.01
IDLE_SECONDS = 2.0
GIVE_UP_SECONDS = 60.0
FIGURES = ("cpu_seconds", "idle_cpu_seconds")
WORKFLOW, ACTIVITY = TaskQueueType.TASK_QUEUE_TYPE_WORKFLOW, TaskQueueType.TASK_QUEUE_TYPE_ACTIVITY


@dataclass(frozen=True)
class Program:
    """One program: its module with arguments, and the queue that it polls, if any."""

    name: str
    module: tuple[str, ...]
    queue: str = ""
    kind: TaskQueueType.ValueType = ACTIVITY


@dataclass(frozen=True)
class Checkout:
    """A checkout of the project, and the environment that it is started with."""

    folder: Path
    environment: Path


PROGRAMS = (
    Program("pipeline", ("workers.pipeline",), "pipeline", WORKFLOW),
    Program("assistants", ("workers.assistants",), "assistants"),
    *(Program(name, ("workers.llm", name), f"llm-{name}") for name in ("openai", "anthropic", "gemini")),
    Program("control", ("workers.control",)),
    Program("logs", ("workers.logs",)),
    Program("guardian", ("workers.guardian",)),
)
#: Commands, which are measured from their start to their end.
COMMANDS = (
    Program("fleet --help", ("fleet.cli", "--help")),
    Program("fleet limits", ("fleet.cli", "limits")),
    Program("fleet status", ("fleet.cli", "status")),
    Program("fleet down", ("fleet.cli", "down")),
)


def cpu_seconds(pid: int) -> float:
    """CPU time of a process and its threads. Source: proc(5), utime and stime."""
    fields = Path("/proc", str(pid), "stat").read_text("utf-8").rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


@dataclass
class Stage:
    """The embedded stack, and how to see that a program has begun its work."""

    folder: Path
    ports: Ports
    client: Client

    def environment(self, state: Path) -> dict[str, str]:
        base = f"http://127.0.0.1:{self.ports.simulator}"
        providers = load_settings(API_BASE_URL="http://localhost").providers.values()
        clean = {name: value for name, value in os.environ.items() if not name.startswith(("FLEET_", "TEMPORAL_"))}
        return clean | {
            "API_BASE_URL": f"http://127.0.0.1:{self.ports.backend}",
            "TEMPORAL_HOST": f"127.0.0.1:{self.ports.temporal}",
            "FLEET_STATE_DIR": str(state),
            "FLEET_CONTROL_PORT": str(self.ports.control),
            **simulated_providers(base, providers),
        }

    async def polls(self, program: Program, pid: int) -> bool:
        """Whether the server lists the process as a poller."""
        request = DescribeTaskQueueRequest(
            namespace="default", task_queue=TaskQueue(name=program.queue), task_queue_type=program.kind
        )
        described = await self.client.workflow_service.describe_task_queue(request)
        return any(poller.identity.endswith(f":{pid}") for poller in described.pollers)

    async def answers(self) -> bool:
        try:
            async with httpx.AsyncClient(trust_env=False) as client:
                await client.get(f"http://127.0.0.1:{self.ports.control}/ready")
        except httpx.TransportError:
            return False
        return True

    def begun(self, program: Program, pid: int, state: Path) -> Callable[[], Awaitable[bool]]:
        """What tells that a program does what it is there for."""

        async def look() -> bool:
            if program.queue:
                return await self.polls(program, pid)
            if program.name == "control":
                return await self.answers()
            if program.name == "guardian":
                return (state / "stdout").read_bytes().startswith(b"READY")
            with contextlib.suppress(OSError, ValueError):
                liveness = json.loads((state / "pulse" / f"{program.name}.json").read_text("utf-8"))
                return bool(liveness["stage"] == "serving")
            return False

        return look

    @contextlib.asynccontextmanager
    async def process(self, checkout: Checkout, program: Program, state: Path) -> AsyncIterator[Process]:
        """A program of a checkout, which is killed when the block ends."""
        with (state / "stdout").open("wb") as out, (state / "stderr").open("wb") as err:
            process = await asyncio.create_subprocess_exec(
                checkout.environment / "bin/python",
                "-P",
                "-m",
                *program.module,
                cwd=checkout.folder,
                env=self.environment(state) | {"PYTHONPATH": str(checkout.folder)},
                stdin=asyncio.subprocess.PIPE,
                stdout=out,
                stderr=err,
            )
        try:
            yield process
        finally:
            with contextlib.suppress(ProcessLookupError):
                process.kill()
            await process.wait()

    async def start(self, checkout: Checkout, program: Program) -> dict[str, float]:
        """Start a program of a checkout, and end it again once it works."""
        with tempfile.TemporaryDirectory(dir=self.folder) as folder:
            state, began = Path(folder), time.monotonic()
            async with self.process(checkout, program, state) as process, asyncio.timeout(GIVE_UP_SECONDS):
                look = self.begun(program, process.pid, state)
                while not await look():
                    if process.returncode is not None:
                        raise RuntimeError(f"{program.name} ended: {(state / 'stderr').read_text('utf-8')}")
                    await asyncio.sleep(LOOK_SECONDS)
                took, cpu = time.monotonic() - began, cpu_seconds(process.pid)
                await asyncio.sleep(IDLE_SECONDS)
                idle = cpu_seconds(process.pid)
        return {"cpu_seconds": cpu, "idle_cpu_seconds": idle, "seconds": round(took, 3)}

    async def run(self, checkout: Checkout, command: Program) -> dict[str, float]:
        """Run a command to its end, where no fleet is up."""
        with tempfile.TemporaryDirectory(dir=self.folder) as folder:
            before, began = resource.getrusage(resource.RUSAGE_CHILDREN), time.monotonic()
            async with self.process(checkout, command, Path(folder)) as process, asyncio.timeout(GIVE_UP_SECONDS):
                await process.wait()
            after, took = resource.getrusage(resource.RUSAGE_CHILDREN), time.monotonic() - began
        cpu = round(after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime, 3)
        return {"cpu_seconds": cpu, "idle_cpu_seconds": cpu, "seconds": round(took, 3)}


@contextlib.contextmanager
def running_stack(folder: Path) -> Iterator[Ports]:
    """Temporal, backend and simulator, until the block ends."""
    ports = Ports.from_base(free_port_base())
    records = Stack(folder / "devstack", folder / "logs", ports).start()
    try:
        yield ports
    finally:
        end_processes(records)


async def measure(
    checkouts: dict[str, Checkout], rounds: int, names: list[str], say: Callable[[dict[str, object]], None]
) -> None:
    """All programs of all checkouts, in turn, and the ratios."""
    took: dict[tuple[str, str, str], list[float]] = {}
    programs = [program for program in (*PROGRAMS, *COMMANDS) if not names or program.name in names]
    with tempfile.TemporaryDirectory() as folder, running_stack(Path(folder)) as ports:
        stage = Stage(Path(folder), ports, await Client.connect(f"127.0.0.1:{ports.temporal}"))
        for number in range(rounds + 1):
            for program in programs:
                for variant, checkout in checkouts.items():
                    found = await (stage.run if program in COMMANDS else stage.start)(checkout, program)
                    if number:  # the first start may have to compile
                        for figure in FIGURES:
                            took.setdefault((figure, program.name, variant), []).append(found[figure])
                        say({"program": program.name, "variant": variant, "round": number, **found})
    last: dict[str, object] = {"machine": f"{platform.machine()}, {os.cpu_count()} cores"}
    for figure in FIGURES:
        medians = {
            variant: {program.name: median(took[figure, program.name, variant]) for program in programs}
            for variant in checkouts
        }
        last[figure] = medians
        if "baseline" in checkouts:
            this, baseline = medians["this"], medians["baseline"]
            last[f"{figure}_ratio"] = {
                program.name: round(this[program.name] / baseline[program.name], 3) for program in programs
            }
    say(last)


def main() -> None:
    """Measure, a row a line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument("--environment", type=Path, default=PROJECT_ROOT / ".venv")
    parser.add_argument("--baseline", type=Path, help="another checkout")
    parser.add_argument("--baseline-environment", type=Path, help="its environment; .venv in it by default")
    names = [program.name for program in (*PROGRAMS, *COMMANDS)]
    parser.add_argument("--program", action="append", default=[], choices=names)
    parser.add_argument("--json", action="store_true", help="a JSON object a row; otherwise the last row alone")
    options = parser.parse_args()
    checkouts = {"this": Checkout(PROJECT_ROOT, options.environment.absolute())}
    if options.baseline:
        other = options.baseline.absolute()
        environment = options.baseline_environment or other / ".venv"
        checkouts["baseline"] = Checkout(other, environment.absolute())

    def say(row: dict[str, object]) -> None:
        if options.json or "round" not in row:
            print(json.dumps(row), flush=True)

    asyncio.run(measure(checkouts, options.rounds, options.program, say))


if __name__ == "__main__":
    main()
