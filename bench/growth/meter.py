"""CPU and wall time of the parts of a run that count."""

import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from bench.throughput.processes import Processes, megabytes_of

PARTS = ("server", "pipeline", "assistants", "providers", "control")


class Meter:
    """Adds up what the blocks under :meth:`counts` take; an operator's looks lie between them."""

    def __init__(self, processes: Processes) -> None:
        self._processes = processes
        self._cpu: Counter[str] = Counter()
        self._seconds = 0.0

    @contextmanager
    def counts(self) -> Iterator[None]:
        """This block's time counts."""
        cpu, began = self._processes.cpu(), time.monotonic()
        yield
        self._seconds += time.monotonic() - began
        used = self._processes.cpu()
        used.subtract(cpu)
        self._cpu.update(used)

    def per_call(self, calls: int) -> dict[str, Any]:
        """Seconds, and CPU milliseconds by part, of a call."""
        return {
            "seconds": round(self._seconds, 3),
            "seconds_per_call": round(self._seconds / calls, 4),
            "cpu_ms_per_call": {part: round(1000 * self._cpu[part] / calls, 2) for part in PARTS},
        }

    def megabytes(self) -> dict[str, float]:
        """USS of the server, and of all processes of each program together."""
        found = {"server": megabytes_of(self._processes.server)["uss"]}
        for pid, program in self._processes.workers.items():
            found[program] = round(found.get(program, 0.0) + megabytes_of(pid)["uss"], 1)
        return found
