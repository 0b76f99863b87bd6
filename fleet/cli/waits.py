"""``fleet explain``, and what ``fleet run`` and ``fleet retry`` say while an assistant waits."""

import asyncio
import time
from collections.abc import Callable
from contextlib import suppress

from temporalio.client import Client
from temporalio.service import RPCError

from fleet.cli.console import Console
from fleet.config import Settings
from fleet.contracts import AssistantState, PipelineState, Progress
from fleet.control.pipelines.explanation import AssistantStatus, Explanation, explain
from fleet.errors import OperationError
from fleet.process.temporal_connection import connect_once

#: How soon a wait is explained, how often it is looked at, and how often a lasting one is told again.
_FIRST_SECONDS, _LOOK_SECONDS, AGAIN_SECONDS = 1.5, 3.0, 30.0
#: Waits that every call has for a moment.
_USUAL = ("dispatch", "fetching", "moves")
#: What is said where the pipeline's progress is not told, and nothing known explains that.
_SILENT = ("silent",)
_SILENCE = "no pipeline process tells its progress. Remedy: see what is wrong with `fleet status`"
_STYLES = {"done": "green", "running": "cyan", "failed": "bold red", "waiting": "dim"}


async def explanation(settings: Settings, workflow_id: str) -> Explanation:
    """Where a pipeline stands and why."""
    return await explain(await connect_once(settings), settings, workflow_id)


def show_explanation(console: Console, found: Explanation) -> None:
    """A pipeline and its assistants, with what would move each of them."""
    console.say(f"{found.workflow_id} is {found.state}: {found.why}")
    if found.remedy:
        console.say(f"    {'its output' if found.state == 'completed' else 'remedy'}: {found.remedy}")
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

    def tell(self, found: Explanation, *, silent: bool = False) -> None:
        """Say what is new, or was last said a while ago; ``silent``: the pipeline does not tell its progress."""
        waits: dict[tuple[str, ...], list[AssistantStatus]] = {}
        undecided = found.cause == "no_pollers"
        for assistant in found.stuck():
            if assistant.cause not in _USUAL and not (undecided and assistant.state == "fetching_inputs"):
                waits.setdefault((assistant.state, assistant.cause, assistant.remedy), []).append(assistant)
        whole = (found.state, found.cause, found.remedy)
        if undecided or (found.remedy and not found.assistants):
            waits[whole] = []
        elif silent and found.state == "running":
            waits[_SILENT] = []
        now = self._clock()
        self._told = {key: at for key, at in self._told.items() if key in waits}
        for key, statuses in waits.items():
            if now - self._told.get(key, -AGAIN_SECONDS) >= AGAIN_SECONDS:
                self._told[key] = now
                self._say(_SILENCE if key == _SILENT else _line(found, statuses))


def _line(found: Explanation, statuses: list[AssistantStatus]) -> str:
    first = statuses[0] if statuses else found
    remedy = f". Remedy: {first.remedy}" if first.remedy else ""
    if not statuses:
        return f"{first.why}{remedy}"
    names = ", ".join(assistant.name for assistant in statuses)
    return f"{names} {first.state.replace('_', ' ')}: {first.why}{remedy}"


async def tell_waits(
    client: Client, settings: Settings, workflow_id: str, say: Callable[[str], None], latest: list[Progress]
) -> None:
    """Say why the pipeline's assistants wait, until cancelled; nothing is asked while none does. ``latest`` holds
    the pipeline's progress, and is empty while that is not told."""
    waits = Waits(say)
    await asyncio.sleep(_FIRST_SECONDS)
    while True:
        if not latest or _waits(latest[0]):
            with suppress(OperationError, RPCError):  # whoever follows the pipeline says that Temporal is away
                waits.tell(await explain(client, settings, workflow_id), silent=not latest)
        await asyncio.sleep(_LOOK_SECONDS)


def _waits(progress: Progress) -> bool:
    """Whether something may have to be explained: an assistant is queued, or they are being loaded."""
    loads = progress.state is PipelineState.LOADING
    return loads or any(assistant.state is AssistantState.QUEUED for assistant in progress.assistants)
