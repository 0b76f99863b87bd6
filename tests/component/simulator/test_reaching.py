"""Whether a provider can be reached is asked the way that a call goes, and paid for by nobody."""

import asyncio
import socket
import ssl
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, closing
from datetime import UTC, datetime, timedelta
from pathlib import Path

import httpx2
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from fleet.devstack.simulator.testing import RunningSimulator
from fleet.errors import ProviderError
from fleet.failures import FailureKind
from fleet.providers.connections import CONNECT_SECONDS, client_options, see_reachable
from tests.serving import serving


@pytest.fixture
def closed_port() -> Iterator[int]:
    """Taken, so that nobody else listens there; and nobody listens."""
    with closing(socket.socket()) as taken:
        taken.bind(("127.0.0.1", 0))
        yield int(taken.getsockname()[1])


@asynccontextmanager
async def server_with_a_certificate_of_its_own(folder: Path) -> AsyncIterator[str]:
    """Of tomorrow, as a machine sees it whose clock is behind; nobody vouches for it either."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "localhost")])
    tomorrow = datetime.now(UTC) + timedelta(days=1)
    certificate = (
        x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
        .not_valid_before(tomorrow)
        .not_valid_after(tomorrow + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("localhost")]), critical=False)
        .sign(key, hashes.SHA256())
    )
    private = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    (folder / "server.pem").write_bytes(private + certificate.public_bytes(Encoding.PEM))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(folder / "server.pem")

    async def close(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        pass

    async with serving(close, ssl=context) as place:
        yield f"https://localhost:{place.rpartition(':')[2]}"


async def test_any_answer_will_do_and_nothing_is_asked_for(simulator: RunningSimulator) -> None:
    simulator.clear()
    for path in ("", "/v1", "/no/such/path"):
        await see_reachable("openai", f"{simulator.base_url}{path}")
    assert simulator.ledger() == []


async def test_a_port_where_nobody_listens_is_named_with_the_systems_own_words(closed_port: int) -> None:
    address = f"http://127.0.0.1:{closed_port}/v1"
    with pytest.raises(ProviderError, match=address) as caught:
        await see_reachable("openai", address)
    assert caught.value.failure_kind is FailureKind.LOST_BEFORE_SENDING and caught.value.before_sending


async def test_a_name_that_does_not_resolve_is_not_reached() -> None:
    with pytest.raises(ProviderError) as caught:
        await see_reachable("openai", "http://llm.invalid/v1")
    assert caught.value.before_sending


async def test_a_certificate_that_is_not_accepted_is_not_reached(tmp_path: Path) -> None:
    async with server_with_a_certificate_of_its_own(tmp_path) as address:
        with pytest.raises(ProviderError, match=r"(?i)certificate") as caught:
            await see_reachable("openai", address)
    assert caught.value.before_sending


async def test_a_connection_that_is_not_made_within_seconds_is_not_waited_for() -> None:
    seen = []

    def answer(request: httpx2.Request) -> httpx2.Response:
        seen.append(request.extensions["timeout"])
        return httpx2.Response(200)

    options = {name: value for name, value in client_options().items() if name != "verify"}
    async with httpx2.AsyncClient(**options, transport=httpx2.MockTransport(answer)) as client:
        await client.get("http://llm.invalid", timeout=600.0)
        await client.get("http://llm.invalid", timeout=2.0)
        await client.get("http://llm.invalid", timeout=None)
    assert [timeout["connect"] for timeout in seen] == [CONNECT_SECONDS, 2.0, CONNECT_SECONDS]
    assert [timeout["read"] for timeout in seen] == [600.0, 2.0, None]
