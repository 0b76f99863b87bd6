"""This machine's clock where a time crosses to another machine: sent to it, or compared with one of its own.

Times that stay on the machine are compared with those of its files, so they are read from the system.
"""

import os
import time

#: Variable for tests: seconds that this machine's clock is ahead of what the system says.
CLOCK_AHEAD = "FLEET_TEST_CLOCK_AHEAD_SECONDS"


def unix_time() -> float:
    """Seconds since the epoch."""
    return time.time() + float(os.environ.get(CLOCK_AHEAD) or 0.0)
