"""What a process counts outlives it, and is summed over processes."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from loguru import logger
from prometheus_client import CollectorRegistry, values

from fleet.control.health.metric_totals import read_counted
from fleet.process.metrics import ANSWERED, Metrics, Usage, metrics_folder, sdk_labels

CALLS = "fleet_provider_calls_total"


@pytest.fixture(autouse=True)
def as_before(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A test process counts for several, one after another."""
    monkeypatch.setenv("PROMETHEUS_MULTIPROC_DIR", "")
    before = values.ValueClass
    yield
    values.close_all_multiprocess_files()  # type: ignore[no-untyped-call]
    values.ValueClass = before


def count(state: Path, process: str, calls: int) -> None:
    """A process of that name lives, makes calls, and is killed."""
    metrics = Metrics.of_process(state, process)
    for _ in range(calls):
        metrics.call_ended("openai", "llm-openai", ANSWERED, 2.0)
    values.close_all_multiprocess_files()  # type: ignore[no-untyped-call]


def test_the_next_process_of_a_name_goes_on_counting(tmp_path: Path) -> None:
    for _ in range(3):
        count(tmp_path, "openai_00", 2)
    assert read_counted(tmp_path).total(CALLS, outcome=ANSWERED) == 6
    assert len(list(metrics_folder(tmp_path).glob("counter_*.db"))) == 1


def test_what_all_processes_counted_is_summed_those_that_are_gone_included(tmp_path: Path) -> None:
    count(tmp_path, "openai_00", 2)
    count(tmp_path, "openai_01", 3)
    counted = read_counted(tmp_path)
    assert counted.total(CALLS) == 5
    assert counted.total("fleet_provider_response_seconds_sum") == 10.0
    assert counted.by("fleet_provider_response_seconds_bucket", "queue", le="2.0") == {("llm-openai",): 5}


def test_damaged_files_are_told_of_and_left_out(tmp_path: Path) -> None:
    count(tmp_path, "openai_00", 2)
    count(tmp_path, "gemini_00", 3)
    (path,) = metrics_folder(tmp_path).glob("counter_gemini_00.db")
    path.write_bytes(b"\xff\xff\xff\x7f" + os.urandom(4092))
    said: list[str] = []
    handler = logger.add(said.append, format="{message}")
    try:
        assert read_counted(tmp_path).total(CALLS) == 2
    finally:
        logger.remove(handler)
    assert any("counter_gemini_00.db is damaged" in line for line in said)


def test_a_process_with_a_damaged_file_puts_it_aside_and_begins_anew(tmp_path: Path) -> None:
    count(tmp_path, "openai_00", 2)
    (path,) = metrics_folder(tmp_path).glob("counter_openai_00.db")
    path.write_bytes(b"\x40\x00\x00\x00" + b"\xff" * 8188)
    count(tmp_path, "openai_00", 1)
    assert read_counted(tmp_path).total(CALLS) == 1
    assert list(metrics_folder(tmp_path).glob("counter_openai_00.damaged-*"))


def test_a_price_that_is_not_known_is_counted_and_is_no_zero() -> None:
    registry = CollectorRegistry()
    metrics = Metrics(registry)
    metrics.used("openai", "llm-openai", Usage("gpt-4o", 100, 40, 10, 0.5))
    metrics.used("openai", "llm-openai", Usage("my-model", 100, 0, 10, None))
    labels = {"provider": "openai", "queue": "llm-openai"}
    sample = registry.get_sample_value
    assert sample("fleet_provider_cost_usd_total", labels | {"model": "gpt-4o"}) == 0.5
    assert sample("fleet_provider_cost_usd_total", labels | {"model": "my-model"}) is None
    assert sample("fleet_provider_unpriced_calls_total", labels | {"model": "my-model"}) == 1
    assert sample("fleet_provider_tokens_total", labels | {"model": "gpt-4o", "kind": "cached_input"}) == 40


def test_what_a_simulator_answered_is_counted_apart_and_nothing_of_it_is_paid() -> None:
    registry = CollectorRegistry()
    metrics = Metrics(registry)
    metrics.used("openai", "llm-openai", Usage("gpt-4o", 100, 0, 10, 0.5))
    metrics.used("openai", "llm-openai", Usage("gpt-4o", 100, 0, 10, 0.25, simulated=True))
    metrics.used("openai", "llm-openai", Usage("my-model", 100, 0, 10, None, simulated=True))
    labels = {"provider": "openai", "queue": "llm-openai", "model": "gpt-4o"}
    sample = registry.get_sample_value
    assert sample("fleet_provider_cost_usd_total", labels) == 0.5
    assert sample("fleet_provider_simulated_cost_usd_total", labels) == 0.25
    mine = labels | {"model": "my-model"}
    assert sample("fleet_provider_unpriced_calls_total", mine) == 0, "what is not paid has no unknown price"
    assert sample("fleet_provider_cost_usd_total", mine) == 0
    assert sample("fleet_provider_tokens_total", labels | {"kind": "input"}) == 200


def test_a_projects_simulated_answers_are_not_in_what_it_paid() -> None:
    registry = CollectorRegistry()
    metrics = Metrics(registry)
    metrics.project_paid("seo", 0.5)
    metrics.project_paid("seo", 0.25, simulated=True)
    sample = registry.get_sample_value
    assert sample("fleet_project_cost_usd_total", {"project": "seo"}) == 0.5
    assert sample("fleet_project_simulated_cost_usd_total", {"project": "seo"}) == 0.25


def test_models_beyond_a_hundred_share_a_label() -> None:
    registry = CollectorRegistry()
    metrics = Metrics(registry)
    for number in range(130):
        metrics.used("openai", "llm-openai", Usage(f"model-{number}", 1, 0, 1, None))
    models = {
        sample.labels["model"]
        for family in registry.collect()
        for sample in family.samples
        if "model" in sample.labels
    }
    assert len(models) == 101 and "other" in models


def test_of_the_sdks_labels_those_are_kept_that_are_bounded() -> None:
    given = {"namespace": "default", "task_queue": "llm-openai", "service_name": "x", "operation": "Poll"}
    assert sdk_labels(given) == {"operation": "Poll", "task_queue": "llm-openai"}


def test_projects_beyond_a_hundred_share_a_label() -> None:
    registry = CollectorRegistry()
    metrics = Metrics(registry)
    for number in range(130):
        metrics.project_paid(f"project-{number}", 0.5)
    metrics.project_paid("project-0", None)
    sample = registry.get_sample_value
    assert sample("fleet_project_cost_usd_total", {"project": "project-0"}) == 0.5
    assert sample("fleet_project_cost_usd_total", {"project": "other"}) == 15.0
