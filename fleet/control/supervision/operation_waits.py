"""What an operation on processes waits for, and how that is said."""

from collections.abc import Callable
from dataclasses import dataclass, field

#: A wait is said after the first time, and again each time that the second one has passed.
_FIRST_SECONDS, _AGAIN_SECONDS = 5.0, 15.0


@dataclass(eq=False)
class Wait:
    """A wait for the processes ``names`` ``to`` do something; ``since`` is by the machine's clock (seconds)."""

    to: str
    since: float
    names: list[str] = field(default_factory=list)


#: Gets all waits of now, and the time by the same clock.
ShowWaits = Callable[[list[Wait], float], None]


def wait_lines(waits: list[Wait], now: float) -> list[str]:
    """Waits in words with their seconds, a line for each that is waited for alike."""
    return [_line(to, alike, now) for to, alike in _by_aim(waits).items()]


class WaitLines:
    """Says what is waited for long: as a line after five seconds, and again every fifteen."""

    def __init__(self, say: Callable[[str], None]) -> None:
        self._say = say
        self._said_at: dict[str, float] = {}

    def __call__(self, waits: list[Wait], now: float) -> None:
        """Say what is due."""
        found = _by_aim(waits)
        self._said_at = {to: at for to, at in self._said_at.items() if to in found}
        for to, alike in found.items():
            due = self._said_at[to] + _AGAIN_SECONDS if to in self._said_at else _since(alike) + _FIRST_SECONDS
            if now >= due:
                self._said_at[to] = now
                self._say(f"{_line(to, alike, now)} ...")


def _by_aim(waits: list[Wait]) -> dict[str, list[Wait]]:
    found: dict[str, list[Wait]] = {}
    for wait in waits:
        if wait.names:
            found.setdefault(wait.to, []).append(wait)
    return found


def _since(waits: list[Wait]) -> float:
    return min(wait.since for wait in waits)


def _line(to: str, waits: list[Wait], now: float) -> str:
    names = ", ".join(sorted(name for wait in waits for name in wait.names))
    return f"waiting for {names} to {to}: {now - _since(waits):.0f} s"
