"""Under which names and addresses the control process answers: the check of a request's Host header.

A foreign page can have a browser send requests to this machine under a host name of its own (DNS rebinding), and
read the answers. It cannot do so under an address, nor under a name that is this machine's.
"""

import re
import socket
from ipaddress import ip_address
from urllib.parse import urlsplit

from starlette.datastructures import Headers
from starlette.requests import HTTPConnection

from fleet.config import Settings
from fleet.setting_types import is_loopback

_LOOPBACK = ("localhost", "127.0.0.1", "::1")
#: Headers that proxies add. The client is then elsewhere, although the connection comes from this machine.
_FORWARDED = frozenset({"forwarded", "via", "x-real-ip"})
_HOST = re.compile(r"(?P<name>[A-Za-z0-9._-]{1,255}|\[[0-9A-Fa-f:.]{2,45}\])(:[0-9]{1,5})?")


def asked_for(headers: Headers) -> str | None:
    """The name or address in the Host header, empty without one, as in HTTP/1.0; None if it is malformed."""
    hosts = headers.getlist("host")
    if not hosts:
        return ""
    found = _HOST.fullmatch(hosts[0]) if len(hosts) == 1 else None
    return found["name"].strip("[]").lower().rstrip(".") if found else None


def is_here(request: HTTPConnection, name: str) -> bool:
    """Whether a request for that name comes from this machine, and not through a proxy."""
    forwarded = any(header in _FORWARDED or header.startswith("x-forwarded-") for header in request.headers)
    here = request.client is not None and request.client.host in _LOOPBACK
    return here and name in _LOOPBACK and not forwarded


class KnownHosts:
    """The names of this machine: its own, those in the settings' addresses, and FLEET_CONTROL_ALLOWED_HOSTS."""

    def __init__(self, settings: Settings) -> None:
        own = (socket.gethostname(), settings.control_host, urlsplit(settings.control_url or "").hostname or "")
        self._names = {name.lower().rstrip(".") for name in (*own, *settings.control_allowed_hosts)}

    def has(self, name: str) -> bool:
        """Whether it is one of them, an address, or empty: without a Host header, which browsers always send."""
        return not name or name in self._names or is_loopback(name) or _is_address(name)


def _is_address(name: str) -> bool:
    try:
        ip_address(name)
    except ValueError:
        return False
    return True
