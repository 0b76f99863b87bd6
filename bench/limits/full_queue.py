"""a to e: full queues from beginning to end; limits may change in mid-run, and a worker be killed."""

import time
from collections.abc import Iterator
from dataclasses import replace

from bench.limits.bench_fleet import REQUEST_BURST_SECONDS, Stage, staged
from bench.limits.feeder import Feeder
from bench.limits.rows import Row, Window, first_call, row_of, window_of
from bench.limits.scenarios import Load, Scenario, Variant

_FIRST_CALL_SECONDS = 60.0
#: More than all processes can take within the feeder's look and a pipeline's start.
_FULL = 300


def wait_until(moment: float) -> None:
    """Sleep until then (unix seconds)."""
    time.sleep(max(moment - time.time(), 0.0))


def await_first_call(stage: Stage) -> float:
    """When every provider had got its first call."""
    given_up = time.time() + _FIRST_CALL_SECONDS
    while time.time() < given_up:
        calls = stage.fleet.simulator.ledger()
        if all(any(call["provider"] == load.provider for call in calls) for load in stage.scenario.loads):
            return max(first_call(calls, load.provider) for load in stage.scenario.loads)
        time.sleep(0.2)
    raise SystemExit(f"not every provider was called within {_FIRST_CALL_SECONDS:.0f} s\n{stage.last_words()}")


def needed_calls(load: Load, seconds: float) -> int:
    """About so many calls the limit allows in that time."""
    if load.median_tokens:
        sizes = load.sizes(2000, seed=1)
        return int(load.per_second / (sum(sizes) / len(sizes)) * (seconds + 60) * 1.15)
    return int(load.per_second * (seconds + REQUEST_BURST_SECONDS) * 1.1)


def steady(scenario: Scenario, variant: Variant) -> Iterator[Row]:
    """One variant's rows."""
    with staged(scenario, variant) as stage:
        if variant == "plain":
            for load in scenario.loads:
                stage.make_plain(load)
        _fill(stage)
        began = await_first_call(stage)
        used, server = stage.cpu_seconds(), stage.server_cpu_seconds()
        with Feeder(stage, scenario.loads, _FULL) as feeder:
            begin, share = _settled(stage, began)
            levels, ending = [stage.levels()], max(began + scenario.seconds, begin + 1.0)
            if scenario.kill:
                wait_until((begin + ending) / 2)
                for load in scenario.loads:
                    stage.kill_worker(load.provider)
            wait_until(ending)
            end = time.time()
            levels.append(stage.levels())
        used, server = stage.cpu_seconds() - used, stage.server_cpu_seconds() - server
        calls = [call for call in stage.fleet.simulator.ledger() if call["at"] < end]
        stage.end_own()
        for load in scenario.loads:
            window: Window = window_of(load, begin, end, levels, share)
            row = row_of(stage, load, calls, window, used)
            yield replace(
                row,
                server_cpu_seconds_per_call=round(server / max(len(calls), 1), 4),
                least_queued=feeder.least(load.provider, begin, end),
            )


def _fill(stage: Stage) -> None:
    """Put the calls into the queues; in a cold start all of them before any worker is there."""
    scenario = stage.scenario
    if not scenario.queued_first:
        for load in scenario.loads:
            stage.add_calls(load, needed_calls(load, scenario.seconds))
        return
    for load in scenario.loads:
        stage.stop_workers(load.provider)
        stage.add_calls(load, scenario.queued_first)
    stage.await_backlog(scenario.queued_first * len(scenario.loads))
    for load in scenario.loads:
        stage.start_workers(load.provider)


def _settled(stage: Stage, began: float) -> tuple[float, float]:
    """From when on is counted, and the share of the limit that is ours from then on; returns then."""
    scenario, share = stage.scenario, 1.0
    begin = began + scenario.warm_up
    if change := scenario.change:
        wait_until(began + change.after)
        for load in scenario.loads:
            if change.limit_share is not None:
                stage.limit(load, change.limit_share)
                share = change.limit_share
            if change.tenant_share is not None and load.rpm:
                stage.fleet.simulator.put("tenant", provider=load.provider, rpm=load.rpm * change.tenant_share)
                share = 1 - change.tenant_share
        begin = time.time() + scenario.settled
    wait_until(begin)
    return time.time(), share
