"""Entry points of the worker processes: settings, wire, run; nothing else."""

import gc
import sys

# Loading modules makes hundreds of thousands of objects and no garbage, and looking through them for some takes an
# eighth of a start. Whoever runs `python -m workers.<program>` ends in
# fleet.process.lifecycle.run_process, which has garbage collected again. Until the module is found sys.argv[0] is
# "-m": nobody else is affected who imports this.
if sys.argv[0] == "-m":
    gc.disable()
