"""``fleet explain``, and what ``fleet run`` and ``fleet retry`` say while an assistant waits."""

import asyncio
import time
from collections.abc import Callable
from contextlib import suppress

from temporalio.client import Client
from temporalio.service import RPCError

from fleet.cli.console import Console
from fleet.config import Settings
from fleet.control.pipelines.explanation import AssistantStatus, Explanation, explain
from fleet.errors import OperationError
from fleet.process.temporal_connection import connect_once

#: How soon a wait is explained, how often it is looked at, and how often a lasting one is told again.
_FIRST_SECONDS, _LOOK_SECONDS, AGAIN_SECONDS = 1.5, 3.0, 30.0
#: Waits that every call has for a moment.
_USUAL = ("dispatch", "fetching", "moves")
_STYLES = {"done": "green", "running": "cyan", "failed": "bold red", "waiting": "dim"}


async def explanation(settings: Settings, workflow_id: str) -> Explanation:
    """Where a pipeline stands and why."""
    return await explain(await connect_once(settings), settings, workflow_id)


def show_explanation(console: Console, found: Explanation) -> None:
    """A pipeline and its assistants, with what would move each of them."""
    console.say(f"{found.workflow_id} is {found.state}: {found.why}")
    if found.remedy:
        console.say(f"    remedy: {found.remedy}")
    said = found.remedy
    for assistant in found.assistants:
        word = assistant.state.replace("_", " ")
        console.print(f"[{_STYLES.get(assistant.state, 'yellow')}]{word:<16}[/] ", end="")
        since = "" if assistant.since is None else f" (since {assistant.since[11:19]} UTC)"
        console.say(f"{assistant.function_key}: {assistant.why}{since}")
        if assistant.remedy and assistant.remedy != said:
            console.say(f"    remedy: {assistant.remedy}")
            said = assistant.remedy


class Waits:
    """Says why assistants wait: at once, when the reason changes, and again while it lasts."""

    def __init__(self, say: Callable[[str], None], clock: Callable[[], float] = time.monotonic) -> None:
        self._say = say
        self._clock = clock
        self._told: dict[tuple[str, ...], float] = {}

    def tell(self, found: Explanation) -> None:
        """Say what is new, or was last said a while ago."""
        waits: dict[tuple[str, ...], list[AssistantStatus]] = {}
        for assistant in found.stuck():
            if assistant.cause not in _USUAL:
                waits.setdefault((assistant.state, assistant.cause, assistant.remedy), []).append(assistant)
        whole = (found.state, found.cause, found.remedy)
        if found.remedy and not found.assistants:
            waits[whole] = []
        now = self._clock()
        self._told = {key: at for key, at in self._told.items() if key in waits}
        for key, statuses in waits.items():
            if now - self._told.get(key, -AGAIN_SECONDS) >= AGAIN_SECONDS:
                self._told[key] = now
                self._say(_line(found, statuses))


def _line(found: Explanation, statuses: list[AssistantStatus]) -> str:
    if not statuses:
        return f"{found.why}. Remedy: {found.remedy}"
    first = statuses[0]
    names = ", ".join(assistant.name for assistant in statuses)
    remedy = f". Remedy: {first.remedy}" if first.remedy else ""
    return f"{names} {first.state.replace('_', ' ')}: {first.why}{remedy}"


async def tell_waits(
    client: Client, settings: Settings, workflow_id: str, say: Callable[[str], None], waits_now: Callable[[], bool]
) -> None:
    """Say why the pipeline's assistants wait, until cancelled; nothing is asked while ``waits_now`` says that none
    does."""
    waits = Waits(say)
    await asyncio.sleep(_FIRST_SECONDS)
    while True:
        if waits_now():
            with suppress(OperationError, RPCError):  # whoever follows the pipeline says that Temporal is away
                waits.tell(await explain(client, settings, workflow_id))
        await asyncio.sleep(_LOOK_SECONDS)
