"""The backend's client over real TLS: what it shows, what it refuses, and what each refusal says."""

import asyncio
import socket
import ssl
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route

from fleet.config import load_settings
from fleet.control.health.doctor.certificates import certificate_checks
from fleet.devstack.threaded_server import served
from fleet.errors import BackendAnswerError, BackendUnavailable, FleetError
from fleet.execution.backend_client import Backend
from tests.certificates import Authority, Certificate
from tests.serving import serving

TOKEN = "a-token-for-the-backend"


def health(request: Request) -> JSONResponse:
    known = request.headers.get("authorization") == f"Bearer {TOKEN}"
    return JSONResponse({}, 200 if known else 401)


APP = Starlette(routes=[Route("/health", health)])


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("tls"))


@contextmanager
def backend_over_tls(server: Certificate, client_ca: Path | None = None) -> Iterator[str]:
    """The address of a backend that wants the token and, with ``client_ca``, a client certificate."""
    options: dict[str, Any] = {"ssl_certfile": server.certificate, "ssl_keyfile": server.key}
    if client_ca is not None:
        options |= {"ssl_ca_certs": str(client_ca), "ssl_cert_reqs": 2}  # ssl.CERT_REQUIRED
    with served(APP, **options) as base_url:
        yield base_url


@pytest.fixture(scope="module")
def secured(authority: Authority) -> Iterator[str]:
    with backend_over_tls(authority.sign("server"), authority.certificate) as base_url:
        yield base_url


@pytest.fixture
def given(authority: Authority, tmp_path: Path) -> dict[str, Any]:
    """The settings that the secured backend asks for."""
    client = authority.sign("client")
    (tmp_path / "token").write_text(TOKEN + "\n", "utf-8")
    return {
        "backend_token_file": tmp_path / "token",
        "backend_ca_file": authority.certificate,
        "backend_client_cert_file": client.certificate,
        "backend_client_key_file": client.key,
    }


async def refusal(base_url: str, kind: type[FleetError], **given: Any) -> str:
    async with Backend.from_settings(load_settings(api_base_url=base_url, **given)) as backend:
        with pytest.raises(kind) as caught:
            await backend.health()
    message = str(caught.value)
    assert base_url in message and " Remedy: " in message and "\n" not in message and TOKEN not in message
    return message


async def test_token_authority_and_client_certificate_are_used(secured: str, given: dict[str, Any]) -> None:
    async with Backend.from_settings(load_settings(api_base_url=secured, **given)) as backend:
        await backend.health()
        assert "GMT" in await backend.date()


async def test_a_token_in_the_settings_is_sent(secured: str, given: dict[str, Any]) -> None:
    settings = load_settings(api_base_url=secured, **given | {"backend_token_file": None, "backend_token": TOKEN})
    async with Backend.from_settings(settings) as backend:
        await backend.health()


async def test_a_new_token_is_taken_up_at_once(secured: str, given: dict[str, Any]) -> None:
    write = given["backend_token_file"].write_text
    write("of-last-year", "utf-8")
    async with Backend.from_settings(load_settings(api_base_url=secured, **given)) as backend:
        with pytest.raises(BackendAnswerError, match="it does not accept the token"):
            await backend.health()
        write(TOKEN, "utf-8")
        await backend.health()


async def test_a_missing_token_is_named(secured: str, given: dict[str, Any]) -> None:
    message = await refusal(secured, BackendAnswerError, **given | {"backend_token_file": None})
    assert "it requires a token" in message and "FLEET_BACKEND_TOKEN_FILE" in message


async def test_a_missing_token_file_is_named_and_waited_for(secured: str, given: dict[str, Any]) -> None:
    message = await refusal(secured, BackendUnavailable, **given | {"backend_token_file": Path("/nowhere/token")})
    assert "FLEET_BACKEND_TOKEN_FILE: /nowhere/token cannot be read" in message


async def test_a_backend_of_another_authority_is_refused(
    secured: str, given: dict[str, Any], tmp_path: Path
) -> None:
    other = Authority(tmp_path, "other").certificate
    message = await refusal(secured, BackendUnavailable, **given | {"backend_ca_file": other})
    assert f"not signed by {other}" in message and "FLEET_BACKEND_CA_FILE" in message
    assert "an authority of the system" in await refusal(
        secured, BackendUnavailable, **given | {"backend_ca_file": None}
    )


async def test_an_expired_certificate_of_the_backend_is_refused(
    authority: Authority, given: dict[str, Any]
) -> None:
    with backend_over_tls(authority.sign("old-server", days=-1)) as base_url:
        message = await refusal(base_url, BackendUnavailable, **given)
        checks = await certificate_checks(load_settings(api_base_url=base_url, **given))
    assert "its certificate has expired" in message
    served_one = next(check for check in checks if check.what == "certificate of the backend")
    assert not served_one.ok and f"{base_url} expired on " in served_one.says


async def test_a_missing_client_certificate_is_named(secured: str, given: dict[str, Any]) -> None:
    none = {"backend_client_cert_file": None, "backend_client_key_file": None}
    message = await refusal(secured, BackendUnavailable, **given | none)
    assert "it requires a client certificate" in message and "FLEET_BACKEND_CLIENT_CERT_FILE" in message


async def test_an_expired_client_certificate_is_named(
    secured: str, authority: Authority, given: dict[str, Any]
) -> None:
    old = authority.sign("old-client", days=-1)
    expired = {"backend_client_cert_file": old.certificate, "backend_client_key_file": old.key}
    assert f"{old.certificate} expired on " in await refusal(secured, BackendUnavailable, **given | expired)


async def test_a_connection_that_is_reset_may_mean_the_client_certificate(
    authority: Authority, given: dict[str, Any]
) -> None:
    """nginx may reset the connection so early that its alert does not arrive."""
    server = authority.sign("resetting-server")
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(server.certificate, server.key)

    async def reset(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        connection: socket.socket = writer.get_extra_info("socket")
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        writer.transport.abort()

    old = authority.sign("old-client-reset", days=-1)
    expired = {"backend_client_cert_file": old.certificate, "backend_client_key_file": old.key}
    async with serving(reset, ssl=context) as place:
        message = await refusal(f"https://{place}", BackendUnavailable, **given | expired)
    assert f"{old.certificate} expired on " in message


async def test_a_key_of_another_certificate_is_named(
    secured: str, authority: Authority, given: dict[str, Any]
) -> None:
    other = authority.sign("other-client")
    message = await refusal(secured, BackendUnavailable, **given | {"backend_client_key_file": other.key})
    assert "FLEET_BACKEND_CLIENT_CERT_FILE" in message and "KEY_VALUES_MISMATCH" in message


async def test_the_doctor_names_a_client_certificate_that_ends_soon(
    secured: str, authority: Authority, given: dict[str, Any]
) -> None:
    soon = authority.sign("soon", days=10.5)
    checks = await certificate_checks(
        load_settings(api_base_url=secured, **given | {"backend_client_cert_file": soon.certificate})
    )
    ending = [check for check in checks if not check.ok]
    assert [check.what for check in ending] == ["client certificate for the backend"]
    assert str(soon.certificate) in ending[0].says and "in 10 days" in ending[0].says
