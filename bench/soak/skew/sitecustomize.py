"""Sets a machine's clock: with this folder on PYTHONPATH, ``time.time`` is SOAK_CLOCK_AHEAD seconds ahead for what
crosses machines. All else compares it with the times of files, which this cannot set.
"""

import os
import sys
import time

_real, _ahead = time.time, float(os.environ["SOAK_CLOCK_AHEAD"])
_CROSSES = (
    "fleet.budgets",
    "fleet.execution.attempts",
    "fleet.execution.task_age",
    "fleet.execution.call_runner",
    "fleet.providers",
)


def _skewed() -> float:
    caller = str(sys._getframe(1).f_globals.get("__name__"))
    return _real() + (_ahead if caller.startswith(_CROSSES) else 0.0)


time.time = _skewed
