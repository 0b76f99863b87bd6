"""Logging: one rotating file per process, in a format for people or for machines.

One record is one line, whatever text from outside it quotes: control characters are escaped, API keys are removed,
and the lines of a traceback are indented below their record. No other process writes to a process's file: a
rotating file shared by several processes loses lines.
"""

import json
import logging
import sys
import traceback
from collections.abc import Callable
from datetime import datetime
from io import FileIO
from pathlib import Path
from typing import TYPE_CHECKING, Any

from loguru import logger

from fleet.config import Settings
from fleet.terminal import harmless

if TYPE_CHECKING:
    from loguru import Record

#: The context that may be bound to a line; see :func:`context_of`.
CONTEXT_KEYS = ("workflow_id", "assistant", "provider")

CONTINUATION = "    ┆ "
_FOREIGN_LEVELS = {
    "temporalio.activity": logging.ERROR,
    "httpx": logging.WARNING,
    "httpx2": logging.WARNING,
    "uvicorn": logging.WARNING,
}


def context_of(record: "Record") -> dict[str, str]:
    """The context bound to a record: workflow_id, assistant, provider, as far as they are known."""
    extra = record["extra"]
    return {key: harmless(str(extra[key])) for key in CONTEXT_KEYS if extra.get(key)}


def _traceback_lines(record: "Record") -> list[str]:
    exception = record["exception"]
    if exception is None or exception.value is None:
        return []
    text = "".join(traceback.format_exception(exception.type, exception.value, exception.traceback))
    return [harmless(line) for line in text.splitlines()]


def text_line(record: "Record", process: str) -> str:
    """A record for people: ``time | level | process | context | message``."""
    time = record["time"].strftime("%Y-%m-%d %H:%M:%S.%f")[:-3]
    context = " ".join(f"{key}={value}" for key, value in context_of(record).items()) or "-"
    head = f"{time} | {record['level'].name:<7} | {process} | {context} | {harmless(record['message'])}"
    return "\n".join([head, *(CONTINUATION + line for line in _traceback_lines(record))])


def json_line(record: "Record", process: str) -> str:
    """A record for machines: one JSON object with time (ISO 8601 with zone), level, process, message."""
    entry: dict[str, Any] = {
        "time": record["time"].isoformat(),
        "level": record["level"].name,
        "process": process,
        **context_of(record),
        "message": harmless(record["message"]),
    }
    if lines := _traceback_lines(record):
        entry["traceback"] = lines
    return json.dumps(entry, ensure_ascii=False)


class _ToLoguru(logging.Handler):
    """Passes the standard library's log records, which the packages we use write, to loguru."""

    def emit(self, record: logging.LogRecord) -> None:
        """Log the record through loguru, with the same level and exception."""
        level = record.levelname if record.levelname in {"DEBUG", "INFO", "WARNING", "ERROR"} else "ERROR"
        logger.opt(exception=record.exc_info).log(level, "{}: {}", record.name, record.getMessage())


class ProcessLog:
    """The log file of one process. A full file is renamed to a name with the time in it, and ``backups`` of those
    are kept. A line that cannot be written, for example on a full disk, is counted and raises no error."""

    def __init__(self, path: Path, max_bytes: int, backups: int, on_dropped: Callable[[], None]) -> None:
        self._path, self._max_bytes, self._backups, self._on_dropped = path, max_bytes, backups, on_dropped
        self._file: FileIO | None = self._opened()
        self._cut = b""

    def write(self, line: str) -> None:
        """Append a line, in a write of its own. If the disk takes only a part of it, the next line begins anew."""
        data = self._cut + line.encode("utf-8", "replace")
        try:
            if self._file is not None and self._size + len(data) >= self._max_bytes:
                self._roll_over(self._file)
            self._file = self._file or self._opened()
            written = self._file.write(data)
        except OSError:
            self._on_dropped()
            return
        self._size += written
        self._cut = b"\n" if written < len(data) else b""
        if self._cut:
            self._on_dropped()

    def stop(self) -> None:
        """Close the file; called by loguru when the log is removed."""
        if self._file is not None:
            self._file.close()

    def _opened(self) -> FileIO:
        file = FileIO(self._path, "a")
        self._size = file.tell()
        return file

    def _roll_over(self, full: FileIO) -> None:
        """Rename the full file; the next line begins another one."""
        self._file = None
        full.close()
        if self._path.exists():
            self._path.rename(self._path.with_suffix(f".{datetime.now():%Y-%m-%d_%H-%M-%S_%f}.log"))
        aside = sorted(self._path.parent.glob(f"{self._path.stem}.????-??-??_*.log"))
        for old in aside[: -self._backups]:
            old.unlink(missing_ok=True)


def setup_logging(
    settings: Settings, process: str, on_dropped: Callable[[str], None] = lambda process: None
) -> None:
    """Write this process's log to ``<logs>/<process>.log``, and to the terminal if there is one.

    ``process`` is the name of the supervised process, such as ``openai_00``; ``on_dropped`` is called with it for
    each line that cannot be written. To be called once, before anything else.
    """
    render = json_line if settings.log_format == "json" else text_line

    def line(record: "Record") -> str:
        record["extra"]["line"] = render(record, process)
        return "{extra[line]}\n"

    logger.remove()
    settings.logs.mkdir(parents=True, exist_ok=True)
    file = ProcessLog(
        settings.logs / f"{process}.log",
        int(settings.log_rotation_mb * 1_000_000),
        settings.log_backups,
        lambda: on_dropped(process),
    )
    logger.add(file, level=settings.log_level, format=line, diagnose=False, backtrace=False)
    if sys.stderr.isatty():
        logger.add(sys.stderr, level=settings.log_level, format=line, diagnose=False, backtrace=False)
    logging.captureWarnings(True)
    logging.basicConfig(handlers=[_ToLoguru()], level=logging.INFO, force=True)
    for name, least in _FOREIGN_LEVELS.items():
        logging.getLogger(name).setLevel(least)
