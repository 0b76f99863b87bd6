"""The metrics that the shipped rules and the dashboard speak of, read from their PromQL."""

import json
import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from scripts.render_rules import FOLDER, SHIPPED

DASHBOARD = FOLDER.parent / "grafana" / "fleet.json"
RULES_TEST = FOLDER / "fleet.rules.test.yml"

#: What Prometheus itself knows of a target and of its alerts; no scrape has them.
PROMETHEUS_OWN = frozenset({"up", "ALERTS", "ALERTS_FOR_STATE"})

_KEYWORDS = frozenset({"and", "or", "unless", "bool", "offset", "inf", "nan", "atan2", "start", "end"})
_STRING = re.compile(r'"(?:[^"\\]|\\.)*"' + r"|'(?:[^'\\]|\\.)*'" + r"|`[^`]*`")
_MATCHERS = re.compile(r"\{[^{}]*\}")
_WINDOW = re.compile(r"\[[^\]]*\]")
_GROUPING = re.compile(r"\b(?:by|without|on|ignoring|group_left|group_right)\s*\([^()]*\)")
_NAME = re.compile(r"(?<![\w:.$])[a-zA-Z_:][\w:]*(?![\w:])(?!\s*\()")
_EXPRESSION = re.compile(
    r"^(?P<indent> +)expr: (?:\|\n(?P<block>(?:(?P=indent)  .*\n|\n)+)|(?P<line>[^|\n].*)\n)", re.MULTILINE
)
_RECORD = re.compile(r"^ +- record: (\S+)$", re.MULTILINE)
_ALERT = re.compile(r"^ +- alert: (\w+)$", re.MULTILINE)
_LABEL_VALUES = re.compile(r"label_values\((?P<selector>.+),\s*\w+\)")


def metric_names(expression: str) -> set[str]:
    """The metrics of one PromQL expression, as samples bear them (``…_bucket``, ``…_total``)."""
    for clutter, stands_for in ((_STRING, '""'), (_MATCHERS, ""), (_WINDOW, ""), (_GROUPING, " ")):
        expression = clutter.sub(stands_for, expression)
    return {name for name in _NAME.findall(expression) if name.lower() not in _KEYWORDS}


def expressions_of_rules(path: Path = SHIPPED) -> list[str]:
    """Each rule's expression, in order."""
    found = _EXPRESSION.finditer(path.read_text("utf-8"))
    return [match["block"] or match["line"] for match in found]


def alerts() -> list[str]:
    """The names of the shipped alerts."""
    return _ALERT.findall(SHIPPED.read_text("utf-8"))


def recorded() -> set[str]:
    """The names that the rules themselves give."""
    return set(_RECORD.findall(SHIPPED.read_text("utf-8")))


def metrics_in_rules() -> set[str]:
    """The metrics that a scrape must have for the rules to work."""
    return _scraped(expressions_of_rules())


def metrics_in_dashboard() -> set[str]:
    """The metrics that a scrape must have for the dashboard to work."""
    return _scraped(expressions_of_dashboard())


def _scraped(expressions: Iterable[str]) -> set[str]:
    names = {name for expression in expressions for name in metric_names(expression)}
    return names - recorded() - PROMETHEUS_OWN


def dashboard() -> dict[str, Any]:
    """The dashboard, as Grafana imports it."""
    found: dict[str, Any] = json.loads(DASHBOARD.read_text("utf-8"))
    return found


def expressions_of_dashboard() -> list[str]:
    """Every query of the dashboard: of its panels, annotations and variables."""
    return list(_queries(dashboard()))


def _queries(node: Any) -> Iterator[str]:
    if isinstance(node, dict):
        if isinstance(node.get("expr"), str):
            yield node["expr"]
        if isinstance(node.get("definition"), str) and (found := _LABEL_VALUES.fullmatch(node["definition"])):
            yield found["selector"]
        node = list(node.values())
    if isinstance(node, list):
        for child in node:
            yield from _queries(child)
