"""With this folder on PYTHONPATH, a process of the fleet does without the part that is named in the file
``FLEET_BENCH_WITHOUT`` when it starts; see bench/throughput/parts.py."""

import importlib.abc
import importlib.machinery
import os
import sys
from collections.abc import Callable, Sequence
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import ModuleType
from typing import Any


def nothing(*_: Any, **__: Any) -> None:
    """In place of what a part does."""


def no_journal(journal: ModuleType) -> None:
    """Every call is sent, and nothing is recorded."""
    from fleet.execution.journal_records import Send

    journal.Journal.hold = journal.Journal.answered = nothing
    journal.Journal.begin = lambda *_, **__: Send(0)


def no_heartbeats(attempts: ModuleType) -> None:
    """The server learns of a call when it ends."""
    attempts.Attempts.beat = nothing


def no_log(logging: ModuleType) -> None:
    """Warnings and errors only."""
    logging.logger.info = nothing


#: For each part the module whose code it is, and what takes it out; metrics are a setting.
PARTS: dict[str, tuple[str, Callable[[ModuleType], None]]] = {
    "journal": ("fleet.execution.journal", no_journal),
    "heartbeats": ("fleet.execution.attempts", no_heartbeats),
    "log": ("fleet.process.logging", no_log),
}


class Without(importlib.abc.MetaPathFinder):
    """Takes a part out of its module as soon as the module is loaded."""

    def __init__(self, module: str, take_out: Callable[[ModuleType], None]) -> None:
        self._module = module
        self._take_out = take_out

    def find_spec(
        self, name: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """The module's own spec, with a loader that takes the part out."""
        if name != self._module:
            return None
        spec = importlib.machinery.PathFinder.find_spec(name, path)
        assert spec is not None and spec.loader is not None
        load = spec.loader.exec_module

        def exec_module(module: ModuleType) -> None:
            load(module)
            self._take_out(module)

        spec.loader.exec_module = exec_module  # type: ignore[method-assign]
        return spec


if (file := os.environ.get("FLEET_BENCH_WITHOUT")) and (part := Path(file).read_text("utf-8")):
    if part == "metrics":
        os.environ["FLEET_METRICS"] = "false"
    else:
        sys.meta_path.insert(0, Without(*PARTS[part]))
