"""What a failed test's fleet was doing: the last lines of its logs, its provider's ledger, its open pipelines."""

from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

_LINES, _CALLS, _LINE_LENGTH = 15, 30, 400


@runtime_checkable
class Witness(Protocol):
    """A fixture's value that can tell what went on; ``since`` is when the test began, in unix seconds."""

    def evidence(self, since: float) -> Iterator[tuple[str, str]]:
        """Titles and texts."""
        ...


def gather(values: Iterable[object], since: float) -> Iterator[tuple[str, str]]:
    """What the fixtures of a failed test can tell; what cannot be read is said instead."""
    for value in values:
        if isinstance(value, Witness):
            telling = value.evidence(since)
            while True:
                try:
                    yield next(telling)
                except StopIteration:
                    break
                except Exception as error:  # whatever is broken now may be why the test failed
                    yield "evidence", f"could not be gathered: {error!r}"
                    break


def last_lines(logs: Path, since: float) -> Iterator[tuple[str, str]]:
    """The end of each log that was written to since then."""
    for path in sorted(logs.glob("*.log")):
        if path.is_file() and path.stat().st_mtime >= since:
            lines = path.read_text("utf-8", errors="replace").splitlines()[-_LINES:]
            yield f"{path.name}, last lines", "\n".join(line[:_LINE_LENGTH] for line in lines)


def ledger_lines(calls: list[Mapping[str, Any]]) -> str:
    """The provider's latest calls, a line each."""
    shown = [
        f"{call['at']:.3f} {call['provider']:<10} {call['outcome']:<12} status={call['status']} {call['model']}"
        for call in calls[-_CALLS:]
    ]
    return "\n".join([f"{len(calls)} calls", *shown])
