"""Prometheus' rules with their times filled in; ``scripts/render.sh`` writes them.

The template has each span of time and each number of seconds as a placeholder, ``${5m}`` or ``${1200}``.
Undivided it gives ``deploy/prometheus/fleet.rules.yml``, which ships; divided by 60, rules that fire within
seconds, for a Prometheus that scrapes and evaluates every second. A span never becomes shorter than one second.
"""

import re
from pathlib import Path

FOLDER = Path(__file__).resolve().parents[1] / "deploy" / "prometheus"
TEMPLATE = FOLDER / "fleet.rules.template.yml"
SHIPPED = FOLDER / "fleet.rules.yml"
HEADING = "# Made by scripts/render.sh of fleet.rules.template.yml, which explains it; change that one.\n"

_PLACEHOLDER = re.compile(r"\$\{(?P<number>[\d.]+)(?P<unit>[smhd]?)\}")
_MILLISECONDS = {"s": 1000, "m": 60_000, "h": 3_600_000, "d": 86_400_000}


def rendered(divisor: float = 1.0) -> str:
    """The rules, with all times divided; without the template's opening comment."""
    text = TEMPLATE.read_text("utf-8")
    rules = text[text.index("groups:") :]
    return HEADING + _PLACEHOLDER.sub(lambda found: _divided(found, divisor), rules)


def _divided(placeholder: re.Match[str], divisor: float) -> str:
    number = float(placeholder["number"]) / divisor
    if unit := placeholder["unit"]:
        return duration(round(number * _MILLISECONDS[unit]))
    return f"{number:g}"


def duration(milliseconds: int) -> str:
    """A span as Prometheus writes it, in its largest whole unit; at least one second."""
    milliseconds = max(milliseconds, 1000)
    for unit, size in sorted(_MILLISECONDS.items(), key=lambda pair: -pair[1]):
        if milliseconds % size == 0:
            return f"{milliseconds // size}{unit}"
    return f"{milliseconds}ms"
