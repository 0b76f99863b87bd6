"""``python -m bench.limits [--scenario a] [--quick] --json``: one JSON object a row. See docs/limits.md."""

import argparse
import json
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any

from bench.limits.rows import Row, Window, first_call, row_of
from bench.limits.scenarios import FAULTS, Load, Scenario, Variant, scenarios
from bench.limits.stage import REQUEST_BURST_SECONDS, Stage, staged
from tests.fleet import json_of

_FIRST_CALL_SECONDS = 60.0
_COMPLETION_SECONDS = 240.0
_RECOVERY_SECONDS, _USUAL_RECOVERY_SECONDS = 20.0, 8.0
TROUBLED = "openai"
#: Pipelines that the small project of h starts at once, every five seconds.
SMALL_BURST = 8


def wait_until(moment: float) -> None:
    """Sleep until then (unix seconds)."""
    time.sleep(max(moment - time.time(), 0.0))


def await_first_call(stage: Stage) -> float:
    """When the first call came in."""
    given_up = time.time() + _FIRST_CALL_SECONDS
    while time.time() < given_up:
        calls = stage.fleet.simulator.ledger()
        if all(any(one["provider"] == load.provider for one in calls) for load in stage.scenario.loads):
            return max(first_call(calls, load.provider) for load in stage.scenario.loads)
        time.sleep(0.2)
    raise SystemExit("no call came in")


def per_second(load: Load) -> float:
    """What the binding limit gives back a second."""
    return (load.tpm if load.median_tokens else load.rpm or 0.0) / 60 if load.tpm or load.rpm else 0.0


def needed_calls(load: Load, seconds: float) -> int:
    """Enough to keep the queue full to the end."""
    if load.median_tokens:
        sizes = load.sizes(2000, seed=1)
        rate = per_second(load) / (sum(sizes) / len(sizes))
        return int(rate * (seconds + 60) * 1.15)
    return int(per_second(load) * (seconds + REQUEST_BURST_SECONDS) * 1.1)


def steady(scenario: Scenario, variant: Variant, latency: float) -> Iterator[Row]:
    """Full queues from beginning to end; limits may change in mid-run."""
    with staged(scenario, variant, latency) as stage:
        if variant == "plain":
            for load in scenario.loads:
                stage.make_plain(load.provider)
        if scenario.queued_first:
            for load in scenario.loads:
                stage.stop_workers(load.provider)
                stage.add_calls(load, scenario.queued_first)
            _await_backlog(stage, scenario.queued_first)
            for load in scenario.loads:
                stage.start_workers(load.provider)
        else:
            for load in scenario.loads:
                stage.add_calls(load, needed_calls(load, scenario.seconds))
        began = await_first_call(stage)
        used, server = stage.cpu_seconds(), stage.server_cpu_seconds()
        counted_from, share = began + scenario.warm_up, 1.0
        if change := scenario.change:
            wait_until(began + change.after)
            for load in scenario.loads:
                if change.limit_share is not None:
                    stage.limit(load, change.limit_share)
                    share = change.limit_share
                if change.tenant_share is not None and load.rpm:
                    stage.fleet.simulator.put("tenant", provider=load.provider, rpm=load.rpm * change.tenant_share)
                    share = 1 - change.tenant_share
            counted_from = time.time() + scenario.settled
        if scenario.kill:
            wait_until(began + scenario.seconds / 2)
            stage.kill_worker(scenario.loads[0].provider)
        wait_until(began + scenario.seconds)
        end = time.time()
        calls = [one for one in stage.fleet.simulator.ledger() if one["at"] < end]
        used, server = stage.cpu_seconds() - used, stage.server_cpu_seconds() - server
        for load in scenario.loads:
            allowed = per_second(load) * share * (end - counted_from)
            row = row_of(stage, load, calls, Window(counted_from, end, allowed), used)
            yield replace(row, server_cpu_seconds_per_call=round(server / max(len(calls), 1), 4))


def _await_backlog(stage: Stage, count: int) -> None:
    """Until so many calls stand in the queues."""
    given_up = time.time() + 300
    while time.time() < given_up:
        queues = stage.fleet.status()["queues"]
        if sum(one["backlog"] or 0 for one in queues if one["queue"].startswith("llm-")) >= count * 0.99:
            return
        time.sleep(1.0)
    raise SystemExit("the calls did not get into their queue")


@dataclass(frozen=True)
class _Span:
    """A stretch of a run, in which a fault befalls one provider or none does."""

    begin: float
    end: float
    fault: str | None


def isolated(scenario: Scenario, latency: float) -> Iterator[Row]:
    """One provider in trouble beside two that are well, in turn with stretches in which nothing is wrong."""
    with staged(scenario, "budgets", latency) as stage:
        for load in scenario.loads:
            working = scenario.seconds if load.provider == TROUBLED else 2 * scenario.seconds
            whole = scenario.warm_up + len(FAULTS) * (working + _USUAL_RECOVERY_SECONDS)
            stage.add_calls(load, needed_calls(load, whole))
        wait_until(await_first_call(stage) + scenario.warm_up)
        used, spans = stage.cpu_seconds(), []
        for fault in FAULTS:
            spans.append(_span(stage, None))
            spans.append(_span(stage, fault))
            _recover(stage, fault)
        used = stage.cpu_seconds() - used
        _await_completion(stage)
        calls = stage.fleet.simulator.ledger()
        for well, ill in zip(spans[::2], spans[1::2], strict=True):
            for load in scenario.loads:
                before, under = (_row_of_span(stage, load, calls, span, used) for span in (well, ill))
                yield before
                ratio = None if load.provider == TROUBLED else round(under.utilisation / before.utilisation, 4)
                yield replace(under, throughput_ratio=ratio)


def _row_of_span(stage: Stage, load: Load, calls: list[dict[str, Any]], span: _Span, used: float) -> Row:
    allowed = per_second(load) * (span.end - span.begin)
    row = row_of(stage, load, calls, Window(span.begin, span.end, allowed), used)
    return replace(row, fault=span.fault or "none")


def _span(stage: Stage, fault: str | None) -> _Span:
    begin = time.time()
    if fault is not None:
        stage.fleet.simulator.fault(TROUBLED, fault, seconds=stage.scenario.seconds)
    wait_until(begin + stage.scenario.seconds)
    return _Span(begin, time.time(), fault)


def _recover(stage: Stage, fault: str) -> None:
    """Until the provider's queue is open again; only a rejected key takes an operator's word."""
    if fault == "401":
        stage.fleet.fleet("resume", TROUBLED)
    given_up = time.time() + _RECOVERY_SECONDS
    while time.time() < given_up:
        queues = json_of(stage.fleet.fleet("limits", TROUBLED, "--json").stdout)["queues"]
        if all(one["breaker"] == "closed" for one in queues.values()):
            return
        time.sleep(1.0)


def _await_completion(stage: Stage) -> None:
    """Everything completes once the fault is over; what does not shows as a pipeline that is open."""
    given_up = time.time() + _COMPLETION_SECONDS
    while time.time() < given_up:
        listed = stage.fleet.temporal("workflow", "count", "--query", OPEN_PIPELINES).stdout
        if "Total: 0" in listed:
            return
        time.sleep(1.0)
    print(f"after {_COMPLETION_SECONDS:.0f} s not all pipelines had completed", file=sys.stderr)


OPEN_PIPELINES = "WorkflowType='AssistantPipelineWorkflow' AND ExecutionStatus='Running'"


def in_turns(scenario: Scenario, latency: float) -> Iterator[Row]:
    """Work, rest, and work again, while another customer empties the bucket during the rest."""
    with staged(scenario, "budgets", latency) as stage:
        began, used, worked = time.time(), stage.cpu_seconds(), 0.0
        while time.time() - began < scenario.seconds:
            turn = time.time()
            for load in scenario.loads:
                stage.fleet.simulator.put("tenant", provider=load.provider, rpm=0)
                stage.add_calls(load, int(per_second(load) * (scenario.work_seconds or 0.0)))
            _await_completion(stage)
            worked += time.time() - turn
            for load in scenario.loads:
                stage.fleet.simulator.put("tenant", provider=load.provider, rpm=(load.rpm or 0.0) * 2)
            time.sleep(scenario.rest_seconds)
        calls = stage.fleet.simulator.ledger()
        used = stage.cpu_seconds() - used
        for load in scenario.loads:
            window = Window(began, time.time(), per_second(load) * worked)
            yield row_of(stage, load, calls, window, used)


def taking_turns(scenario: Scenario, latency: float) -> Iterator[Row]:
    """A small project's pipelines, alone and beside a thousand of a big one: how long their calls wait."""
    with staged(scenario, "budgets", latency) as stage:
        (load,) = scenario.loads
        for variant in ("alone", "beside"):
            if variant == "beside":
                stage.add_pipelines(load, "big", scenario.beside)
                _await_backlog(stage, scenario.beside // 2)
            used, began = stage.cpu_seconds(), time.time()
            stage.pipelines[load.provider] = []
            while time.time() - began < scenario.seconds:
                stage.add_pipelines(load, "small", SMALL_BURST, counted=True)
                time.sleep(5.0)
            _await_ends(stage, load)
            calls = [one for one in stage.fleet.simulator.ledger() if one["at"] >= began]
            window = Window(began, time.time(), per_second(load) * (time.time() - began))
            row = row_of(stage, load, calls, window, stage.cpu_seconds() - used)
            yield replace(row, variant=variant)


def _await_ends(stage: Stage, load: Load) -> None:
    given_up = time.time() + _COMPLETION_SECONDS
    names = ", ".join(f"'{name}'" for name in stage.pipelines[load.provider])
    query = f"WorkflowId IN ({names}) AND ExecutionStatus='Running'"
    while time.time() < given_up:
        if "Total: 0" in stage.fleet.temporal("workflow", "count", "--query", query).stdout:
            return
        time.sleep(1.0)


def rows_of(scenario: Scenario, latency: float, variants: list[Variant]) -> Iterator[Row]:
    """All rows of a scenario."""
    if scenario.name == "f":
        yield from isolated(scenario, latency)
    elif scenario.name == "h":
        yield from taking_turns(scenario, latency)
    elif scenario.name == "g":
        yield from in_turns(scenario, latency)
    else:
        for variant in variants if scenario.plain_too else ["budgets"]:
            yield from steady(scenario, variant, latency)  # type: ignore[arg-type]


def main() -> None:
    """Run what was asked for."""
    parser = argparse.ArgumentParser(prog="scripts/bench.sh limits", description=__doc__)
    known = scenarios(600, 400_000, 1.5, quick=True)
    parser.add_argument("--scenario", choices=sorted(known), action="append", help="all of them without it")
    parser.add_argument("--variant", choices=("budgets", "plain"), action="append", help="both without it")
    parser.add_argument("--quick", action="store_true", help="under three minutes a scenario")
    parser.add_argument("--json", action="store_true", help="rows alone, one JSON object a line")
    parser.add_argument("--rpm", type=float, default=600.0, help="requests a minute (600)")
    parser.add_argument("--tpm", type=float, default=400_000.0, help="tokens a minute in b (400,000)")
    parser.add_argument("--sigma", type=float, default=1.5, help="spread of the sizes in b (1.5)")
    parser.add_argument("--latency", type=float, default=0.7, help="median seconds of a call (0.7)")
    parser.add_argument("--processes", type=int, default=3, help="worker processes a provider (3)")
    parser.add_argument("--seconds", type=float, help="length of a run from its first call on")
    parser.add_argument("--kill", action="store_true", help="kill a worker process in mid-run (a to e)")
    options = parser.parse_args()
    chosen = scenarios(options.rpm, options.tpm, options.sigma, quick=options.quick)
    say: Callable[[str], None] = (lambda text: None) if options.json else print
    for name in options.scenario or sorted(chosen):
        scenario = replace(chosen[name], processes=options.processes, kill=options.kill)
        if options.seconds:
            scenario = replace(scenario, seconds=options.seconds)
        say(f"scenario {name} ...")
        for row in rows_of(scenario, options.latency, options.variant or ["budgets", "plain"]):
            print(json.dumps(row.shown()), flush=True)


if __name__ == "__main__":
    main()
