"""Replaces what production provides: Temporal, the Backend API and the providers, on loopback.

It runs outside supervisord, as the real ones do, so that a restart of the fleet does not affect it.
"""

import gc
import sys

# As in fleet/cli: loading modules creates no garbage, and looking for it takes an eighth of a program's start.
if sys.argv[0] == "-m":
    gc.set_threshold(50_000)
