"""Settings from the configuration of Temporal's own tools."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from fleet.config import PROJECT_ROOT, Settings, load_settings
from fleet.errors import SettingsError
from fleet.process.temporal_credentials import TemporalCredentials
from fleet.redaction import redact


def settings(**overrides: object) -> Settings:
    return load_settings(API_BASE_URL="http://localhost:1", **overrides)


def test_the_address_and_the_namespace_come_from_the_profile(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    file = tmp_path / "config" / "temporalio" / "temporal.toml"
    file.parent.mkdir(parents=True)
    file.write_text('[profile.default]\naddress = "temporal.example:7233"\nnamespace = "production"\n', "utf-8")
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    found = settings()
    assert (found.temporal_host, found.temporal_namespace) == ("temporal.example:7233", "production")
    assert found.warnings == ()
    monkeypatch.setenv("TEMPORAL_NAMESPACE", "test")
    assert settings().temporal_namespace == "test"
    ignoring = settings(temporal_config=False)
    assert (ignoring.temporal_host, ignoring.temporal_namespace) == ("localhost:7233", "test")


def test_the_variables_may_be_in_dotenv(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("FLEET_CONFIG", str(tmp_path))
    (tmp_path / ".env").write_text("TEMPORAL_ADDRESS=temporal.example:7233\n", "utf-8")
    assert settings().temporal_host == "temporal.example:7233"


def test_an_empty_variable_is_not_set(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("TEMPORAL_ADDRESS", "TEMPORAL_API_KEY", "TEMPORAL_TLS_CLIENT_CERT_PATH"):
        monkeypatch.setenv(name, "")
    assert TemporalCredentials.of(settings()).arguments() == {"tls": False, "api_key": None, "rpc_metadata": {}}


def test_temporal_host_wins_with_a_warning_only_if_they_differ(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TEMPORAL_HOST", "one.example:7233")
    monkeypatch.setenv("TEMPORAL_ADDRESS", "one.example:7233")
    assert settings().warnings == ()
    monkeypatch.setenv("TEMPORAL_ADDRESS", "two.example:7233")
    assert settings().temporal_host == "one.example:7233"
    (warning,) = settings().warnings
    assert "one.example:7233" in warning and "two.example:7233" in warning and " Remedy: " in warning
    assert settings(TEMPORAL_HOST="127.0.0.1:7233").warnings == (), "a fleet's own address is not the user's"


def test_an_address_that_is_none_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TEMPORAL_ADDRESS", "temporal.example")
    with pytest.raises(SettingsError, match=r"TEMPORAL_ADDRESS=temporal.example: must be host:port.*Remedy: "):
        settings()


def test_a_profile_that_does_not_exist_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TEMPORAL_PROFILE", "staging")
    with pytest.raises(SettingsError, match=r"Profile 'staging' not found.*FLEET_TEMPORAL_CONFIG=false"):
        settings()


def test_a_file_that_is_named_and_does_not_exist_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TEMPORAL_CONFIG_FILE", "/nowhere/temporal.toml")
    with pytest.raises(SettingsError, match=r"TEMPORAL_CONFIG_FILE=/nowhere/temporal.toml: there is no such file"):
        settings()


def test_an_api_key_turns_tls_on_and_is_removed_from_what_is_written(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TEMPORAL_API_KEY", "an-unusual-key-77")
    credentials = TemporalCredentials.of(settings())
    assert (credentials.tls, credentials.api_key) == (True, "an-unusual-key-77")
    assert "an-unusual-key-77" not in redact("the server said: an-unusual-key-77?") + repr(credentials)


@pytest.mark.parametrize("content", ["", " \n", "two\nlines", "klíč"])
def test_a_file_that_contains_no_key_is_refused(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, content: str
) -> None:
    file = tmp_path / "key"
    file.write_text(content, "utf-8")
    monkeypatch.setenv("FLEET_TEMPORAL_API_KEY_FILE", str(file))
    with pytest.raises(SettingsError, match=r"does not contain one line of text. Remedy: ") as caught:
        TemporalCredentials.of(settings())
    assert str(file) in str(caught.value)


def test_a_certificate_without_its_key_is_refused(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "client.crt").write_text("-----BEGIN CERTIFICATE-----", "utf-8")
    monkeypatch.setenv("TEMPORAL_TLS_CLIENT_CERT_PATH", str(tmp_path / "client.crt"))
    with pytest.raises(SettingsError, match="CERT_PATH is set without TEMPORAL_TLS_CLIENT_KEY_PATH"):
        TemporalCredentials.of(settings())


def test_an_embedded_temporal_gets_no_credentials(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TEMPORAL_API_KEY", "of-production-4711")
    monkeypatch.setenv("FLEET_TEMPORAL_API_KEY_FILE", "/nowhere")
    assert TemporalCredentials.of(settings(temporal_config=False)) == TemporalCredentials()


def test_the_sdk_is_not_loaded_where_nothing_is_configured() -> None:
    probe = (
        "import sys; from fleet.config import load_settings; load_settings(); print('temporalio' in sys.modules)"
    )
    environment = os.environ | {"API_BASE_URL": "http://localhost:1", "TEMPORAL_HOST": "localhost:7233"}
    done = subprocess.run(
        [sys.executable, "-c", probe], env=environment, capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "False"


def test_every_process_and_command_connects_in_one_place() -> None:
    rooms = (PROJECT_ROOT / room for room in ("fleet", "workers"))
    connecting = [
        str(path.relative_to(PROJECT_ROOT))
        for room in rooms
        for path in room.rglob("*.py")
        if re.search(r"(Client|ServiceClient)\.connect\(", path.read_text("utf-8"))
    ]
    assert connecting == ["fleet/process/temporal_connection.py"]
