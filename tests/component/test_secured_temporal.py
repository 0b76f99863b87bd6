"""One connection to a real Temporal server behind TLS: what connects, and what each refusal says."""

import asyncio
import os
import subprocess
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

from fleet.config import Settings, load_settings
from fleet.control.health.doctor.certificates import certificate_checks
from fleet.errors import SettingsError, TemporalUnavailable
from fleet.process.temporal_connection import connect_once
from tests.certificates import Authority
from tests.fleet import BIN
from tests.secured_servers import API_KEY, SecuredTemporal, secured_temporal
from tests.temporal import running_temporal

pytestmark = pytest.mark.debian


@pytest.fixture(scope="module")
def secured(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SecuredTemporal]:
    with running_temporal() as address:
        port = int(address.rpartition(":")[2])
        with secured_temporal(tmp_path_factory.mktemp("tls"), port) as servers:
            yield servers


@pytest.fixture
def settings_of(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> "SettingsOf":
    return SettingsOf(monkeypatch, tmp_path)


class SettingsOf:
    def __init__(self, monkeypatch: pytest.MonkeyPatch, state: Path) -> None:
        self._monkeypatch, self._state = monkeypatch, state

    def __call__(self, variables: Mapping[str, str]) -> Settings:
        for name, value in variables.items():
            self._monkeypatch.setenv(name, value)
        return load_settings(API_BASE_URL="http://127.0.0.1:9", state_dir=self._state)


async def refusal(settings: Settings) -> str:
    with pytest.raises(TemporalUnavailable) as caught:
        await connect_once(settings)
    message = str(caught.value)
    assert message.startswith("Temporal server connection failed: localhost:") and " Remedy: " in message
    assert "\n" not in message and API_KEY not in message
    return message


def count_by_command(variables: Mapping[str, str]) -> str:
    command = [str(BIN / "temporal"), "workflow", "count"]
    environment = os.environ | dict(variables)
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60, check=False)
    return done.stdout + done.stderr


@pytest.mark.parametrize("how", ["with_certificate", "with_key"])
async def test_what_connects_the_temporal_command_connects_the_fleet(
    secured: SecuredTemporal, settings_of: SettingsOf, how: str
) -> None:
    variables = getattr(secured, how)()
    assert "Total: 0" in await asyncio.to_thread(count_by_command, variables)
    settings = settings_of(variables)
    assert settings.temporal_host == variables["TEMPORAL_ADDRESS"]
    await connect_once(settings)


async def test_a_profile_of_temporal_toml_connects(
    secured: SecuredTemporal, settings_of: SettingsOf, tmp_path: Path
) -> None:
    file = tmp_path / "temporal.toml"
    file.write_text(
        f"""
[profile.prod]
address = "{secured.keyed}"
api_key = "{API_KEY}"
[profile.prod.tls]
server_name = "temporal.example"
server_ca_cert_path = "{secured.authority.certificate}"
""",
        "utf-8",
    )
    await connect_once(settings_of({"TEMPORAL_CONFIG_FILE": str(file), "TEMPORAL_PROFILE": "prod"}))


async def test_an_api_key_comes_from_a_file(
    secured: SecuredTemporal, settings_of: SettingsOf, tmp_path: Path
) -> None:
    file = tmp_path / "temporal-api-key"
    file.write_text(API_KEY + "\n", "utf-8")
    wrong = {"TEMPORAL_API_KEY": "of-last-year"}
    await connect_once(settings_of(secured.with_key() | wrong | {"FLEET_TEMPORAL_API_KEY_FILE": str(file)}))


async def test_temporal_host_wins_over_the_address_and_says_so(
    secured: SecuredTemporal, settings_of: SettingsOf
) -> None:
    other = {"TEMPORAL_HOST": secured.mutual, "TEMPORAL_ADDRESS": "elsewhere.example:7233"}
    settings = settings_of(secured.with_certificate() | other)
    (warning,) = settings.warnings
    assert f"TEMPORAL_HOST={secured.mutual} wins over TEMPORAL_ADDRESS=elsewhere.example:7233. Remedy: " in warning
    await connect_once(settings)


async def test_a_server_of_another_authority_is_refused(
    secured: SecuredTemporal, settings_of: SettingsOf, tmp_path: Path
) -> None:
    other = Authority(tmp_path, "other").certificate
    message = await refusal(
        settings_of(secured.with_certificate() | {"TEMPORAL_TLS_SERVER_CA_CERT_PATH": str(other)})
    )
    assert f"the server's certificate is not signed by {other}" in message
    assert "TEMPORAL_TLS_SERVER_CA_CERT_PATH" in message


async def test_a_server_of_an_expired_certificate_is_refused(
    secured: SecuredTemporal, settings_of: SettingsOf
) -> None:
    message = await refusal(settings_of(secured.with_certificate() | {"TEMPORAL_ADDRESS": secured.expired}))
    assert "the server's certificate has expired" in message


async def test_a_server_of_another_name_is_refused(secured: SecuredTemporal, settings_of: SettingsOf) -> None:
    message = await refusal(settings_of(secured.with_certificate() | {"TEMPORAL_TLS_SERVER_NAME": "bank.example"}))
    assert "is for temporal.example, 127.0.0.1 and not for bank.example" in message
    assert "TEMPORAL_TLS_SERVER_NAME" in message


async def test_a_missing_client_certificate_is_named(secured: SecuredTemporal, settings_of: SettingsOf) -> None:
    message = await refusal(settings_of(secured.with_key() | {"TEMPORAL_ADDRESS": secured.mutual}))
    assert "the server requires a client certificate" in message
    assert "TEMPORAL_TLS_CLIENT_CERT_PATH" in message


async def test_an_expired_client_certificate_is_named(secured: SecuredTemporal, settings_of: SettingsOf) -> None:
    old = secured.authority.sign("old-client", days=-3)
    message = await refusal(settings_of(secured.with_certificate(old)))
    assert f"the client certificate {old.certificate} expired on " in message


async def test_a_client_certificate_of_another_authority_is_named(
    secured: SecuredTemporal, settings_of: SettingsOf, tmp_path: Path
) -> None:
    stranger = Authority(tmp_path, "other").sign("stranger")
    message = await refusal(settings_of(secured.with_certificate(stranger)))
    assert f"the server does not accept the client certificate {stranger.certificate}" in message


async def test_a_private_key_of_another_certificate_is_named(
    secured: SecuredTemporal, settings_of: SettingsOf
) -> None:
    other = secured.authority.sign("another-client")
    mixed = secured.with_certificate() | {"TEMPORAL_TLS_CLIENT_KEY_PATH": str(other.key)}
    assert "the private key does not belong to the client certificate" in await refusal(settings_of(mixed))


async def test_a_wrong_api_key_is_named(secured: SecuredTemporal, settings_of: SettingsOf) -> None:
    message = await refusal(settings_of(secured.with_key() | {"TEMPORAL_API_KEY": "of-somebody-else"}))
    assert "the server does not accept the API key" in message and "of-somebody-else" not in message


async def test_a_missing_api_key_is_named(secured: SecuredTemporal, settings_of: SettingsOf) -> None:
    message = await refusal(settings_of({**secured.with_key(), "TEMPORAL_API_KEY": ""}))
    assert "the server requires an API key" in message and "TEMPORAL_API_KEY" in message


async def test_a_missing_file_is_named(secured: SecuredTemporal, settings_of: SettingsOf) -> None:
    gone = secured.with_certificate() | {"TEMPORAL_TLS_CLIENT_KEY_PATH": "/nowhere/client.key"}
    assert "/nowhere/client.key cannot be read" in await refusal(settings_of(gone))


async def test_a_client_without_tls_is_told_that_the_server_wants_it(
    secured: SecuredTemporal, settings_of: SettingsOf
) -> None:
    message = await refusal(settings_of({"TEMPORAL_ADDRESS": secured.mutual}))
    assert "the server ended a connection without TLS" in message and "TEMPORAL_TLS=true" in message


async def test_a_client_with_tls_is_told_that_the_server_has_none(
    secured: SecuredTemporal, settings_of: SettingsOf
) -> None:
    message = await refusal(settings_of(secured.with_certificate() | {"TEMPORAL_ADDRESS": secured.plain}))
    assert "this client speaks TLS and the server does not" in message


async def test_a_renewed_certificate_is_taken_up_by_the_next_connection(
    secured: SecuredTemporal, settings_of: SettingsOf
) -> None:
    used = secured.authority.sign("renewed", days=-1)
    settings = settings_of(secured.with_certificate(used))
    assert "expired" in await refusal(settings)
    secured.authority.sign("renewed")
    await connect_once(settings)


async def test_the_doctor_names_a_certificate_that_ends_soon(
    secured: SecuredTemporal, settings_of: SettingsOf
) -> None:
    soon = secured.authority.sign("soon", days=29.5)
    checks = {check.what: check for check in await certificate_checks(settings_of(secured.with_certificate(soon)))}
    ending = checks.pop("client certificate for Temporal")
    assert not ending.ok and str(soon.certificate) in ending.says and "in 29 days" in ending.says
    assert "fleet roll" in ending.remedy
    assert checks.keys() == {"authority of Temporal", "certificate of Temporal"}
    assert all(check.ok for check in checks.values())


async def test_the_doctor_names_a_server_whose_certificate_has_ended(
    secured: SecuredTemporal, settings_of: SettingsOf
) -> None:
    settings = settings_of(secured.with_certificate() | {"TEMPORAL_ADDRESS": secured.expired})
    checks = {check.what: check for check in await certificate_checks(settings)}
    served = checks["certificate of Temporal"]
    assert not served.ok and f"{secured.expired} expired on " in served.says


def test_a_broken_temporal_toml_is_named_and_its_key_is_not(settings_of: SettingsOf, tmp_path: Path) -> None:
    file = tmp_path / "temporal.toml"
    file.write_text(f'[profile.default]\napi_key = "{API_KEY}\n', "utf-8")
    with pytest.raises(SettingsError) as caught:
        settings_of({"TEMPORAL_CONFIG_FILE": str(file)})
    assert str(file) in str(caught.value) and "line 2" in str(caught.value)
    assert API_KEY not in str(caught.value) and "\n" not in str(caught.value)
