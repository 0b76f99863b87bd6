"""``fleet logs``: the logs of all processes of this machine, in order of time."""

import re
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import replace
from datetime import datetime, timedelta

from fleet.cli.named_provider import provider_named
from fleet.config import Settings
from fleet.control.logs.log_files import LEVELS, LogRecord, Reader, Wanted, merged, processes_in
from fleet.control.logs.merged_log import HELD_BACK
from fleet.errors import OperationError
from fleet.near_names import did_you_mean

_AGO = re.compile(r"(\d+(?:\.\d+)?)([smhd])")
_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86_400}
_FIRST_YEAR, _LAST_YEAR = 1971, 9000
_LOOK_SECONDS = 0.3

Show = Callable[[LogRecord], None]


def moment(text: str, now: datetime | None = None) -> datetime:
    """The local time that ``10m``, ``2h``, ``1d`` (ago) or a date and time names.

    Raises:
        OperationError: it is neither, or not within the years of this calendar that all libraries know.
    """
    with suppress(ValueError, OverflowError):
        found = _moment(text, now)
        if _FIRST_YEAR <= found.year <= _LAST_YEAR:
            return found.astimezone().replace(tzinfo=None) if found.tzinfo else found
    raise OperationError(
        f"--since {text!r:.100} is not a valid time. Remedy: write 10m, 2h, 1d, or a time such as 2026-01-31T14:00"
    )


def _moment(text: str, now: datetime | None) -> datetime:
    if match := _AGO.fullmatch(text):
        return (now or datetime.now()) - timedelta(seconds=float(match[1]) * _SECONDS[match[2]])
    return datetime.fromisoformat(text)


def level(text: str) -> str:
    """The lowest level to show.

    Raises:
        OperationError: there is no such level.
    """
    if text.upper() not in LEVELS:
        raise OperationError(f"unknown log level {text!r}. Remedy: use one of {', '.join(LEVELS)}")
    return text.upper()


def known(settings: Settings, wanted: Wanted) -> Wanted:
    """What is wanted, with the provider's own name in place of an alias, and with its queues.

    Raises:
        OperationError: neither the settings nor the logs know its provider or process.
    """
    there = processes_in(settings.logs)
    if wanted.process is not None and there and wanted.process not in there:
        near = did_you_mean(wanted.process, there)
        raise OperationError(
            f"{settings.logs} has no log of a process {wanted.process!r}{near}. Remedy: name one of "
            f"{', '.join(there)}"
        )
    removed = {process.rpartition("_")[0] for process in there} - settings.providers.keys()
    if wanted.provider is None or wanted.provider in removed:  # a provider that is no longer configured
        return wanted
    provider = provider_named(settings, wanted.provider)
    return replace(wanted, provider=provider.name, queues=tuple(provider.limits))


def past(settings: Settings, wanted: Wanted, last: int | None) -> tuple[list[LogRecord], list[Reader]]:
    """The last ``last`` matching records (None: all), and the readers positioned after them.

    Raises:
        OperationError: there are no logs.
    """
    readers = _readers(settings)
    if not readers:
        raise OperationError(f"there are no logs in {settings.logs}. Remedy: start the fleet with `fleet up`")
    found = (record for record in merged(readers) if wanted.takes(record))
    return list(deque(found, maxlen=last)), readers


def follow(settings: Settings, wanted: Wanted, readers: list[Reader], show: Show) -> None:
    """Show new records until interrupted. Never returns."""
    for record in _coming(settings, readers):
        if wanted.takes(record):
            show(record)


def _coming(settings: Settings, readers: list[Reader]) -> Iterator[LogRecord]:
    while True:
        known = {reader.process for reader in readers}
        readers += [reader for reader in _readers(settings) if reader.process not in known]
        yield from merged(readers, datetime.now() - HELD_BACK)
        time.sleep(_LOOK_SECONDS)


def _readers(settings: Settings) -> list[Reader]:
    return [Reader(settings.logs, process) for process in processes_in(settings.logs)]
