"""``fleet top``: the content of the control process's page in a terminal, live."""

import select
import sys
import termios
import textwrap
import time
import tty
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from typing import Any
from urllib.parse import quote

import httpx
from rich.console import Group, RenderableType
from rich.live import Live
from rich.table import Table
from rich.text import Text

from fleet.cli.console import Console
from fleet.cli.counted import counted
from fleet.cli.fitted_table import FittedTable
from fleet.cli.machine_table import machines_of, seconds
from fleet.config import Settings
from fleet.control.web.credentials import PageCredentials
from fleet.errors import OperationError
from fleet.terminal import harmless

EACH_SECONDS = 2.0
_PIPELINES, _ERRORS = 10, 5
_ANSWER_SECONDS = 10.0
_BLOCKS = " ▁▂▃▄▅▆▇█"
_BREAKERS = {
    "closed": ("healthy", "green"),
    "probing": ("PROBING", "yellow"),
    "paused": ("PAUSED", "yellow"),
    "parked": ("PARKED", "bold red"),
    None: ("unknown", "yellow"),
}
Json = dict[str, Any]


class Watched:
    """A control process that is polled."""

    def __init__(self, settings: Settings) -> None:
        self.address = settings.page_address
        self._http = httpx.Client(base_url=self.address, timeout=_ANSWER_SECONDS, trust_env=False, verify=False)
        self._credentials = PageCredentials.of(settings)

    def look(self) -> Json:
        """Its state, with ``pipelines`` and the progress of the first of them.

        Raises:
            OperationError: it does not answer.
        """
        try:
            state: Json = self._get("/api/state")
            state["pipelines"] = self._get("/api/pipelines")
            runs = [_run(pipeline) for pipeline in state["pipelines"].get("listed", [])[:_PIPELINES]]
            asked = "&".join(f"run={quote(run, safe='')}" for run in runs)
            state["progress"] = self._get(f"/api/progress?{asked}") if runs else {}
        except (httpx.HTTPError, ValueError) as error:
            raise OperationError(
                f"the control process at {self.address} does not answer ({error or type(error).__name__}). "
                "Remedy: see `supervisorctl status`, or `fleet status`, which asks the servers itself"
            ) from None
        return state

    def _get(self, path: str) -> Json:
        # Read each time: a control process that was started meanwhile may have made it.
        token = self._credentials.token()
        headers = {"authorization": f"Bearer {token}"} if token else {}
        answer = self._http.get(path, headers=headers)
        if answer.status_code == 401:
            raise OperationError(
                f"the control process at {self.address} refuses the token in {self._credentials.folder}. Remedy: "
                "run this as the fleet's user and with its FLEET_STATE_DIR; or make a new token with `fleet roll "
                "control`"
            )
        found: Json = answer.raise_for_status().json()
        return found


def show_once(console: Console, settings: Settings, *, in_all: bool = False) -> Json:
    """Show the current state; ``in_all`` includes the other machines.

    Raises:
        OperationError: the control process does not answer.
    """
    state = Watched(settings).look()
    console.print(picture(state, in_all=in_all))
    return state


def show_live(console: Console, settings: Settings, *, in_all: bool = False) -> None:
    """Show the state until ``q`` or Ctrl-C; if the control process stops answering, wait for it.

    Raises:
        OperationError: it did not answer the first time.
    """
    watched = Watched(settings)
    state = watched.look()
    first = picture(state, in_all=in_all)
    with _keys() as pressed, Live(first, console=console, screen=True, auto_refresh=False) as live:
        while not pressed("q", EACH_SECONDS):
            try:
                live.update(picture(watched.look(), in_all=in_all), refresh=True)
            except OperationError as error:
                live.update(Text(str(error), style="bold red"), refresh=True)


@contextmanager
def _keys() -> Iterator[Any]:
    """Reads single keys; yields a function that returns whether a key was pressed within a time."""
    if not sys.stdin.isatty():

        def wait(key: str, seconds: float) -> bool:
            time.sleep(seconds)
            return False

        yield wait
        return
    before = termios.tcgetattr(sys.stdin)
    tty.setcbreak(sys.stdin)

    def pressed(key: str, seconds: float) -> bool:
        ready, _, _ = select.select([sys.stdin], [], [], seconds)
        return bool(ready) and sys.stdin.read(1).lower() == key

    try:
        yield pressed
    finally:
        termios.tcsetattr(sys.stdin, termios.TCSADRAIN, before)


def picture(state: Json, *, in_all: bool = False) -> RenderableType:
    """The whole state, the most urgent first; ``in_all`` includes the other machines."""
    parts = [_verdict(state), _providers(state), _today(state), _pipelines(state), _processes(state)]
    if in_all:
        # A control process of 0.1.0 does not report them.
        parts.append(machines_of(state.get("machines", []), state["at"]))
    return Group(*parts, _errors(state))


def _verdict(state: Json) -> RenderableType:
    clock = datetime.fromtimestamp(state["at"]).strftime("%H:%M:%S")
    problems = state["problems"]
    notices = state.get("notices", [])  # a control process of 0.2.0 does not report them
    word = (
        Text("all is well", "bold green") if not problems else Text(counted(len(problems), "problem"), "bold red")
    )
    head = Text(f"fleet {state['version']} on {state['host']}  {clock}  ").append(word)
    if notices:
        head.append(f", {counted(len(notices), 'queue')} paused", "bold yellow")
    lines = [(problem, "red") for problem in problems] + [(notice, "yellow") for notice in notices]
    return Group(head, *(Text(f"  ! {harmless(line)}", style) for line, style in lines))


def _providers(state: Json) -> FittedTable:
    providers = sorted(state["providers"], key=lambda queue: queue["breaker"] == "closed")
    columns = {
        "queue": [Text(harmless(each["queue"])) for each in providers],
        "state": [Text(*_BREAKERS.get(each["breaker"], (str(each["breaker"]), "yellow"))) for each in providers],
        "rate/s": [Text(_rate(each["rate"])) for each in providers],
        "limit/min": [Text(_limit(each["limits"])) for each in providers],
        "calls/min": [Text(_number(each["calls_per_minute"])) for each in providers],
        "waiting": [Text(_number(each["backlog"])) for each in providers],
        "oldest": [Text(seconds(each["backlog_age_seconds"]) if each["backlog"] else "") for each in providers],
        "429/h": [Text(_number(each["hour"]["refused"])) for each in providers],
        "failed/h": [Text(_number(each["hour"]["failed"])) for each in providers],
        "median": [Text(seconds(each["hour"]["median_seconds"])) for each in providers],
        "last hour": [Text(sparks(each["series"]["answered"])) for each in providers],
        "why": [Text(_shortened(each["why"], 80)) for each in providers],
    }
    return FittedTable(
        columns,
        droppable=("why", "last hour", "limit/min", "oldest", "median", "failed/h", "429/h", "calls/min"),
        right=[name for name in columns if name not in ("queue", "state", "last hour", "why")],
        # What is not healthy stands with its reason above the table.
        below=[
            f"{harmless(each['queue'])}: {_shortened(each['why'], 80)}"
            for each in providers
            if each["breaker"] == "closed" and each["why"] not in ("", "idle")
        ],
    )


def _today(state: Json) -> Text:
    today = state["today"]
    tokens = today["input_tokens"] + today["output_tokens"]
    unpriced = (
        f" (+ {counted(today['unpriced_calls'], 'call')} of unknown price)" if today["unpriced_calls"] else ""
    )
    not_paid = today.get("simulated_cost_usd", 0.0)  # a control process of 0.1.0 does not report it
    simulated = f" + ${not_paid:.4f} simulated, not paid" if not_paid else ""
    return Text(
        f"today  ${today['cost_usd']:.4f}{unpriced}{simulated}  "
        f"{counted(tokens, 'token')}  {counted(today['answered'], 'answer')}  "
        f"pipelines {today['completed']:.0f} completed, {today['failed']:.0f} failed",
        "bold",
    )


def _pipelines(state: Json) -> RenderableType:
    found = state["pipelines"]
    running = found.get("running", 0)
    more = f", the newest {_PIPELINES} of them" if running > _PIPELINES else ""
    head = Text(f"{counted(running, 'pipeline')} {'runs' if running == 1 else 'run'}{more}", "bold")
    if not running:
        return head
    listed = found.get("listed", [])[:_PIPELINES]
    told = [state["progress"].get(_run(pipeline)) or {} for pipeline in listed]
    columns = {
        "pipeline": [Text(harmless(pipeline["workflow_id"])) for pipeline in listed],
        "topic": [Text(_shortened(progress.get("topic", ""), 40)) for progress in told],
        "progress": [Text(_bar(progress)) for progress in told],
        "age": [Text(seconds(state["at"] - pipeline["started_at"])) for pipeline in listed],
        "at work": [
            Text(_shortened(", ".join(progress.get("running", [])) or progress.get("why", ""), 120))
            for progress in told
        ],
    }
    return Group(head, FittedTable(columns, droppable=("topic", "at work", "age", "progress")))


def _bar(progress: Json) -> str:
    done, total = progress.get("done", 0), progress.get("total", 0)
    return f"{'█' * done}{'░' * max(total - done, 0)} {done}/{total}" if total else ""


def _processes(state: Json) -> Table:
    table = Table("process", "state", "up", "lag", "restarts", box=None, pad_edge=False, header_style="dim")
    for process in state["processes"]:
        runs = process["state"] == "RUNNING"
        well = runs and process["stage"] != "probing"
        table.add_row(
            harmless(process["process"]),
            Text(
                harmless(process["state"] if not runs else process["stage"] or "running"),
                "green" if well else "bold red",
            ),
            seconds(process["uptime_seconds"]),
            seconds(process["lag_seconds"]),
            str(process["restarts"] or ""),
        )
    return table


def _errors(state: Json) -> RenderableType:
    lines = [
        f"{error['time'][11:19]} {error['process']} {error['message']}" for error in state["errors"][:_ERRORS]
    ]
    return Group(*(Text(harmless(line, 200), "red") for line in lines))


def sparks(series: list[float | None]) -> str:
    """A series as a row of blocks, two minutes each; an unknown value is a gap."""
    pairs = [series[number : number + 2] for number in range(0, len(series), 2)]
    sums = [
        sum(value or 0.0 for value in pair) if any(value is not None for value in pair) else None for pair in pairs
    ]
    most = max((total for total in sums if total is not None), default=0.0)
    return "".join(" " if not total else _BLOCKS[max(round(total / most * 8), 1)] for total in sums)


def _run(pipeline: Json) -> str:
    return f"{pipeline['workflow_id']}~{pipeline['run_id']}"


def _shortened(text: str, most: int) -> str:
    """Harmless text of at most so many characters, cut between words where there are any."""
    clean = harmless(text)
    cut = textwrap.shorten(clean, most, placeholder=" …")
    return cut if cut.strip() != "…" else f"{harmless(text, most - 1)}…"


def _rate(rate: float | None) -> str:
    return "?" if rate is None else "no limit" if rate >= 1000 else f"{rate:.1f}"


def _limit(limits: list[Json]) -> str:
    return "\n".join(f"{limit['per_minute']:,.0f} {limit['what'].replace('_', ' ')}" for limit in limits)


def _number(value: float | None) -> str:
    return "?" if value is None else f"{value:,.0f}"
