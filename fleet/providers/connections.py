"""How the clients of all providers connect."""

import ssl
from functools import cache
from typing import Any

import httpx2


def client_options() -> dict[str, Any]:
    """Arguments of a provider's HTTP client."""
    return {
        # Followed, a redirect would carry the key to another host.
        "follow_redirects": False,
        # Common servers close a connection that has been idle for five seconds; a call that meets that is lost
        # after it was sent, and may have been paid. So the client closes it first.
        "limits": httpx2.Limits(max_connections=1000, max_keepalive_connections=100, keepalive_expiry=4),
        "verify": _certificates(),
    }


@cache
def _certificates() -> ssl.SSLContext:
    """Reading them takes 40 ms, so the clients of a process share them."""
    return httpx2.create_ssl_context()
