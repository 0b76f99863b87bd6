"""``python -m bench.limits.unbudgeted PROVIDER``: the fleet's own worker, whose queue has no budget.

It takes calls at the rate that somebody set, and reports to nobody.
"""

import asyncio
import sys

from fleet.budgets.messages import Opening
from fleet.budgets.worker.reporter import Reporter
from workers import llm


class SilentReporter(Reporter):
    """Starts no budget, and tells it nothing."""

    async def _start_budget(self, opening: Opening) -> None:
        """There is none."""

    async def run_reports(self) -> None:
        """Nothing is reported."""
        await asyncio.Event().wait()


if __name__ == "__main__":
    llm.Reporter = SilentReporter  # type: ignore[attr-defined]
    llm.main(sys.argv[1:])
