"""docs/monitoring.md and its Czech version speak of what is there."""

import re

import pytest

from fleet.config import PROJECT_ROOT
from tests.fleet import Fleet, json_of
from tests.monitoring.expressions import alerts
from tests.monitoring.scrape import Scrape
from tests.waiting import wait_for

TEXT, CZECH = ((PROJECT_ROOT / "docs" / name).read_text("utf-8") for name in ("monitoring.md", "monitoring.cs.md"))
in_both = pytest.mark.parametrize("text", [TEXT, CZECH], ids=["english", "czech"])
ONLY_WHEN_ASKED = {"fleet_project_cost_usd_total", "fleet_project_simulated_cost_usd_total"}
ONLY_WITH_FOLDERS = {"fleet_project_info"}  # of projects; tests/process/test_projects.py sees it
SUFFIXES = re.compile(r"_(?:bucket|sum|count)$")


def test_every_metric_is_in_the_document_and_the_other_way_round(fleet: Fleet) -> None:
    wait_for("every program runs", fleet.all_run)
    assert (
        json_of(fleet.fleet("run", "Kávovar", "--project", "seo-demo", "--json").stdout)["status"] == "completed"
    )
    documented = set(re.findall(r"`(fleet_\w+)`", TEXT)) - ONLY_WHEN_ASKED - ONLY_WITH_FOLDERS
    # What the workflow measures is told a second after it.
    wait_for("a pipeline is counted", lambda: Scrape.of(fleet).total("fleet_pipeline_duration_seconds_count"))
    told = {name for name in Scrape.of(fleet).names if name.startswith("fleet_")}
    assert documented == {SUFFIXES.sub("", name) for name in told}


def test_the_czech_document_names_no_metric_that_is_not_there() -> None:
    assert set(re.findall(r"`(fleet_\w+\w)`", CZECH)) <= set(re.findall(r"`(fleet_\w+)`", TEXT))


@in_both
def test_every_alert_is_in_the_document(text: str) -> None:
    assert set(re.findall(r"\bFleet[A-Z]\w+", text)) == set(alerts())


@in_both
def test_every_picture_is_there(text: str) -> None:
    pictures = re.findall(r"\((images/[\w-]+\.png)\)", text)
    assert pictures and all((PROJECT_ROOT / "docs" / picture).stat().st_size > 10_000 for picture in pictures)
