"""Which settings reach the fleet, and what a command says if there is none."""

from pathlib import Path

import pytest

from fleet.cli.find_fleet import find_anyhow, find_fleet
from fleet.control.health.doctor import NOT_SET
from fleet.errors import OperationError, SettingsError


@pytest.fixture(autouse=True)
def no_fleet(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("FLEET_STATE_DIR", str(tmp_path))


def test_without_any_settings_no_fleet_is_up() -> None:
    with pytest.raises(OperationError, match=r"no fleet is up in .* Remedy: start one"):
        find_fleet()


def test_a_refused_address_of_the_backend_is_said_as_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("API_BASE_URL", "http://backend:8000")
    with pytest.raises(SettingsError, match=r"http is only allowed to this machine itself.*Remedy: use https"):
        find_fleet()
    settings, wrong = find_anyhow()
    assert NOT_SET in settings.api_base_url and len(wrong) == 1 and "http is only allowed" in wrong[0]


def test_a_warning_is_said_once_and_the_settings_hold(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("API_BASE_URL", "https://backend.example")
    monkeypatch.setenv("TEMPORAL_HOST", "one.example:7233")
    monkeypatch.setenv("TEMPORAL_ADDRESS", "two.example:7233")
    settings, record = find_fleet()
    assert (settings.temporal_host, record) == ("one.example:7233", None)
    said = capsys.readouterr()
    assert said.out == "" and said.err.count("TEMPORAL_HOST=one.example:7233 wins") == 1


def test_nothing_is_sent_where_temporals_configuration_is_wrong(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("API_BASE_URL", "https://backend.example")
    monkeypatch.setenv("TEMPORAL_HOST", "one.example:7233")
    monkeypatch.setenv("TEMPORAL_PROFILE", "staging")
    settings, wrong = find_anyhow()
    assert len(wrong) == 1 and "Profile 'staging' not found" in wrong[0]
    assert NOT_SET in settings.temporal_host


def test_the_address_of_the_profile_holds_beside_a_wrong_setting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TEMPORAL_ADDRESS", "two.example:7233")
    settings, wrong = find_anyhow()
    assert len(wrong) == 1 and "API_BASE_URL" in wrong[0]
    assert settings.temporal_host == "two.example:7233"
