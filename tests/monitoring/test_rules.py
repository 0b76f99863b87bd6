"""The shipped Prometheus rules, tested alert by alert, and the Grafana dashboard."""

import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

from scripts.render_rules import FOLDER, SHIPPED, TEMPLATE, duration, rendered
from tests.monitoring.expressions import (
    RULES_TEST,
    alerts,
    dashboard,
    expressions_of_dashboard,
    expressions_of_rules,
    metric_names,
    metrics_in_dashboard,
    metrics_in_rules,
    recorded,
)

#: The guide's five rules, and those that the project adds.
ALERTS = {
    "FleetInstanceDown",
    "FleetSupervisorUnreachable",
    "FleetProcessDown",
    "FleetProcessRestarts",
    "FleetProcessUnreachable",
    "FleetEventLoopLag",
    "FleetDiskNearlyFull",
    "FleetJournalDown",
    "FleetServerUnreachable",
    "FleetLogLinesDropped",
    "FleetProviderErrors",
    "FleetProviderTimeouts",
    "FleetProviderParked",
    "FleetProviderProbing",
    "FleetBudgetStarved",
    "FleetPipelineTooLong",
    "FleetQueueDepth",
    "FleetQueueWithoutPollers",
    "FleetPaidTwice",
    "FleetProjectsDiffer",
}
_CASE = re.compile(r"alertname: (?P<alert>\w+)(?:, |\n +)exp_alerts:(?P<none> \[\])?")
_RULE = re.compile(r"^      - alert: (\w+)\n((?:        .*\n)+)", re.MULTILINE)


def promtool(*arguments: str, folder: Path = FOLDER) -> str:
    """What promtool says, having found everything in order."""
    if (program := shutil.which("promtool")) is None:
        pytest.skip("needs promtool, of the Debian package prometheus")
    done = subprocess.run(
        [program, *arguments], cwd=folder, capture_output=True, text=True, timeout=120, check=False
    )
    said = done.stdout + done.stderr
    assert done.returncode == 0, said
    assert "SUCCESS" in said and "FAILED" not in said, said
    return said


def test_the_shipped_rules_are_the_template_undivided() -> None:
    assert SHIPPED.read_text("utf-8") == rendered()
    assert "${" not in rendered()


def test_the_divided_rules_differ_in_nothing_but_times() -> None:
    times = re.compile(r"\b\d+(?:ms|s|m|h|d)\b|> \d+$", re.MULTILINE)
    assert times.sub("T", rendered(60)) == times.sub("T", rendered())
    assert rendered(60) != rendered()


def test_a_time_that_is_compared_or_looked_back_over_is_a_placeholder() -> None:
    code = [line for line in TEMPLATE.read_text("utf-8").splitlines() if not line.lstrip().startswith("#")]
    assert [line for line in code if re.search(r"\[\d|offset \d|for: \d", line)] == []
    assert [line for line in code if "_seconds" in line and re.search(r"[<>]=? *\d{2}", line)] == []


@pytest.mark.parametrize(
    ("milliseconds", "text"),
    [
        (300_000, "5m"),
        (5_000, "5s"),
        (90_000, "90s"),
        (1_500, "1500ms"),
        (500, "1s"),
        (0, "1s"),
        (86_400_000, "1d"),
    ],
)
def test_a_span_is_written_in_its_largest_whole_unit_and_is_at_least_a_second(
    milliseconds: int, text: str
) -> None:
    assert duration(milliseconds) == text


def test_twenty_minutes_become_twenty_seconds() -> None:
    assert "fleet_pipeline_oldest_seconds) > 1200" in rendered()
    assert "fleet_pipeline_oldest_seconds) > 20\n" in rendered(60)


@pytest.mark.debian
def test_promtool_takes_the_configuration_and_its_rules() -> None:
    assert "valid prometheus config" in promtool("check", "config", "prometheus.yml")
    promtool("check", "rules", SHIPPED.name)


@pytest.mark.debian
@pytest.mark.parametrize("divisor", [2, 60, 600])
def test_promtool_takes_the_divided_rules(divisor: int, tmp_path: Path) -> None:
    (tmp_path / "divided.yml").write_text(rendered(divisor), "utf-8")
    promtool("check", "rules", "divided.yml", folder=tmp_path)


@pytest.mark.debian
def test_each_alert_fires_when_it_should_and_only_then() -> None:
    promtool("test", "rules", RULES_TEST.name)


def test_no_alert_is_missing() -> None:
    assert sorted(alerts()) == sorted(ALERTS)


def test_every_alert_has_a_case_in_which_it_fires_and_one_in_which_it_does_not() -> None:
    text = RULES_TEST.read_text("utf-8")
    cases = [(case["alert"], case["none"] is None) for case in _CASE.finditer(text)]
    assert len(cases) == text.count("alertname:"), "a case is written in a way that this test cannot read"
    assert {alert for alert, fires in cases if fires} == ALERTS
    assert {alert for alert, fires in cases if not fires} == ALERTS


@pytest.mark.parametrize(("alert", "rule"), _RULE.findall(SHIPPED.read_text("utf-8")))
def test_an_alert_has_a_severity_a_summary_and_a_command_to_type(alert: str, rule: str) -> None:
    assert re.search(r"^        labels: \{severity: (page|ticket)\}$", rule, re.MULTILINE), alert
    summary, description = rule.split("          summary: ")[1].split("          description: >-\n")
    assert len(summary) > 20 and len(description) > 60
    assert re.search(r"`(fleet|fleet-supervisorctl|systemctl) \w+", description), "no command"


def test_the_reader_finds_every_expression() -> None:
    text = SHIPPED.read_text("utf-8")
    assert len(expressions_of_rules()) == text.count(" expr:") == len(alerts()) + len(recorded())


@pytest.mark.parametrize(
    ("expression", "names"),
    [
        ("up == 0", {"up"}),
        ('sum by (job, provider) (rate(a_total{b="c{d}", e!~"f|g"}[5m] offset 1h)) / (h > 0)', {"a_total", "h"}),
        ("a unless on (job, instance) b and ignoring(c) group_left (d) e", {"a", "b", "e"}),
        ('label_replace(max by (q) (a:b:c) > 1e3, "p", "$1", "q", "llm-(.+)")', {"a:b:c"}),
        ("3600 * increase(a[$__range] offset 5m) or vector(0)", {"a"}),
    ],
)
def test_the_reader_tells_metrics_from_the_rest_of_promql(expression: str, names: set[str]) -> None:
    assert metric_names(expression) == names


def test_rules_and_dashboard_speak_of_the_fleet_alone() -> None:
    assert len(metrics_in_rules()) > 15 and len(metrics_in_dashboard()) > 30
    for name in metrics_in_rules() | metrics_in_dashboard():
        assert re.fullmatch(r"(fleet|temporal)_[a-z_]+", name), name


def test_a_recorded_name_that_the_dashboard_reads_is_recorded() -> None:
    read = {name for expression in expressions_of_dashboard() for name in metric_names(expression) if ":" in name}
    assert read and read <= recorded()


def panels() -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = dashboard()["panels"]
    return found


def test_the_dashboard_has_its_rows_and_each_panel_its_place() -> None:
    rows = [panel["title"] for panel in panels() if panel["type"] == "row"]
    assert rows == ["At a glance", "Providers", "Pipelines", "Processes", "Temporal SDK"]
    assert [panel["id"] for panel in panels()] == list(range(1, len(panels()) + 1))
    taken: set[tuple[int, int]] = set()
    for panel in panels():
        at = panel["gridPos"]
        cells = {(at["x"] + x, at["y"] + y) for x in range(at["w"]) for y in range(at["h"])}
        assert not taken & cells and at["x"] + at["w"] <= 24, panel["title"]
        taken |= cells


@pytest.mark.parametrize(
    "panel", [panel for panel in panels() if panel["type"] != "row"], ids=lambda panel: panel["title"]
)
def test_a_panel_has_a_description_a_unit_and_the_chosen_source(panel: dict[str, Any]) -> None:
    assert len(panel["description"]) > 15
    assert panel["fieldConfig"]["defaults"]["unit"]
    assert panel["datasource"] == {"type": "prometheus", "uid": "${datasource}"}
    assert all(target["expr"] for target in panel["targets"])


@pytest.mark.debian
def test_prometheus_understands_every_query_of_the_dashboard(tmp_path: Path) -> None:
    """As rules, since promtool reads expressions nowhere else; Grafana's own variables are filled in."""
    rules = [
        f"      - record: query:{number}\n        expr: |\n" for number in range(len(expressions_of_dashboard()))
    ]
    for number, expression in enumerate(expressions_of_dashboard()):
        filled = re.sub(r"\$__\w+", "5m", expression)
        rules[number] += "".join(f"          {line}\n" for line in filled.splitlines())
    (tmp_path / "dashboard.yml").write_text("groups:\n  - name: g\n    rules:\n" + "".join(rules), "utf-8")
    promtool("check", "rules", "dashboard.yml", folder=tmp_path)
