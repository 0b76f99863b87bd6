"""Settings files of a working directory that is not the fleet's own set only what is harmless."""

import json
import os
import sys
from pathlib import Path

import pytest

from fleet import setting_files
from fleet.cli import main
from fleet.cli.find_fleet import find_anyhow, find_fleet
from fleet.config import Settings, load_settings
from fleet.control.health.doctor import NOT_SET
from fleet.errors import SettingsError
from fleet.exit_codes import EXIT_BAD_SETTINGS
from fleet.harmless_settings import HARMLESS, HARMLESS_OF_PROVIDER
from fleet.process.temporal_credentials import TemporalCredentials
from fleet.provider_settings import ModelSettings, ProviderSettings
from fleet.setting_names import variable_of

ELSEWHERE = "https://elsewhere.example"
DESTINATIONS = [
    (".env", f"API_BASE_URL={ELSEWHERE}", "API_BASE_URL"),
    (".env", "FLEET_BACKEND_CA_FILE=ca.pem", "FLEET_BACKEND_CA_FILE"),
    (".env", "FLEET_STATE_DIR=state", "FLEET_STATE_DIR"),
    (".env", "FLEET_PROJECTS_PORT=4711", "FLEET_PROJECTS_PORT"),
    (".env", "FLEET_SDK_VARIABLES=HTTPS_PROXY", "FLEET_SDK_VARIABLES"),
    (".env", "TEMPORAL_HOST=elsewhere.example:7233", "TEMPORAL_HOST"),
    (".env", "TEMPORAL_ADDRESS=elsewhere.example:7233", "TEMPORAL_ADDRESS"),
    (".env", "TEMPORAL_CONFIG_FILE=temporal.toml", "TEMPORAL_CONFIG_FILE"),
    (".env", f"FLEET_PROVIDERS__OPENAI__BASE_URL={ELSEWHERE}", "FLEET_PROVIDERS__OPENAI__BASE_URL"),
    (".env", f"fleet_providers__openai__base_url={ELSEWHERE}", "FLEET_PROVIDERS__OPENAI__BASE_URL"),
    (
        ".env",
        'FLEET_PROVIDERS={"openai": {"base_url": "https://elsewhere.example"}}',
        "FLEET_PROVIDERS__OPENAI__BASE_URL",
    ),
    (".env", "FLEET_PROVIDERS__OPENAI__KIND=anthropic", "FLEET_PROVIDERS__OPENAI__KIND"),
    ("fleet.toml", f'api_base_url = "{ELSEWHERE}"', "API_BASE_URL"),
    ("fleet.toml", f'API_BASE_URL = "{ELSEWHERE}"', "API_BASE_URL"),
    ("fleet.toml", "backend_allow_http = true", "FLEET_BACKEND_ALLOW_HTTP"),
    ("fleet.toml", f'[providers.openai]\nbase_url = "{ELSEWHERE}"', "FLEET_PROVIDERS__OPENAI__BASE_URL"),
    ("fleet.toml", "[providers.openai]\nallow_http = true", "FLEET_PROVIDERS__OPENAI__ALLOW_HTTP"),
]

#: Every setting that a foreign file may not set, with a value that is right elsewhere.
REFUSED: dict[str, object] = {
    "api_base_url": ELSEWHERE,
    "api_key_cache_seconds": 3600,
    "backend_allow_http": True,
    "backend_ca_file": "a.pem",
    "backend_client_cert_file": "a.pem",
    "backend_client_key_file": "a.pem",
    "backend_token": "a-token-of-theirs",
    "backend_token_file": "a",
    "control_allowed_hosts": "elsewhere.example",
    "control_host": "0.0.0.0",
    "control_open_reads": True,
    "control_port": 4711,
    "control_token": "a-token-of-theirs",
    "control_url": ELSEWHERE,
    "journal_keep_days": 1,
    "journal_max_mb": 20,
    "keep_variables": "LD_PRELOAD",
    "log_backups": 1,
    "log_content": True,
    "log_dir": "logs",
    "log_level": "DEBUG",
    "log_rotation_mb": 1,
    "metrics": True,
    "metrics_by_project": True,
    "on_ambiguous": "send",
    "projects_dir": "projects",
    "projects_port": 4711,
    "sdk_variables": "HTTPS_PROXY",
    "state_dir": "state",
    "temporal_api_key_file": "a",
    "temporal_config": False,
    "temporal_host": "elsewhere.example:7233",
    "temporal_namespace": "elsewhere",
    "temporal_ui": ELSEWHERE,
}
REFUSED_OF_PROVIDER: dict[str, object] = {
    "allow_http": True,
    "api": "chat",
    "api_key_file": "a",
    "background": True,
    "base_url": ELSEWHERE,
    "enabled": False,
    "kind": "openai",
    "name": "elsewhere",
    "needs_key": False,
    "queue": "elsewhere",
    "sdk": "google-generativeai",
    "simulate": False,
}


def variable_for(field: str) -> str:
    return str(Settings.model_fields[field].validation_alias or f"FLEET_{field.upper()}")


def in_a_line(value: object) -> str:
    return value if isinstance(value, str) else json.dumps(value)


def settings_but(variable: str) -> dict[str, object]:
    """What makes the settings whole without that variable."""
    return {} if variable == "API_BASE_URL" else {"API_BASE_URL": "https://backend.example"}


@pytest.mark.parametrize(("file", "text", "variable"), DESTINATIONS)
def test_a_file_that_nobody_named_may_not_say_where_calls_go(
    tmp_path: Path, file: str, text: str, variable: str
) -> None:
    (tmp_path / file).write_text(f"{text}\n", "utf-8")
    with pytest.raises(SettingsError) as caught:
        load_settings(**settings_but(variable))
    said = str(caught.value)
    assert said.startswith(f"{tmp_path / file} may not set {variable}: ") and "\n" not in said
    assert f"Remedy: if it is yours, name it: fleet --config {tmp_path / file} " in said


def test_every_setting_is_either_harmless_or_refused_in_such_a_file() -> None:
    """A new setting is refused until it is declared harmless; this test then asks for a decision."""
    assert {*Settings.model_fields} == {*HARMLESS, *REFUSED, "providers"}
    assert {*ProviderSettings.model_fields} == {*HARMLESS_OF_PROVIDER, *REFUSED_OF_PROVIDER}
    assert not HARMLESS & REFUSED.keys() and not HARMLESS_OF_PROVIDER & REFUSED_OF_PROVIDER.keys()
    assert {*ModelSettings.model_fields} == {"rpm", "tpm", "input_tpm", "output_tpm"}, "harmless with `models`"


@pytest.mark.parametrize("field", sorted(REFUSED))
def test_no_other_setting_is_taken_from_such_a_file(tmp_path: Path, field: str) -> None:
    variable, value = variable_for(field), REFUSED[field]
    for file, text in [
        (".env", f"{variable}={in_a_line(value)}"),
        (".env", f"{variable.lower()}={in_a_line(value)}"),
        ("fleet.toml", f"{field} = {json.dumps(value)}"),
    ]:
        (tmp_path / file).write_text(f"{text}\n", "utf-8")
        with pytest.raises(SettingsError, match=f"{file} may not set {variable}: .* fleet --config {tmp_path}"):
            load_settings(**settings_but(variable))
        (tmp_path / file).unlink()


@pytest.mark.parametrize("key", sorted(REFUSED_OF_PROVIDER))
def test_no_other_setting_of_a_provider_is_taken_from_such_a_file(tmp_path: Path, key: str) -> None:
    variable, value = variable_of(("providers", "mine", key)), REFUSED_OF_PROVIDER[key]
    for file, text in [
        (".env", f"{variable}={in_a_line(value)}"),
        (".env", f"FLEET_PROVIDERS={json.dumps({'mine': {key: value}})}"),
        ("fleet.toml", f"[providers.mine]\n{key} = {json.dumps(value)}"),
    ]:
        (tmp_path / file).write_text(f"{text}\n", "utf-8")
        with pytest.raises(SettingsError, match=f"{file} may not set {variable}: .* fleet --config {tmp_path}"):
            load_settings(**settings_but(variable))
        (tmp_path / file).unlink()


def test_such_a_file_does_not_drop_the_tls_of_temporal(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("TEMPORAL_ADDRESS", "temporal.example:7233")
    monkeypatch.setenv("TEMPORAL_TLS", "true")
    (tmp_path / ".env").write_text("FLEET_TEMPORAL_CONFIG=false\nTEMPORAL_NAMESPACE=elsewhere\n", "utf-8")
    with pytest.raises(SettingsError, match=r"may not set FLEET_TEMPORAL_CONFIG, TEMPORAL_NAMESPACE: "):
        load_settings(**settings_but(""))
    found, _ = find_anyhow()
    assert (found.temporal_host, found.temporal_namespace) == ("temporal.example:7233", "default")
    assert TemporalCredentials.of(found).tls
    monkeypatch.setenv("FLEET_TEMPORAL_CONFIG", "true")
    monkeypatch.setenv("TEMPORAL_NAMESPACE", "mine")
    found = load_settings(**settings_but(""))
    assert found.temporal_namespace == "mine" and TemporalCredentials.of(found).tls


@pytest.mark.parametrize("named", ["file", "folder"])
@pytest.mark.parametrize(
    ("file", "text", "variable"), [row for row in DESTINATIONS if "TEMPORAL_CO" not in row[1]]
)
def test_a_file_that_is_named_may(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, file: str, text: str, variable: str, named: str
) -> None:
    place = tmp_path / "elsewhere"
    place.mkdir()
    (place / file).write_text(f"{text}\n", "utf-8")
    monkeypatch.setenv("FLEET_CONFIG", str(place / file if named == "file" else place))
    load_settings(**settings_but(variable))
    if variable == "API_BASE_URL":
        assert load_settings().api_base_url == ELSEWHERE


def test_naming_one_file_does_not_allow_the_other(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / ".env").write_text(f"API_BASE_URL={ELSEWHERE}\n", "utf-8")
    (tmp_path / "fleet.toml").write_text(f'[providers.openai]\nbase_url = "{ELSEWHERE}"\n', "utf-8")
    monkeypatch.setenv("FLEET_CONFIG", str(tmp_path / ".env"))
    with pytest.raises(SettingsError, match=r"fleet.toml may not set FLEET_PROVIDERS__OPENAI__BASE_URL") as caught:
        load_settings()
    assert f"--config or FLEET_CONFIG names {tmp_path / '.env'} in place of .env alone" in str(caught.value)
    assert "Remedy: to read both, name a folder that has them: fleet --config FOLDER ...; to read" in str(
        caught.value
    )


def test_what_is_harmless_holds(tmp_path: Path) -> None:
    (tmp_path / ".env").write_text("FLEET_MAX_ATTEMPTS=7\nFLEET_PROVIDERS__OPENAI__RPM=5\n", "utf-8")
    (tmp_path / "fleet.toml").write_text('log_format = "json"\n', "utf-8")
    found = load_settings(API_BASE_URL="https://backend.example")
    assert (found.max_attempts, found.providers["openai"].rpm, found.log_format) == (7, 5, "json")


def test_an_address_that_the_environment_or_the_running_fleet_sets_is_not_looked_for_in_the_file(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / ".env").write_text(
        f"API_BASE_URL={ELSEWHERE}\nFLEET_PROVIDERS__OPENAI__BASE_URL={ELSEWHERE}\n", "utf-8"
    )
    monkeypatch.setenv("FLEET_PROVIDERS__OPENAI__BASE_URL", "https://mine.example")
    found = load_settings(API_BASE_URL="https://backend.example")
    assert (found.api_base_url, found.providers["openai"].base_url) == (
        "https://backend.example",
        "https://mine.example",
    )


def test_the_fleets_own_checkout_is_not_disturbed(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / ".env").write_text(f"API_BASE_URL={ELSEWHERE}\nTEMPORAL_ADDRESS=my.example:7233\n", "utf-8")
    monkeypatch.setattr(setting_files, "_HOME", tmp_path)
    found = load_settings()
    assert (found.api_base_url, found.temporal_host) == (ELSEWHERE, "my.example:7233")


@pytest.mark.skipif(os.geteuid() != 0, reason="needs a folder of root")
def test_a_folder_of_root_is_trusted_by_other_users_unless_others_can_write_it(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / ".env").write_text(f"API_BASE_URL={ELSEWHERE}\n", "utf-8")
    monkeypatch.setattr("os.geteuid", lambda: 1000)
    assert load_settings().api_base_url == ELSEWHERE
    for place in (tmp_path, tmp_path / ".env"):
        before = place.stat().st_mode
        place.chmod(before | 0o002)
        with pytest.raises(SettingsError, match="may not set API_BASE_URL"):
            load_settings()
        place.chmod(before)
    os.chown(tmp_path / ".env", 2000, 2000)
    with pytest.raises(SettingsError, match="may not set API_BASE_URL"):
        load_settings()


def test_a_named_file_that_does_not_exist_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FLEET_CONFIG", "/nowhere/fleet.toml")
    with pytest.raises(SettingsError, match=r"/nowhere/fleet.toml: there is no such .* Remedy: correct --config"):
        load_settings(API_BASE_URL="https://backend.example")
    _, wrong = find_anyhow()
    assert len(wrong) == 1 and "/nowhere/fleet.toml" in wrong[0]


def test_the_doctor_sends_nothing_there_either(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / ".env").write_text(f"API_BASE_URL={ELSEWHERE}\nTEMPORAL_HOST=elsewhere.example:7233\n", "utf-8")
    monkeypatch.setenv("FLEET_MAX_ATTEMPTS", "5")
    settings, wrong = find_anyhow()
    assert len(wrong) == 1 and "may not set API_BASE_URL, TEMPORAL_HOST" in wrong[0]
    assert NOT_SET in settings.api_base_url and "elsewhere" not in settings.temporal_host
    assert settings.max_attempts == 5


def test_a_command_refuses_the_file_until_it_is_named(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("FLEET_CONFIG", "")  # put back afterwards
    state = tmp_path / "a state"
    (tmp_path / ".env").write_text(f"FLEET_STATE_DIR='{state}'\n", "utf-8")
    monkeypatch.setattr(sys, "argv", ["fleet", "down"])
    assert main._guarded() == EXIT_BAD_SETTINGS
    assert f"fleet: {tmp_path / '.env'} may not set FLEET_STATE_DIR" in capsys.readouterr().err
    monkeypatch.setattr(sys, "argv", ["fleet", "--config", ".env", "down"])
    assert main._guarded() == 0
    assert f"No fleet is up in {state}" in capsys.readouterr().out
    assert os.environ["FLEET_CONFIG"] == str(tmp_path / ".env"), "the processes that it starts read it too"


def test_a_fleet_elsewhere_is_not_found_by_a_foreign_file(tmp_path: Path) -> None:
    (tmp_path / ".env").write_text(f"API_BASE_URL={ELSEWHERE}\nTEMPORAL_HOST=elsewhere.example:7233\n", "utf-8")
    with pytest.raises(SettingsError, match="may not set"):
        find_fleet()
