"""``python -m bench.limits.unbudgeted PROVIDER``: the fleet's own worker, whose queue has no budget.

It takes calls at the rate that somebody set, and reports to nobody.
"""

import asyncio
import sys

from fleet.budgets.queues import QueueRate, queue_rate
from fleet.budgets.reporter import Reporter
from fleet.budgets.reports import Standing
from workers import llm


class SilentReporter(Reporter):
    """Starts no budget, and tells it nothing."""

    async def open(self) -> QueueRate:
        """The rate as it is."""
        return await queue_rate(self._client, self.queue)

    async def report_for_ever(self) -> None:
        """Nothing is reported."""
        await asyncio.Event().wait()

    async def standing(self) -> Standing | None:
        """Nobody knows."""
        return None


if __name__ == "__main__":
    llm.Reporter = SilentReporter  # type: ignore[attr-defined]
    llm.main(sys.argv[1:])
