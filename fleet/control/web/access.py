"""Who may request what from the control process: one table, and how a request shows that it may.

A request shows a credential in one of two ways: a token, as ``Authorization: Bearer TOKEN``, or the cookie of a
session. There are two tokens: the reading token of the state folder, and FLEET_CONTROL_TOKEN, which also operates.
"""

import hmac
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from enum import StrEnum
from types import MappingProxyType

from starlette.requests import HTTPConnection

from fleet.config import Settings
from fleet.control.web.credentials import PageCredentials
from fleet.control.web.login_throttle import LoginThrottle
from fleet.setting_types import is_loopback


class Access(StrEnum):
    """What a request needs."""

    OPEN = "open"
    """Nothing; other machines may ask too. Without a credential the answer has counts and states only."""
    PUBLIC = "public"
    """Nothing; everybody gets the same, so a credential, which may be for a proxy, is not looked at."""
    HERE = "here"
    """To come from this machine; what is answered contains nothing of the fleet."""
    READ = "read"
    """To come from this machine and to show a credential, unless FLEET_CONTROL_OPEN_READS is set."""
    OPERATE = "operate"
    """To come from this machine and to show FLEET_CONTROL_TOKEN itself."""


#: The access of each path; what is not listed needs READ, so that a path added elsewhere is not open by mistake.
ACCESS: Mapping[str, Access] = MappingProxyType(
    {
        "/health": Access.OPEN,
        "/ready": Access.OPEN,
        "/status": Access.OPEN,
        "/metrics": Access.PUBLIC,
        "/openapi.json": Access.HERE,
        "/login": Access.HERE,
        "/logout": Access.HERE,
        "/page/{file}": Access.HERE,
        "/": Access.READ,
        "/api/state": Access.READ,
        "/api/pipelines": Access.READ,
        "/api/events": Access.READ,
        "/api/progress": Access.READ,
        "/api/pipeline": Access.READ,
        "/api/act": Access.OPERATE,
    }
)
_FOLDER = "/page/"
COOKIE = "fleet_session_"
#: Nobody guesses a token of this length, so the right one is accepted however many wrong ones came before it.
_UNGUESSABLE_BYTES = 32


def access_to(path: str) -> Access:
    """What a request for a path needs."""
    return ACCESS["/page/{file}"] if path.startswith(_FOLDER) else ACCESS.get(path, Access.READ)


@dataclass(frozen=True)
class Caller:
    """What a request may do. ``session`` is the value of a valid session cookie. ``wait_seconds`` is not 0 if its
    token was refused, right or wrong, since too many wrong ones came before it."""

    reads: bool = False
    operates: bool = False
    session: str = ""
    wait_seconds: float = 0.0


def caller_of(connection: HTTPConnection) -> Caller:
    """The caller of a request that the gate let pass; one that may do nothing if it was not looked at."""
    found = connection.scope.get("state", {}).get("caller")
    return found if isinstance(found, Caller) else Caller()


class Authentication:
    """Recognises callers. ``count`` is told of each login: ``link``, ``token``, ``refused`` or ``slowed``."""

    def __init__(self, settings: Settings, count: Callable[[str], None]) -> None:
        self.credentials = PageCredentials.of(settings)
        self.throttle = LoginThrottle()
        self._throttle_of_open_paths = LoginThrottle(logs=False)
        self.count = count
        self._open_reads = settings.control_open_reads
        self._control_token = settings.control_token
        self._reading_token = self.credentials.made_token()

    def caller(self, connection: HTTPConnection, access: Access, *, here: bool) -> Caller:
        """Who makes a request for a path with this access; ``here`` says whether it comes from this machine."""
        scheme, _, token = connection.headers.get("authorization", "").partition(" ")
        caller = Caller()
        session = self._session_of(connection) if here else ""
        if scheme.lower() == "bearer":  # another one is for a proxy
            # Starlette decodes headers as Latin-1, whatever they are.
            given, address = token.strip().encode("latin-1"), address_of(connection, here=here)
            # Another machine, which may have another token, or a monitor is answered anyway: that is no login.
            find = self._by_token_on_open_path if access is Access.OPEN else self.by_token
            caller = find(given, address, session)
        if session or (here and self._open_reads):
            caller = replace(caller, reads=True, session=session)
        return caller

    def by_token(self, token: bytes, address: str, session: str = "") -> Caller:
        """What a token allows; a wrong one is logged, counted and slows down the next ones of its session, or
        of its address if it comes without one."""
        caller = self._compared(token, self.throttle.wait_seconds(address, session))
        if caller.wait_seconds:
            self.count("slowed")
        elif not caller.reads:
            self.refused(address, "a wrong token", session)
        return caller

    def _by_token_on_open_path(self, token: bytes, address: str, session: str) -> Caller:
        """The same without log lines and counts; with bounds of its own, so that it takes no login's attempts."""
        caller = self._compared(token, self._throttle_of_open_paths.wait_seconds(address, session))
        if not caller.reads and not caller.wait_seconds:
            self._throttle_of_open_paths.failed(address, "a wrong token", session)
        return caller

    def _compared(self, token: bytes, wait: float) -> Caller:
        """What a token allows whose sender has to wait so many seconds, which only guesses need to."""
        if _is_same(token, self._reading_token):
            return Caller(reads=True)
        right = self._control_token is not None and _is_same(token, self._control_token.get_secret_value())
        if right and (not wait or len(token) >= _UNGUESSABLE_BYTES):
            return Caller(reads=True, operates=True)
        return Caller(wait_seconds=wait)

    def refused(self, address: str, what: str, session: str = "") -> None:
        """Log and count a failed attempt."""
        self.count("refused")
        self.throttle.failed(address, what, session)

    def still_reads(self, caller: Caller) -> bool:
        """Whether a caller that might read before still may: a session ends by itself or by a logout."""
        return self._open_reads or not caller.session or self.credentials.sessions.is_valid(caller.session)

    def _session_of(self, connection: HTTPConnection) -> str:
        value = connection.cookies.get(cookie_name(connection), "")
        return value if value and self.credentials.sessions.is_valid(value) else ""


def cookie_name(connection: HTTPConnection) -> str:
    """The name of the session cookie. It has the port, since browsers send a cookie to every port of a host, and
    there may be several fleets on it."""
    port = connection.headers.get("host", "").rpartition(":")[2]
    return f"{COOKIE}{port if port.isdecimal() else 80}"


def address_of(connection: HTTPConnection, *, here: bool = True) -> str:
    """The address that a request comes from. What a proxy on this machine passes on comes from elsewhere."""
    address = connection.client.host if connection.client is not None else ""
    return address if here or not is_loopback(address) else "a proxy on this machine"


def _is_same(given: bytes, wanted: str) -> bool:
    return hmac.compare_digest(given, wanted.encode())
