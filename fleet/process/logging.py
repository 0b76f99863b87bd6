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
from logging.handlers import RotatingFileHandler
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


class ProcessLog(RotatingFileHandler):
    """The log file of one process. A full file is renamed to a name with the time in it, and ``backups`` of those
    are kept. A line that cannot be written, for example on a full disk, is counted and raises no error."""

    def __init__(self, path: Path, max_bytes: int, backups: int, on_dropped: Callable[[], None]) -> None:
        super().__init__(path, maxBytes=max_bytes, backupCount=backups, encoding="utf-8", errors="replace")
        self.terminator = ""
        self._path, self._on_dropped = path, on_dropped

    def format(self, record: logging.LogRecord) -> str:
        """The line as loguru formatted it."""
        return record.getMessage()

    def doRollover(self) -> None:
        """Rename the full file and begin the next one."""
        self.close()  # the next write opens it again if anything here fails
        if self._path.exists():
            self._path.rename(self._path.with_suffix(f".{datetime.now():%Y-%m-%d_%H-%M-%S_%f}.log"))
        aside = sorted(self._path.parent.glob(f"{self._path.stem}.????-??-??_*.log"))
        for old in aside[: -self.backupCount]:
            old.unlink(missing_ok=True)
        self.stream = self._open()

    def handleError(self, record: logging.LogRecord) -> None:
        """Count the lost line."""
        self._on_dropped()


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
