"""g: work, rest and work again. h: a small project's calls beside a thousand pipelines of a big one."""

import time
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import replace

from bench.limits.bench_fleet import REQUEST_BURST_SECONDS, Stage, staged
from bench.limits.feeder import Feeder
from bench.limits.full_queue import wait_until
from bench.limits.rows import Row, Window, row_of
from bench.limits.scenarios import Load, Scenario

#: Pipelines that the small project of h starts at once, every so many seconds.
SMALL_BURST, SMALL_SECONDS = 8, 5.0


def in_turns(scenario: Scenario) -> Iterator[Row]:
    """Work, rest, and work again, while another customer empties the bucket during the rest."""
    with staged(scenario, "budgets") as stage:
        began, used, worked, given = time.time(), stage.cpu_seconds(), 0.0, defaultdict[str, float](float)
        open_still = 0
        while time.time() - began < scenario.seconds:
            turn, before = time.time(), stage.levels()
            for load in scenario.loads:
                stage.fleet.simulator.put("tenant", provider=load.provider, rpm=0)
                stage.add_calls(load, int(load.per_second * scenario.work_seconds))
            open_still = max(open_still, stage.open_after(scenario.completion_seconds))
            worked += time.time() - turn
            after = stage.levels()
            for load in scenario.loads:
                name, full = load.provider, load.per_second * REQUEST_BURST_SECONDS
                given[name] += max(before.get(name, full) - after.get(name, 0.0), 0.0)
                stage.fleet.simulator.put("tenant", provider=name, rpm=(load.rpm or 0.0) * 2)
            time.sleep(scenario.rest_seconds)
        calls = stage.fleet.simulator.ledger()
        used = stage.cpu_seconds() - used
        for load in scenario.loads:
            window = Window(began, time.time(), load.per_second * worked, given[load.provider])
            yield replace(row_of(stage, load, calls, window, used), open=open_still)


def taking_turns(scenario: Scenario) -> Iterator[Row]:
    """How long a small project's calls wait, alone and beside a big one's, all of which are queued before."""
    with staged(scenario, "budgets") as stage:
        (load,) = scenario.loads
        alone = _small_ones(stage, load, "alone")
        yield alone
        stage.stop_workers(load.provider)
        stage.add_pipelines(load, "big", scenario.beside)
        stage.await_backlog(scenario.beside)
        stage.start_workers(load.provider)
        beside = _small_ones(stage, load, "beside")
        yield replace(beside, wait_ratio=round(beside.p95_queue_seconds / max(alone.p95_queue_seconds, 0.001), 3))


def _small_ones(stage: Stage, load: Load, variant: str) -> Row:
    """The small project's bursts; those of the warm-up are not counted."""
    scenario, began = stage.scenario, time.time()
    stage.pipelines[load.provider] = []
    begin, used = began + scenario.warm_up, 0.0
    with Feeder(stage, [load], 0) as watch:
        while (now := time.time()) < begin + scenario.seconds:
            used = used or (stage.cpu_seconds() if now >= begin else 0.0)
            stage.add_pipelines(load, "small", SMALL_BURST, counted=now >= begin)
            wait_until(now + SMALL_SECONDS)
        open_still = stage.open_after(scenario.completion_seconds, stage.pipelines[load.provider])
        end = time.time()
    calls = [call for call in stage.fleet.simulator.ledger() if call["at"] >= begin]
    window = Window(begin, end, load.per_second * (end - begin))
    row = row_of(stage, load, calls, window, stage.cpu_seconds() - used)
    return replace(
        row,
        variant=variant,
        open=open_still,
        least_queued=watch.least(load.provider, begin, begin + scenario.seconds),
    )
