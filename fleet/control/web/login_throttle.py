"""Slows down whoever guesses tokens, and logs it, without keeping out those who know one for long.

Every client address has a few attempts at once and then one every few seconds; all other machines together have
a bound too. This machine has a bound of its own, so guesses from elsewhere do not keep its users out. So has every
session, so another user of this machine cannot use up the attempts of a browser that is logged in. Beyond a bound
even the right token is refused, unless it is too long to be guessed. One-time links, sessions and the token in the
state folder are random numbers that cannot be guessed: they are not slowed down, so ``fleet page`` always gets its
user in.
"""

import hashlib
import ipaddress
import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass

from loguru import logger

from fleet.terminal import harmless

_AT_ONCE, _SECONDS_EACH = 5.0, 3.0
_AT_ONCE_ELSEWHERE, _SECONDS_EACH_ELSEWHERE = 30.0, 1.0
_MAX_ADDRESSES = 1000
_LOG_EACH_SECONDS = 60.0
_MAX_ADDRESS = 60
_HERE = "this machine"


@dataclass
class _Attempts:
    """Failed attempts; they are forgotten one after the other, one every ``seconds_each``."""

    at_once: float
    seconds_each: float
    failed: float = 0.0
    at: float = 0.0
    logged_at: float = float("-inf")
    unlogged: int = 0

    def wait_seconds(self, now: float) -> float:
        """How long until the next attempt is compared; 0 if it is at once."""
        self.failed = max(self.failed - (now - self.at) / self.seconds_each, 0.0)
        self.at = now
        return max(self.failed + 1 - self.at_once, 0.0) * self.seconds_each


class LoginThrottle:
    """The failed attempts of all addresses; ``clock`` returns monotonic seconds. They are logged if ``logs``."""

    def __init__(self, clock: Callable[[], float] = time.monotonic, *, logs: bool = True) -> None:
        self._clock = clock
        self._logs = logs
        self._by_address: OrderedDict[str, _Attempts] = OrderedDict()
        self._elsewhere = _Attempts(_AT_ONCE_ELSEWHERE, _SECONDS_EACH_ELSEWHERE)

    def wait_seconds(self, address: str, session: str = "") -> float:
        """How many seconds this address has to wait before a token of its is accepted; 0 if it need not. With the
        value of a valid session, the attempts of that session count instead of those of its address."""
        name, now = _name_of(address, session), self._clock()
        own = self._of(name).wait_seconds(now)
        return own if name.startswith(_HERE) else max(own, self._elsewhere.wait_seconds(now))

    def failed(self, address: str, what: str, session: str = "") -> None:
        """Note and log a failed attempt; ``what`` says at what. Of one address or session, one line is logged a
        minute."""
        name, now = _name_of(address, session), self._clock()
        attempts = self._of(name)
        for bounded in (attempts,) if name.startswith(_HERE) else (attempts, self._elsewhere):
            bounded.wait_seconds(now)
            bounded.failed += 1
        attempts.unlogged += 1
        if self._logs and now - attempts.logged_at >= _LOG_EACH_SECONDS:
            logger.warning("🔒 LOGIN REFUSED: {} from {}, {} since the last line", what, name, attempts.unlogged)
            attempts.logged_at, attempts.unlogged = now, 0

    def _of(self, name: str) -> _Attempts:
        found = self._by_address.pop(name, None) or _Attempts(_AT_ONCE, _SECONDS_EACH)
        self._by_address[name] = found
        if len(self._by_address) > _MAX_ADDRESSES:
            self._by_address.popitem(last=False)
        return found


def _name_of(address: str, session: str = "") -> str:
    """What counts as one: a session, this machine, an IPv4 address, or an IPv6 network of 64 bits."""
    if session:
        return f"{_HERE}, session {hashlib.sha256(session.encode()).hexdigest()[:8]}"
    try:
        found = ipaddress.ip_address(address)
    except ValueError:
        return harmless(address, _MAX_ADDRESS)
    if found.is_loopback:
        return _HERE
    if isinstance(found, ipaddress.IPv6Address):
        if found.ipv4_mapped is not None:
            return _name_of(str(found.ipv4_mapped))
        return str(ipaddress.ip_network((int(found) >> 64 << 64, 64)))
    return str(found)
