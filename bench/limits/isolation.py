"""f: one provider in trouble beside two that are well, in turn with stretches in which nothing is wrong."""

import sys
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

from bench.limits.bench_fleet import Stage, staged
from bench.limits.feeder import Feeder
from bench.limits.full_queue import await_first_call, needed_calls, wait_until
from bench.limits.rows import Row, outcome_of, row_of, taken_in, window_of
from bench.limits.scenarios import FAULTS, Load, Scenario
from tests.fleet import json_of

TROUBLED = "openai"
_RECOVERY_SECONDS = 20.0
#: A queue of a few calls a second is full with so many.
_FULL = 50


@dataclass(frozen=True)
class _Span:
    """A stretch of a run, in which a fault befalls one provider or none does; ``levels`` at its begin and end."""

    begin: float
    end: float
    fault: str | None
    levels: list[Mapping[str, float]]


def isolated(scenario: Scenario) -> Iterator[Row]:
    """Two rows a fault and provider: without it, then with it."""
    with staged(scenario, "budgets") as stage:
        for load in scenario.loads:
            stage.add_calls(load, needed_calls(load, scenario.warm_up + scenario.seconds))
        began, spans = await_first_call(stage), list[_Span]()
        with Feeder(stage, scenario.loads, _FULL) as feeder:
            wait_until(began + scenario.warm_up)
            used = stage.cpu_seconds()
            for fault in FAULTS:
                spans.append(_span(stage, None))
                spans.append(_span(stage, fault))
                _recover(stage, fault)
            used = stage.cpu_seconds() - used
        open_still = stage.open_after(scenario.completion_seconds)
        if open_still:
            print(
                f"{open_still} pipelines had not ended {scenario.completion_seconds:.0f} s later", file=sys.stderr
            )
        calls = stage.fleet.simulator.ledger()
        outcomes = {load.provider: outcome_of(stage, load) for load in scenario.loads}
        for well, ill in zip(spans[::2], spans[1::2], strict=True):
            for load in scenario.loads:
                for row in _pair(stage, load, calls, (well, ill), used, outcomes[load.provider]):
                    least = [feeder.least(load.provider, span.begin, span.end) for span in (well, ill)]
                    yield replace(row, open=open_still, least_queued=least[row.fault != "none"])


def _pair(
    stage: Stage,
    load: Load,
    calls: list[dict[str, Any]],
    spans: tuple[_Span, _Span],
    used: float,
    outcome: tuple[list[float], int],
) -> Iterator[Row]:
    """Without the fault, and with it: for a healthy provider the ratio of the calls a second."""
    paces = []
    for span in spans:
        window = window_of(load, span.begin, span.end, span.levels)
        paces.append(taken_in(load, calls, window) / (span.end - span.begin))
        row = replace(row_of(stage, load, calls, window, used, outcome), fault=span.fault or "none")
        healthy = span.fault is not None and load.provider != TROUBLED
        yield replace(row, throughput_ratio=round(paces[1] / paces[0], 4)) if healthy and paces[0] else row


def _span(stage: Stage, fault: str | None) -> _Span:
    begin, levels = time.time(), [stage.levels()]
    if fault is not None:
        stage.fleet.simulator.fault(TROUBLED, fault, seconds=stage.scenario.seconds)
    wait_until(begin + stage.scenario.seconds)
    end = time.time()
    return _Span(begin, end, fault, [*levels, stage.levels()])


def _recover(stage: Stage, fault: str) -> None:
    """Until the provider's queue is open again; only a rejected key takes an operator's word."""
    if fault == "401":
        stage.fleet.fleet("resume", TROUBLED)
    given_up = time.time() + _RECOVERY_SECONDS
    while time.time() < given_up:
        queues = json_of(stage.fleet.fleet("limits", TROUBLED, "--json").stdout)["queues"]
        if all(queue["breaker"] == "closed" for queue in queues.values()):
            return
        time.sleep(1.0)
