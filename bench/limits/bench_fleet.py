"""A real fleet for one run: Temporal, backend, simulator, supervisord and its programs."""

import asyncio
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
import uuid
from collections import defaultdict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from temporalio.api.enums.v1 import TaskQueueKind, TaskQueueType
from temporalio.api.taskqueue.v1 import TaskQueue
from temporalio.api.workflowservice.v1 import DescribeTaskQueueRequest, UpdateTaskQueueConfigRequest
from temporalio.client import Client

from bench.limits.machines import machines_up
from bench.limits.scenarios import Load, Scenario, Variant
from fleet.budgets.messages import budget_id
from fleet.budgets.queue_client import set_rate
from fleet.contracts import PIPELINE_QUEUE, WORKFLOW_TYPE, llm_queue
from tests.fleet import Fleet

ASSISTANTS = 50
_FULL_SECONDS, _LOOK_SECONDS = 600.0, 0.5
REQUEST_BURST_SECONDS, TOKEN_BURST_SECONDS = 6.0, 60.0


@dataclass(frozen=True)
class _Own:
    """A worker process that supervisord does not know."""

    provider: str
    module: str
    process: "subprocess.Popen[bytes]"


@dataclass
class Stage:
    """A fleet that is up, with its servers, and ``others`` on other machines, which use them. ``own`` are worker
    processes that were started here, beside those of supervisord."""

    fleet: Fleet
    scenario: Scenario
    variant: Variant
    others: list[Fleet] = field(default_factory=list)
    own: "list[_Own]" = field(default_factory=list)
    pipelines: dict[str, list[str]] = field(default_factory=dict)
    projects: set[str] = field(default_factory=set)
    killed: int = 0
    _cpu_of_killed: float = 0.0

    def limit(self, load: Load, share: float = 1.0) -> None:
        """Give the provider's buckets their height."""
        self.fleet.simulator.put(
            "limits",
            provider=load.provider,
            rpm=load.rpm and load.rpm * share,
            input_tpm=load.tpm and load.tpm * share,
            output_tpm=None,
            burst_seconds=TOKEN_BURST_SECONDS,
            request_burst_seconds=REQUEST_BURST_SECONDS,
        )

    def add_calls(self, load: Load, count: int) -> None:
        """Pipelines of fifty independent assistants each, so many that they make ``count`` calls."""
        asyncio.run(self.start_calls(load, count))

    async def start_calls(self, load: Load, count: int) -> None:
        """The same, from within a loop."""
        client = await self.fleet.client()
        sizes = load.sizes(count, seed=len(self.pipelines.setdefault(load.provider, [])) + 1)
        for first in range(0, count, ASSISTANTS):
            project = f"{load.provider}-{uuid.uuid4().hex[:8]}"
            rows = [
                {
                    "model_provider": load.provider,
                    "model": load.model,
                    "max_tokens": size,
                    "input_keys": json.dumps(["topic"]),
                    "system_prompt": "Napiš krátký odstavec.",
                }
                for size in sizes[first : first + ASSISTANTS]
            ]
            self.fleet.add_project(project, *rows)
            await client.start_workflow(
                WORKFLOW_TYPE, args=["Kávovary", project], id=project, task_queue=PIPELINE_QUEUE
            )
            self.pipelines[load.provider].append(project)

    def add_pipelines(
        self, load: Load, project: str, count: int, *, counted: bool = False, model: str | None = None
    ) -> None:
        """So many pipelines of one call each, of a project of that name; to another ``model`` than the load's."""
        asyncio.run(self._start_many(load, project, count, counted=counted, model=model or load.model))

    async def _start_many(self, load: Load, project: str, count: int, *, counted: bool, model: str) -> None:
        client = await self.fleet.client()
        if project not in self.projects:
            self.projects.add(project)
            row = {"model_provider": load.provider, "model": model, "max_tokens": 120}
            self.fleet.add_project(project, row)
        names = [f"{project}-{uuid.uuid4().hex[:10]}" for _ in range(count)]
        for first in range(0, count, ASSISTANTS):
            await asyncio.gather(
                *(
                    client.start_workflow(
                        WORKFLOW_TYPE, args=["Kávovary", project], id=name, task_queue=PIPELINE_QUEUE
                    )
                    for name in names[first : first + ASSISTANTS]
                )
            )
        if counted:
            self.pipelines[load.provider] += names

    def stop_workers(self, provider: str) -> None:
        """Take a provider's processes off its queue."""
        for fleet in (self.fleet, *self.others):
            fleet.supervisorctl("stop", f"{provider}:*")

    def start_workers(self, provider: str) -> None:
        """Put them back."""
        for fleet in (self.fleet, *self.others):
            fleet.supervisorctl("start", f"{provider}:*")

    def make_plain(self, load: Load) -> None:
        """Replace the fleet's workers of a provider by plain ones, and its queue by an unlimited one."""
        self._take_over(load, "bench.limits.plain", None)

    def make_bare(self, load: Load) -> None:
        """Replace them by the fleet's own without a budget; the queue's rate is the limit's, and stays."""
        self._take_over(load, "bench.limits.unbudgeted", load.per_second)

    def _take_over(self, load: Load, module: str, rate: float | None) -> None:
        self.stop_workers(load.provider)
        asyncio.run(self._forget_budget(load.provider, rate))
        for _ in range(self.scenario.processes * self.scenario.machines):
            self._start_own(load.provider, module)

    def _start_own(self, provider: str, module: str) -> None:
        environment = self._worker_environment() | {"SUPERVISOR_PROCESS_NAME": f"{provider}_own_{len(self.own)}"}
        with self._own_log.open("ab") as log:
            process = subprocess.Popen(
                [sys.executable, "-m", module, provider], env=environment, stdout=log, stderr=log
            )
        self.own.append(_Own(provider, module, process))

    @property
    def _own_log(self) -> Path:
        return self.fleet.state / "logs" / "own.log"

    def last_words(self) -> str:
        """The last lines that the processes started here have written."""
        return "\n".join(self._own_log.read_text("utf-8").splitlines()[-5:]) if self.own else ""

    def _worker_environment(self) -> dict[str, str]:
        """What supervisord gave its processes."""
        pid = self.fleet.server("supervisord").pid
        pairs = (
            entry.partition("=") for entry in Path(f"/proc/{pid}/environ").read_text("utf-8").split("\0") if entry
        )
        return {name: value for name, _, value in pairs}

    async def _forget_budget(self, provider: str, rate: float | None) -> None:
        client, queue = await self.fleet.client(), llm_queue(provider)
        await client.get_workflow_handle(budget_id(queue)).terminate()
        if rate is not None:
            await set_rate(client, queue, rate, "set by the benchmark")
            return
        await client.workflow_service.update_task_queue_config(
            UpdateTaskQueueConfigRequest(
                namespace=client.namespace,
                task_queue=queue,
                task_queue_type=TaskQueueType.TASK_QUEUE_TYPE_ACTIVITY,
                update_queue_rate_limit=UpdateTaskQueueConfigRequest.RateLimitUpdate(),
            )
        )

    def kill_worker(self, provider: str) -> None:
        """Kill one of a provider's processes; supervisord, or here the benchmark, starts another one."""
        mine = [own for own in self.own if own.provider == provider and own.process.poll() is None]
        if mine:
            self._kill(mine[0].process.pid)
            mine[0].process.wait()
            self._start_own(provider, mine[0].module)
            return
        processes = self.fleet.status()["processes"]
        self._kill(
            next(process["pid"] for process in processes if process["program"] == provider and process["pid"])
        )

    def _kill(self, pid: int) -> None:
        self._cpu_of_killed += _cpu_seconds(pid)
        os.kill(pid, signal.SIGKILL)
        self.killed += 1

    def end_own(self) -> None:
        """End the processes that were started here."""
        for own in self.own:
            own.process.kill()
            own.process.wait()

    def levels(self) -> dict[str, float]:
        """What is in the bucket that binds, by provider, now."""
        found: defaultdict[str, float] = defaultdict(float)
        for load in self.scenario.loads:
            for bucket in self.fleet.simulator.buckets(load.provider):
                if bucket["kind"] == load.binding:
                    found[load.provider] += bucket["level"]
        return dict(found)

    async def backlog(self, client: Client, provider: str) -> int:
        """How many calls wait in the provider's queue."""
        name = TaskQueue(name=llm_queue(provider), kind=TaskQueueKind.TASK_QUEUE_KIND_NORMAL)
        described = await client.workflow_service.describe_task_queue(
            DescribeTaskQueueRequest(
                namespace=client.namespace,
                task_queue=name,
                task_queue_type=TaskQueueType.TASK_QUEUE_TYPE_ACTIVITY,
                report_stats=True,
            )
        )
        return int(described.stats.approximate_backlog_count)

    def await_backlog(self, count: int) -> None:
        """Return when so many calls wait in the queues, or nearly so.

        Raises:
            SystemExit: they do not get there.
        """
        asyncio.run(self._await_backlog(count))

    async def _await_backlog(self, count: int) -> None:
        client, given_up = await self.fleet.client(), time.time() + _FULL_SECONDS
        while time.time() < given_up:
            waiting = [await self.backlog(client, load.provider) for load in self.scenario.loads]
            if sum(waiting) >= count * 0.99:
                return
            await asyncio.sleep(_LOOK_SECONDS)
        raise SystemExit("the calls did not get into their queue")

    def open_after(self, seconds: float, names: Sequence[str] | None = None) -> int:
        """How many pipelines, of all or of these, are still open after so long; returns early if none is."""
        return asyncio.run(self._open_after(seconds, names))

    async def _open_after(self, seconds: float, names: Sequence[str] | None) -> int:
        client, given_up = await self.fleet.client(), time.time() + seconds
        query = f"WorkflowType='{WORKFLOW_TYPE}' AND ExecutionStatus='Running'"
        if names is not None:
            query += f" AND WorkflowId IN ({', '.join(map(repr, names))})"
        while True:
            await asyncio.sleep(_LOOK_SECONDS)  # first, since what was just started is not listed yet
            count = (await client.count_workflows(query)).count
            if not count or time.time() >= given_up:
                return count

    def cpu_seconds(self) -> float:
        """CPU time that the fleet's own processes and the Temporal server have used."""
        fleets = (self.fleet, *self.others)
        workers = [process["pid"] for fleet in fleets for process in fleet.status()["processes"] if process["pid"]]
        pids = [self.fleet.server("temporal").pid, *workers, *(own.process.pid for own in self.own)]
        return self._cpu_of_killed + sum(map(_cpu_seconds, pids))

    def server_cpu_seconds(self) -> float:
        """CPU time that the Temporal server has used."""
        return _cpu_seconds(self.fleet.server("temporal").pid)

    async def client(self) -> Client:
        """A Temporal client."""
        return await self.fleet.client()


def _cpu_seconds(pid: int) -> float:
    try:
        fields = Path(f"/proc/{pid}/stat").read_text("utf-8").rpartition(")")[2].split()
    except OSError:
        return 0.0
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


@contextmanager
def staged(scenario: Scenario, variant: Variant) -> Iterator[Stage]:
    """A fleet that is up until the block ends, its limits set and its simulator as slow as asked."""
    with (
        tempfile.TemporaryDirectory(prefix="fleet-bench-") as folder,
        machines_up(scenario, Path(folder)) as (fleet, *others),
    ):
        stage = Stage(fleet, scenario, variant, others)
        try:
            for load in scenario.loads:
                stage.limit(load)
                quick = {"median_seconds": scenario.latency, "seconds_per_output_token": 0}
                fleet.simulator.put("latency", provider=load.provider, **quick)
            yield stage
        finally:
            stage.end_own()
