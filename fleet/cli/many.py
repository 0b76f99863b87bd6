"""``fleet run --topics``: one ordinary pipeline per topic, a bounded number of them open at a time."""

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from typing import Any, TypeVar

from temporalio.client import Client
from temporalio.common import WorkflowIDReusePolicy
from temporalio.exceptions import WorkflowAlreadyStartedError
from temporalio.service import RPCError, RPCStatusCode

from fleet.cli.console import Console
from fleet.cli.counted import counted
from fleet.cli.logs import moment
from fleet.cli.output import print_json
from fleet.cli.run import (
    NotFailed,
    Outcome,
    Started,
    begin_workflow,
    refuse_unusable_project,
    result_of,
    retry_pipeline,
)
from fleet.cli.show import console_for
from fleet.cli.topics import Row
from fleet.cli.waits import Waits
from fleet.config import Settings
from fleet.control.pipelines.explanation import explain
from fleet.control.pipelines.listing import Wanted, pipelines_of
from fleet.errors import InputError, OperationError
from fleet.exit_codes import EXIT_FAILED, EXIT_OK
from fleet.pipeline.inputs import PipelineInputs
from fleet.process.temporal_connection import connect_once

MAX_OPEN = 100
#: Answers after which the same request does not succeed later.
_FINAL = (
    RPCStatusCode.INVALID_ARGUMENT,
    RPCStatusCode.NOT_FOUND,
    RPCStatusCode.PERMISSION_DENIED,
    RPCStatusCode.UNAUTHENTICATED,
)
_AGAIN_SECONDS = 2.0
_LINE_SECONDS, _WHY_SECONDS = 10.0, 5.0
Done = TypeVar("Done")


@dataclass
class Tally:
    """How far a file's pipelines are. ``started`` counts those that this command started; ``open`` those that have
    been started, by whatever command, and have not ended; ``open_ids`` are theirs, the oldest first."""

    total: int
    started: int = 0
    completed: int = 0
    failed: int = 0
    cost_usd: float = 0.0
    simulated_cost_usd: float = 0.0
    unpriced_calls: int = 0
    open_ids: dict[str, None] = field(default_factory=dict)

    @property
    def open(self) -> int:
        """How many are open."""
        return len(self.open_ids)

    def ended(self, outcome: Outcome) -> None:
        """A pipeline ended."""
        self.open_ids.pop(outcome.workflow_id, None)
        self.completed += outcome.completed
        self.failed += not outcome.completed
        self.cost_usd += outcome.spent.cost_usd
        self.simulated_cost_usd += outcome.spent.simulated_cost_usd
        self.unpriced_calls += outcome.spent.unpriced_calls

    @property
    def waiting(self) -> int:
        """Topics whose pipeline is not started yet."""
        return self.total - self.open - self.completed - self.failed

    def line(self) -> str:
        """All of it on one line."""
        cost = f"${self.cost_usd:.4f}" + (
            f" + {self.unpriced_calls} calls of unknown price" if self.unpriced_calls else ""
        )
        simulated = f" + ${self.simulated_cost_usd:.4f} simulated, not paid" if self.simulated_cost_usd else ""
        return (
            f"{self.completed} done, {self.open} running, {self.waiting} waiting, {self.failed} failed, "
            f"cost so far {cost}{simulated}"
        )

    def to_json(self) -> dict[str, Any]:
        """As ``--json`` prints it."""
        return {
            "started": self.started,
            "completed": self.completed,
            "failed": self.failed,
            "open": self.open,
            "cost_usd": round(self.cost_usd, 10),
            "simulated_cost_usd": round(self.simulated_cost_usd, 10),
            "unpriced_calls": self.unpriced_calls,
        }


@dataclass(frozen=True)
class Many:
    """The pipelines of a topics file. ``inputs`` are those of all of them except the topic; at most ``max_open``
    are open at a time; ``wait`` False: they are all started and not followed."""

    settings: Settings
    rows: list[Row]
    inputs: PipelineInputs
    priority: int | None = None
    max_open: int = MAX_OPEN
    wait: bool = True

    async def run(self, tally: Tally, say: Callable[[str], None]) -> None:
        """Start every pipeline that does not exist yet, and follow all to their ends. A cancelled run leaves them
        running; ``tally`` says how far it came.

        Raises:
            ProjectNotFound, NoAssistants: the project cannot be run.
            TemporalUnavailable: the server cannot be reached at the start; later it is waited for.
            OperationError: the server refuses to start pipelines.
        """
        await refuse_unusable_project(self.settings, self.inputs.project_id)
        client = await connect_once(self.settings)
        rows, said = iter(self.rows), list[str]()

        def hindered(text: str) -> None:
            if text not in said:
                said.append(text)
                say(text)

        async def work() -> None:
            for row in rows:  # shared: each worker takes the next one
                await self._one(client, row, tally, hindered)

        telling = asyncio.create_task(self._tell_why(client, tally, say), name="waits")
        try:
            async with asyncio.TaskGroup() as group:
                for _ in range(min(self.max_open, len(self.rows))):
                    group.create_task(work())
        except* OperationError as failed:
            raise failed.exceptions[0] from None
        finally:
            telling.cancel()

    async def _tell_why(self, client: Client, tally: Tally, say: Callable[[str], None]) -> None:
        """Say why the pipeline that has been open for longest waits; the others mostly wait for the same."""
        waits = Waits(say)
        while True:
            await asyncio.sleep(_WHY_SECONDS)
            if (oldest := next(iter(tally.open_ids), None)) is not None:
                with suppress(OperationError, RPCError):  # whoever follows it says that Temporal is away
                    waits.tell(await explain(client, self.settings, oldest))

    async def _one(self, client: Client, row: Row, tally: Tally, hindered: Callable[[str], None]) -> None:
        started = await _patiently(lambda: self._started(client, row, tally), hindered)
        tally.open_ids[row.workflow_id] = None
        if self.wait:
            tally.ended(await _patiently(lambda: result_of(started), hindered))

    async def _started(self, client: Client, row: Row, tally: Tally) -> Started:
        """The pipeline of a row, started by this command or by an earlier one."""
        inputs = replace(self.inputs, topic=row.topic)
        try:
            handle = await begin_workflow(
                client, inputs, row.workflow_id, self.priority, WorkflowIDReusePolicy.REJECT_DUPLICATE
            )
            tally.started += 1
        except WorkflowAlreadyStartedError:
            handle = client.get_workflow_handle(row.workflow_id)
        return Started(client, handle, self.settings)


async def _patiently(act: Callable[[], Awaitable[Done]], hindered: Callable[[str], None]) -> Done:
    """What ``act`` returns, as soon as the server answers."""
    while True:
        try:
            return await act()
        except RPCError as error:
            if error.status in _FINAL:
                raise OperationError(
                    f"Temporal refused a pipeline: {error.message}. Remedy: see `fleet doctor`"
                ) from None
            hindered(f"Temporal does not answer ({error.message}): it is asked again until it does")
            await asyncio.sleep(_AGAIN_SECONDS)


@contextmanager
def told_of(console: Console, tally: Tally) -> Iterator[None]:
    """Show the tally until the block ends: as a bar on a terminal, otherwise as a line from time to time."""
    task: asyncio.Task[None] | None = None
    try:
        task = asyncio.get_running_loop().create_task(_show(console, tally), name="tally")
        yield
    finally:
        if task is not None:
            task.cancel()


async def _show(console: Console, tally: Tally) -> None:
    if not console.is_terminal:
        while True:
            await asyncio.sleep(_LINE_SECONDS)
            console.say(tally.line())
    from rich.progress import BarColumn, Progress, TextColumn

    with Progress(BarColumn(), TextColumn("{task.description}"), console=console, transient=True) as bar:
        shown = bar.add_task("", total=tally.total)
        while True:
            bar.update(shown, completed=tally.completed + tally.failed, description=tally.line())
            await asyncio.sleep(0.5)


def run_topics(
    settings: Settings,
    rows: list[Row],
    inputs: PipelineInputs,
    priority: int | None,
    max_open: int,
    *,
    wait: bool,
    as_json: bool,
    again: str,
) -> int:
    """Run the pipelines of a topics file and show how far they are; ``again`` is the whole command, which follows
    them once more. Returns the exit status."""
    console, tally = console_for(stderr=as_json), Tally(len(rows))
    console.say(f"{counted(len(rows), 'topic')} for project {inputs.project_id}")
    try:
        asyncio.run(_run(Many(settings, rows, inputs, priority, max_open, wait), tally, console, again))
    finally:
        if as_json:
            print_json(tally.to_json())
    if not as_json:
        console.say(tally.line())
    if tally.failed:
        console.say(
            f"go on with those that failed: `fleet retry --failed --since 1d --project {inputs.project_id}`"
        )
    return EXIT_FAILED if tally.failed else EXIT_OK


async def _run(many: Many, tally: Tally, console: Console, again: str) -> None:
    try:
        with told_of(console, tally):
            await many.run(tally, console.say)
    except asyncio.CancelledError:
        rest = f" and starts the {tally.waiting} that are not started" if tally.waiting else ""
        console.say(
            f"left {tally.open} running: they go on without this command. `{again}` follows them again{rest}"
        )
        raise


def retry_failed(
    settings: Settings, workflow_id: str | None, since: str | None, project: str | None, *, as_json: bool
) -> int:
    """Retry every pipeline that failed since then and was not retried yet; returns the exit status.

    Raises:
        InputError: ``since`` is missing, or one pipeline was named too.
    """
    if workflow_id is not None or since is None:
        raise InputError("--failed takes --since and no id. Remedy: `fleet retry --failed --since 1h`")
    retried, left = asyncio.run(_retry_failed(settings, Wanted("failed", project, ended_since=moment(since))))
    if as_json:
        print_json({"retried": retried, "not_retried": left})
    else:
        console = console_for()
        console.say(f"retried {counted(len(retried), 'pipeline')}" + "".join(f"\n  {each}" for each in retried))
        if retried:
            console.say("see how they go: fleet list --state running")
        for why in left.values():
            console.say(f"not retried: {why}")
    return EXIT_OK


async def _retry_failed(settings: Settings, wanted: Wanted) -> tuple[list[str], dict[str, str]]:
    """The ids that were retried, and why others were not. A failed run that was followed by one that runs or has
    completed is neither."""
    retried, left = list[str](), dict[str, str]()
    found = await pipelines_of(await connect_once(settings), wanted)
    for workflow_id in dict.fromkeys(listed.workflow_id for listed in found if listed.kind == "pipeline"):
        try:
            await retry_pipeline(settings, workflow_id)
            retried.append(workflow_id)
        except NotFailed:  # its latest run runs, or has completed: it was retried already
            continue
        except OperationError as error:
            left[workflow_id] = str(error)
    return retried, left
