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
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from temporalio.api.enums.v1 import TaskQueueType
from temporalio.api.workflowservice.v1 import UpdateTaskQueueConfigRequest
from temporalio.client import Client

from bench.limits.scenarios import Load, Scenario, Variant
from fleet.budgets.reports import budget_id
from fleet.contracts import PIPELINE_QUEUE, WORKFLOW_TYPE, llm_queue
from tests.fleet import Fleet
from tests.ports import free_port_base

ASSISTANTS = 50
CONCURRENCY = 24
REQUEST_BURST_SECONDS, TOKEN_BURST_SECONDS = 6.0, 60.0


@dataclass
class Stage:
    """A fleet that is up."""

    fleet: Fleet
    scenario: Scenario
    variant: Variant
    began: float = field(default_factory=time.time)
    plain: "list[subprocess.Popen[bytes]]" = field(default_factory=list)
    pipelines: dict[str, list[str]] = field(default_factory=dict)
    projects: set[str] = field(default_factory=set)

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
        asyncio.run(self._start(load, count))

    async def _start(self, load: Load, count: int) -> None:
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

    def add_pipelines(self, load: Load, project: str, count: int, *, counted: bool = False) -> None:
        """So many pipelines of one call each, of a project of that name."""
        asyncio.run(self._start_many(load, project, count, counted=counted))

    async def _start_many(self, load: Load, project: str, count: int, *, counted: bool) -> None:
        client = await self.fleet.client()
        if project not in self.projects:
            self.projects.add(project)
            row = {"model_provider": load.provider, "model": load.model, "max_tokens": 120}
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
        self.fleet.supervisorctl("stop", f"{provider}:*")

    def start_workers(self, provider: str) -> None:
        """Put them back, of whichever variant."""
        if self.variant == "budgets":
            self.fleet.supervisorctl("start", f"{provider}:*")
            return
        command = [sys.executable, "-m", "bench.limits.plain", provider]
        environment = self._worker_environment()
        self.plain += [
            subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
            for _ in range(self.scenario.processes)
        ]

    def _worker_environment(self) -> dict[str, str]:
        """What supervisord gave its processes."""
        pid = self.fleet.server("supervisord").pid
        pairs = (
            entry.partition("=") for entry in Path(f"/proc/{pid}/environ").read_text("utf-8").split("\0") if entry
        )
        return {name: value for name, _, value in pairs}

    def make_plain(self, provider: str) -> None:
        """Replace the fleet's workers of a provider by plain ones, and its queue by an unlimited one."""
        self.stop_workers(provider)
        asyncio.run(self._forget_budget(provider))
        self.start_workers(provider)

    async def _forget_budget(self, provider: str) -> None:
        client, queue = await self.fleet.client(), llm_queue(provider)
        await client.get_workflow_handle(budget_id(queue)).terminate()
        await client.workflow_service.update_task_queue_config(
            UpdateTaskQueueConfigRequest(
                namespace=client.namespace,
                task_queue=queue,
                task_queue_type=TaskQueueType.TASK_QUEUE_TYPE_ACTIVITY,
                update_queue_rate_limit=UpdateTaskQueueConfigRequest.RateLimitUpdate(),
            )
        )

    def kill_worker(self, provider: str) -> None:
        """Kill one of a provider's processes."""
        processes = self.fleet.status()["processes"]
        os.kill(next(one["pid"] for one in processes if one["program"] == provider and one["pid"]), signal.SIGKILL)

    def cpu_seconds(self) -> float:
        """CPU time that the fleet's own processes and the Temporal server have used."""
        workers = [one["pid"] for one in self.fleet.status()["processes"] if one["pid"]]
        pids = [self.fleet.server("temporal").pid, *workers, *(one.pid for one in self.plain)]
        return sum(map(_cpu_seconds, pids))

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
def staged(scenario: Scenario, variant: Variant, latency: float) -> Iterator[Stage]:
    """A fleet that is up until the block ends, its limits set and its simulator as slow as asked."""
    with tempfile.TemporaryDirectory(prefix="fleet-bench-") as folder:
        state = Path(folder, "state")
        programs = state / "programs.d"
        programs.mkdir(parents=True, mode=0o700)
        environment = {"FLEET_DRAIN_SECONDS": "5", "FLEET_ACTIVITY_TIMEOUT_SECONDS": "120"}
        for load in scenario.loads:
            prefix = f"FLEET_PROVIDERS__{load.provider.upper()}"
            environment[f"{prefix}__CONCURRENCY"] = str(CONCURRENCY)
            environment[f"{prefix}__TIMEOUT_SECONDS"] = "20"
            if load.rpm:
                environment[f"{prefix}__RPM"] = str(load.rpm)
            if load.tpm:
                environment[f"{prefix}__TPM"] = str(load.tpm)
            text = f"[program:{load.provider}]\nnumprocs={scenario.processes}\n"
            (programs / f"{load.provider}.conf").write_text(text)
        fleet = Fleet(state, free_port_base(), environment)
        up = fleet.fleet("up", "--detach", "--port-base", str(fleet.port_base))
        if up.returncode:
            raise SystemExit(f"the fleet did not come up: {up.stderr}")
        stage = Stage(fleet, scenario, variant)
        try:
            for load in scenario.loads:
                stage.limit(load)
                quick = {"median_seconds": latency, "seconds_per_output_token": 0}
                fleet.simulator.put("latency", provider=load.provider, **quick)
            yield stage
        finally:
            for process in stage.plain:
                process.kill()
                process.wait()
            fleet.fleet("down")
