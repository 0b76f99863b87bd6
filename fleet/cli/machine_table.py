"""A fleet's other machines in a terminal, for ``fleet status`` and ``fleet top``. Text from outside is made
harmless."""

from datetime import datetime
from typing import Any

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from fleet.terminal import harmless

Json = dict[str, Any]


def machines_of(machines: list[Json], at: float) -> RenderableType:
    """One line per machine, from the JSON of :class:`fleet.control.machines.other_machines.OtherMachine`, seen at
    that time (unix seconds); below them their problems, and why a machine did not answer."""
    if not machines:
        return Text("no other machine is known", "dim")
    names = ("other machine", "state", "release", "up", "processes", "pollers", "polled", "reported")
    table = Table(*names, box=None, pad_edge=False, header_style="dim")
    for machine in machines:
        told = machine["told"] or {}
        table.add_row(
            _name(machine),
            _state(machine, at),
            harmless(machine["version"]) or "?",
            seconds(told.get("uptime_seconds")) or "?",
            _processes(machine),
            str(sum(machine["pollers"].values())),
            _ago(machine["polled_seconds"]),
            _ago(machine["heard_seconds"]),
        )
    return Group(table, *(line for machine in machines for line in _lines(machine)))


def _name(machine: Json) -> str:
    return harmless(f"{machine['host']}+{machine['machine']}")


def _state(machine: Json, at: float) -> Text:
    if machine["gone_seconds"] is None:
        return (
            Text("problems", "bold red")
            if machine["told"] and machine["told"]["problems"]
            else Text("ok", "green")
        )
    since = datetime.fromtimestamp(at - machine["gone_seconds"]).strftime("%Y-%m-%d %H:%M:%S")
    # If it answers, its processes have ended or do not reach Temporal.
    return Text(f"{'answers, no work' if machine['told'] else 'gone'} since {since}", "bold red")


def _processes(machine: Json) -> str:
    if machine["told"] is None:
        return str(len(machine["processes"])) if machine["processes"] else "?"
    states = [*machine["told"]["processes"].values()]
    return f"{states.count('RUNNING')} of {len(states)} run"


def _lines(machine: Json) -> list[Text]:
    told = machine["told"] or {}
    lines = [Text(f"  ! {_name(machine)}: {harmless(problem)}", "red") for problem in told.get("problems", [])]
    if machine["why_not"]:
        lines.append(Text(f"  {_name(machine)} could not be asked: {harmless(machine['why_not'])}", "dim"))
    return lines


def _ago(value: float | None) -> str:
    return "" if value is None else f"{seconds(value)} ago"


def seconds(value: float | None) -> str:
    """A duration in one unit; empty if it is not known."""
    if value is None:
        return ""
    if value < 10:
        return f"{value:.1f} s"
    minutes, hours = value / 60, value / 3600
    return f"{value:.0f} s" if minutes < 2 else f"{minutes:.0f} min" if hours < 2 else f"{hours:.0f} h"
