"""What the page and ``fleet top`` show, as one JSON object. Times are unix seconds."""

import socket
from collections.abc import Iterable
from dataclasses import asdict
from typing import cast

from fleet.budgets.messages import BudgetStatus
from fleet.config import Settings
from fleet.control.health.metric_totals import Counted
from fleet.control.health.observer import Snapshot
from fleet.control.health.pipeline_runs import MAX_LISTED, Run, Runs
from fleet.control.health.status import QueueStatus, running_version
from fleet.control.logs.log_files import LogRecord
from fleet.control.machines.other_machines import OtherMachine
from fleet.control.web.history import STEP_SECONDS, History
from fleet.control.web.shapes import (
    Budget,
    LoggedError,
    PipelineRun,
    Pipelines,
    Process,
    Provider,
    ProviderToday,
    Queue,
    State,
    Today,
)
from fleet.failures import LIMITS
from fleet.process.metrics import ANSWERED, CUT_OFF
from fleet.provider_settings import ProviderSettings
from fleet.redaction import excerpt

_BUCKET = "bucket"


def totals_of(counted: Counted) -> dict[str, float]:
    """The current totals, by names such as ``answered/llm-openai``."""
    found: dict[str, float] = {}

    def add(name: str, amount: float) -> None:
        found[name] = found.get(name, 0.0) + amount

    for (queue, outcome), count in counted.by("fleet_provider_calls_total", "queue", "outcome").items():
        add(f"{_kind_of(outcome)}/{queue}", count)
    for (queue, kind), count in counted.by("fleet_provider_tokens_total", "queue", "kind").items():
        add(f"{kind}/{queue}", count)
    for (queue,), amount in counted.by("fleet_provider_cost_usd_total", "queue").items():
        add(f"cost/{queue}", amount)
        add("cost", amount)
    for (queue,), amount in counted.by("fleet_provider_simulated_cost_usd_total", "queue").items():
        add(f"simulated/{queue}", amount)
        add("simulated", amount)
    for (queue,), count in counted.by("fleet_provider_unpriced_calls_total", "queue").items():
        add(f"unpriced/{queue}", count)
    for (outcome,), count in counted.by("fleet_pipeline_duration_seconds_count", "outcome").items():
        add(outcome, count)
    for (queue, most), count in counted.by("fleet_provider_response_seconds_bucket", "queue", "le").items():
        add(f"{_BUCKET}/{queue}/{most}", count)
    return found


def _kind_of(outcome: str) -> str:
    if outcome in (ANSWERED, CUT_OFF):
        return outcome
    return "refused" if outcome in LIMITS else "failed"


def waiting_in(snapshot: Snapshot) -> dict[str, float]:
    """The backlog of each queue."""
    return {queue.queue: float(queue.backlog) for queue in snapshot.status.queues if queue.backlog is not None}


def state_of(settings: Settings, snapshot: Snapshot, history: History, troubles: Iterable[LogRecord]) -> State:
    """Everything except the list of pipelines."""
    status = snapshot.status
    problems = status.problems()
    queues = {seen.queue: seen for seen in status.queues}
    llm = [
        _provider(settings, provider, queue, queues[queue], status.budgets.get(queue), history)
        for provider in settings.providers.values()
        for queue in provider.limits
    ]
    mine = {row["queue"] for row in llm}
    return {
        "at": snapshot.at,
        "host": socket.gethostname(),
        "version": running_version(),
        "operable": settings.control_token is not None,
        "open_reads": settings.control_open_reads,
        "ok": not problems,
        "problems": problems,
        "notices": status.notices(),
        "temporal": {"address": status.temporal.address, "ok": status.temporal.ok, "ui": ui_of(settings)},
        "backend": {"address": status.backend.address, "ok": status.backend.ok},
        "providers": llm,
        "queues": [_queue(seen) for name, seen in queues.items() if name not in mine],
        "processes": _processes(snapshot),
        "machines": [cast("OtherMachine", asdict(machine)) for machine in status.machines],
        "today": _sum_of_today(history, [row["today"] for row in llm]),
        "errors": [_error(trouble) for trouble in troubles],
        "series": {
            "step_seconds": STEP_SECONDS,
            "until": history.until,
            "completed": history.series("completed"),
            "failed": history.series("failed"),
            "cost_usd": history.series("cost"),
            "simulated_cost_usd": history.series("simulated"),
        },
    }


def ui_of(settings: Settings) -> str | None:
    """The address at which Temporal's own pages list workflows."""
    address = settings.temporal_ui
    return None if address is None else f"{address}/namespaces/{settings.temporal_namespace}/workflows"


def _provider(
    settings: Settings,
    provider: ProviderSettings,
    queue: str,
    seen: QueueStatus,
    budget: BudgetStatus | None,
    history: History,
) -> Provider:
    model = next((name for name in provider.models if provider.queue_of(name) == queue), None)
    troubled = zip(history.series(f"refused/{queue}"), history.series(f"failed/{queue}"), strict=True)
    return {
        "provider": provider.name,
        "model": model,
        "program": provider.name,
        **_budget(budget),
        **_queue(seen),
        "hour": {
            "answered": history.hour(f"answered/{queue}"),
            "refused": history.hour(f"refused/{queue}"),
            "failed": history.hour(f"failed/{queue}"),
            "median_seconds": median_of(history, queue),
        },
        "today": {
            "answered": history.today(f"answered/{queue}"),
            "input_tokens": history.today(f"input/{queue}"),
            "output_tokens": history.today(f"output/{queue}"),
            "cost_usd": round(history.today(f"cost/{queue}"), 6),
            "simulated_cost_usd": round(history.today(f"simulated/{queue}"), 6),
            "unpriced_calls": history.today(f"unpriced/{queue}"),
        },
        "series": {
            "answered": history.series(f"answered/{queue}"),
            "troubled": [
                None if refused is None or failed is None else refused + failed for refused, failed in troubled
            ],
            "backlog": history.waited(queue),
        },
    }


def _budget(budget: BudgetStatus | None) -> Budget:
    if budget is None:
        return {
            "breaker": None,
            "until": None,
            "rate": None,
            "calls_per_minute": None,
            "why": "the budget workflow is not running (no pipeline worker)",
            "exact": False,
            "limits": [],
        }
    return {
        "breaker": budget.breaker,
        "why": budget.why,
        "until": budget.until,
        "rate": budget.rate,
        "exact": budget.exact,
        "calls_per_minute": budget.calls_per_minute,
        "limits": [
            {
                "what": limit.what,
                "per_minute": limit.per_minute,
                "level": limit.level,
                "others_per_minute": limit.others_per_minute,
            }
            for limit in budget.limits
        ],
    }


def median_of(history: History, queue: str) -> float | None:
    """The approximate median duration, in seconds, of the last hour's answered calls; None if there were none."""
    prefix = f"{_BUCKET}/{queue}/"
    names = [name for name in history.latest if name.startswith(prefix)]
    steps = sorted((float(name.removeprefix(prefix)), history.hour(name)) for name in names)
    calls = steps[-1][1] if steps else 0.0
    if not calls:
        return None
    lower, below = 0.0, 0.0
    for upper, count in steps:
        if count >= calls / 2:
            within = (calls / 2 - below) / (count - below)
            return round(lower if upper == float("inf") else lower + within * (upper - lower), 2)
        lower, below = upper, count
    return None


def _queue(seen: QueueStatus) -> Queue:
    return {
        "queue": seen.queue,
        "pollers": seen.pollers,
        "backlog": seen.backlog,
        "backlog_age_seconds": seen.backlog_age_seconds,
    }


def _processes(snapshot: Snapshot) -> list[Process]:
    return [
        {
            "program": process.program,
            "process": process.process,
            "state": process.state,
            "pid": process.pid,
            "uptime_seconds": process.uptime_seconds,
            "lag_seconds": liveness.lag_seconds
            if (liveness := snapshot.liveness_records.get(process.process))
            else None,
            "stage": liveness.stage if liveness else None,
            "cannot": liveness.unreachable.cannot
            if liveness and liveness.stage == "probing" and liveness.unreachable
            else None,
            "restarts": liveness.restarts if liveness else 0,
        }
        for process in snapshot.status.processes
    ]


def _sum_of_today(history: History, parts: list[ProviderToday]) -> Today:
    def total(amounts: Iterable[float]) -> float:
        return round(sum(amounts), 6)

    return {
        "since": history.midnight,
        "answered": total(part["answered"] for part in parts),
        "input_tokens": total(part["input_tokens"] for part in parts),
        "output_tokens": total(part["output_tokens"] for part in parts),
        "cost_usd": total(part["cost_usd"] for part in parts),
        "simulated_cost_usd": total(part["simulated_cost_usd"] for part in parts),
        "unpriced_calls": total(part["unpriced_calls"] for part in parts),
        "completed": history.today("completed"),
        "failed": history.today("failed"),
    }


def _error(record: LogRecord) -> LoggedError:
    return {
        "time": record.time.isoformat(timespec="milliseconds"),
        "level": record.level,
        "process": record.process,
        "message": excerpt(record.message, 500),
        "workflow_id": record.context.get("workflow_id"),
    }


def pipelines_of(runs: Runs) -> Pipelines:
    """The list of pipelines."""
    listed = len(runs.running)
    return {
        "at": runs.at,
        # The count was taken a moment after the list: if the list is complete, its length is the count.
        "running": listed if listed < MAX_LISTED else max(runs.counts.get("running", 0), listed),
        "listed": [_run(run) for run in runs.running],
        "ended": [{**_run(run), "ended_at": run.ended_at, "status": run.status} for run in runs.ended],
    }


def _run(run: Run) -> PipelineRun:
    return {
        "workflow_id": run.workflow_id,
        "run_id": run.run_id,
        "started_at": run.started_at,
        "retry": run.retry,
    }
