"""How the clients of all providers open connections."""

import asyncio
import ssl
from collections.abc import AsyncGenerator
from contextlib import aclosing
from functools import cache
from http.cookiejar import CookieJar, DefaultCookiePolicy
from typing import Any

import httpx2

from fleet.errors import ProviderError
from fleet.failures import FailureKind
from fleet.providers.error_mapping import not_answered, not_connected

#: The longest time to open a connection: if packets are dropped, the call would otherwise wait for its whole
#: deadline.
CONNECT_SECONDS = 15.0
_PROBE_SECONDS = 20.0
#: Far above the longest answer of a model, a stream's events included. A small compressed answer can have many
#: more bytes than the machine has memory.
LARGEST_ANSWER_BYTES = 32_000_000

#: The headers that the SDKs send a key in.
_KEY_HEADERS = ("authorization", "x-api-key", "x-goog-api-key")
#: What an SDK gets that does not do without a key; it is never sent.
NO_KEY = "no-key"


def client_options(*, with_key: bool = True) -> dict[str, Any]:
    """The arguments of a provider's HTTP client; ``with_key`` false: its requests bear no key."""
    return {
        # A followed redirect would send the key to another host.
        "follow_redirects": False,
        # No provider needs its cookies back, and one that is not ASCII would fail every further request.
        "cookies": CookieJar(DefaultCookiePolicy(allowed_domains=[])),
        # Common servers close a connection after five idle seconds. A call sent at that moment is lost after
        # sending and may have been paid, so the client closes the connection first.
        "limits": httpx2.Limits(max_connections=1000, max_keepalive_connections=100, keepalive_expiry=4),
        "verify": _certificates(),
        "event_hooks": {
            # The SDKs have one timeout for everything.
            "request": [_connect_soon] if with_key else [_connect_soon, _without_key],
            "response": [_bound_answer],
        },
    }


@cache
def _certificates() -> ssl.SSLContext:
    """The machine's certificates. Reading them takes 40 ms, so the clients of a process share them."""
    return httpx2.create_ssl_context()


def forget_certificates() -> None:
    """Make clients that are created from now on read the certificates again."""
    _certificates.cache_clear()


async def _connect_soon(request: httpx2.Request) -> None:
    timeout = request.extensions.get("timeout")
    if isinstance(timeout, dict):
        known = timeout.get("connect")
        request.extensions["timeout"] = timeout | {"connect": min(known or CONNECT_SECONDS, CONNECT_SECONDS)}


class AnswerTooLarge(httpx2.ReadError):
    """More bytes than an answer of the provider has."""


async def _bound_answer(response: httpx2.Response) -> None:
    """Bound what is read of an answer, as it is after decompression, and read it as UTF-8 whatever charset it
    names: JSON is nothing else, and some charsets, such as base64, are not of text."""
    decoded = response.aiter_bytes

    async def aiter_bytes(chunk_size: int | None = None) -> AsyncGenerator[bytes, None]:
        size = 0
        async with aclosing(decoded(chunk_size)) as parts:
            async for part in parts:
                size += len(part)
                if size > LARGEST_ANSWER_BYTES:
                    raise AnswerTooLarge(f"the answer has more than {LARGEST_ANSWER_BYTES:,} bytes")
                yield part

    response.aiter_bytes = aiter_bytes  # type: ignore[method-assign]
    response.encoding = "utf-8"


async def _without_key(request: httpx2.Request) -> None:
    for name in _KEY_HEADERS:
        request.headers.pop(name, None)


async def see_reachable(provider: str, address: str) -> None:
    """Check that a connection to the provider can be made: its name resolves, the route works and its certificate
    is accepted. The request has no key, and any answer counts.

    Raises:
        ProviderError: no connection can be made.
    """
    try:
        context = httpx2.create_ssl_context()
    except (OSError, ValueError) as error:
        detail = f"the certificates of this machine cannot be read: {error}"
        raise ProviderError(FailureKind.LOST_BEFORE_SENDING, provider, detail) from None
    options = client_options() | {"verify": context, "timeout": CONNECT_SECONDS}
    try:
        async with asyncio.timeout(_PROBE_SECONDS), httpx2.AsyncClient(**options) as client:
            await client.head(address)
    except (httpx2.HTTPError, TimeoutError, OSError) as error:
        lost = not_answered(provider, error)
        if lost.before_sending:
            raise not_connected(lost, address, error) from None
