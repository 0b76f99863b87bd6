"""Commands as processes of their own, forked from one that has imported their modules: a test that runs forty of
them does not pay forty times for the start of Python and the imports. Starts as users know them are tested where
they are the point, such as in test_commands.py.
"""

import gc
import importlib
import multiprocessing
import os
import subprocess
import sys
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from multiprocessing.connection import Connection
from pathlib import Path
from typing import TextIO

from fleet.config import PROJECT_ROOT

BIN = Path(sys.executable).parent
#: What has a ``main``, by the name of the command.
_ENTRY_POINTS = {"fleet": "fleet.cli.main", "supervisorctl": "supervisor.supervisorctl"}

_forking = multiprocessing.get_context("forkserver")
_forking.set_forkserver_preload(
    [__name__, *_ENTRY_POINTS.values(), "anyio._backends._asyncio", "certifi", "httpcore"]
    + [
        ".".join(file.relative_to(PROJECT_ROOT).with_suffix("").parts)
        for room in ("cli", "control")
        for file in sorted(PROJECT_ROOT.glob(f"fleet/{room}/**/*.py"))
        if not file.stem.startswith("__")
    ]
)


class Command:
    """A command that has been started; what a test needs of ``subprocess.Popen``."""

    def __init__(self, name: str, *arguments: str, environment: Mapping[str, str]) -> None:
        self._words = [str(BIN / name), *arguments]
        out, child_out = _forking.Pipe(duplex=False)
        err, child_err = _forking.Pipe(duplex=False)
        given = (_ENTRY_POINTS[name], self._words, dict(environment), str(Path.cwd()), child_out, child_err)
        self._process = _forking.Process(target=_become, args=given, daemon=True)
        self._process.start()
        child_out.close()
        child_err.close()
        self.stdout, self.stderr = _text_of(out), _text_of(err)

    @property
    def pid(self) -> int:
        assert self._process.pid is not None
        return self._process.pid

    @property
    def returncode(self) -> int | None:
        return self._process.exitcode

    def send_signal(self, number: int) -> None:
        os.kill(self.pid, number)

    def communicate(self, timeout: float) -> tuple[str, str]:
        """What it still says on both streams until it ends.

        Raises:
            subprocess.TimeoutExpired: it did not end in time, and has been killed.
        """
        with ThreadPoolExecutor(2) as threads:
            reading = [threads.submit(stream.read) for stream in (self.stdout, self.stderr)]
            self._process.join(timeout)
            late = self._process.is_alive()
            if late:
                self._process.kill()
            out, err = (future.result() for future in reading)
        self.stdout.close()
        self.stderr.close()
        if late:
            raise subprocess.TimeoutExpired(self._words, timeout, out, err)
        return out, err

    def end(self, timeout: float) -> subprocess.CompletedProcess[str]:
        """Wait for its end; see :meth:`communicate`."""
        out, err = self.communicate(timeout)
        assert self.returncode is not None
        return subprocess.CompletedProcess(self._words, self.returncode, out, err)


def _text_of(pipe: "Connection[bytes, bytes]") -> TextIO:
    with pipe:
        return os.fdopen(os.dup(pipe.fileno()), encoding="utf-8")


def _become(
    module: str,
    words: list[str],
    environment: dict[str, str],
    folder: str,
    out: "Connection[bytes, bytes]",
    err: "Connection[bytes, bytes]",
) -> None:
    for pipe, number in ((out, 1), (err, 2)):
        os.dup2(pipe.fileno(), number)
        pipe.close()
    gc.freeze()  # a look for garbage among the loaded modules copies their memory: three quarters of the CPU
    os.environ.clear()
    os.environ.update(environment)
    os.chdir(folder)
    sys.argv = words
    importlib.import_module(module).main()
