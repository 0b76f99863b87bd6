"""Entry points of the worker processes: settings, wire, run; nothing else."""

import gc
import sys

# Loading modules creates hundreds of thousands of objects and no garbage, and collections during it take an eighth
# of the startup time. `python -m workers.<program>` calls fleet.process.lifecycle.run_process, which enables
# collection again. sys.argv[0] is "-m" until the module is found, so no other importer of this package is
# affected.
if sys.argv[0] == "-m":
    gc.disable()

import fleet  # noqa: F401 - first, since it decides how the packages that the programs import are loaded
