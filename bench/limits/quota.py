"""i: hundreds of pipelines of a model whose quota of the day is spent, beside another model of its provider."""

import time
from collections.abc import Iterator
from dataclasses import replace

from bench.limits.bench_fleet import Stage, staged
from bench.limits.full_queue import await_first_call, needed_calls, wait_until
from bench.limits.rows import Row, outcome_of, row_of, taken_in, window_of
from bench.limits.scenarios import Load, Scenario

_WITHOUT_QUOTA = "gemini-2.5-pro"


def beside_a_spent_quota(scenario: Scenario) -> Iterator[Row]:
    """Two rows of the model that has quota: before, and while the other one has none."""
    (load,) = scenario.loads
    with staged(scenario, "budgets") as stage:
        # All of them at first: later, the backlog does not tell how many of them wait.
        stage.add_calls(load, needed_calls(load, scenario.warm_up + 3 * scenario.seconds))
        wait_until(await_first_call(stage) + scenario.warm_up)
        spans = [_span(stage)]
        stage.fleet.simulator.fault(load.provider, "day_quota", model=_WITHOUT_QUOTA, seconds=3600)
        stage.add_pipelines(load, "without-quota", scenario.beside, model=_WITHOUT_QUOTA)
        spans.append(_span(stage))
        calls = [call for call in stage.fleet.simulator.ledger() if call["model"] == load.model]
        for number, span in enumerate(spans):
            yield replace(
                _row(stage, load, calls, span),
                fault="day_quota of the other model" if number else "none",
                throughput_ratio=round(_pace(load, calls, span) / _pace(load, calls, spans[0]), 4)
                if number
                else None,
            )


_Span = tuple[float, float, list[dict[str, float]]]


def _span(stage: Stage) -> _Span:
    begin, levels = time.time(), [stage.levels()]
    wait_until(begin + stage.scenario.seconds)
    return begin, time.time(), [*levels, stage.levels()]


def _pace(load: Load, calls: list[dict[str, object]], span: _Span) -> float:
    return taken_in(load, calls, window_of(load, *span)) / (span[1] - span[0])


def _row(stage: Stage, load: Load, calls: list[dict[str, object]], span: _Span) -> Row:
    return row_of(stage, load, calls, window_of(load, *span), 0.0, outcome_of(stage, load))
