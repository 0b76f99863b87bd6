"""A call runner on a real journal, with a provider that answers when it is let."""

import asyncio
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from pathlib import Path

import pytest

from fleet.budgets.messages import BudgetStatus
from fleet.budgets.worker.admission import Admission
from fleet.budgets.worker.call_costs import Cost, Costs
from fleet.budgets.worker.gate import Directive, Gate
from fleet.config import load_settings
from fleet.contracts import LimitSettings
from fleet.errors import TaskTaken
from fleet.execution.assistant_results import About
from fleet.execution.async_journal import AsyncJournal
from fleet.execution.attempts import Attempts
from fleet.execution.call_runner import Call, CallRunner
from fleet.execution.journal import Journal
from fleet.execution.journal_records import Asked, CallName, Task
from fleet.execution.recorded_answer import Recorded
from fleet.model_options import ModelOptions
from fleet.process.metrics import Metrics
from fleet.providers.base import LlmAnswer, LlmRequest, ResumeHandle

NAME = CallName("key of gpt-4o", "workflow", "draft")
TASK = Task(b"token", NAME.workflow_id, "run", NAME.function_key)
ASKED = Asked(TASK.run_id, About("gpt-4o", "fleet-1").to_json())
REQUEST = LlmRequest("gpt-4o", "Write.", "Topic", 0.7, None, 100, "fleet-1")
ANSWER = LlmAnswer("text", "gpt-4o", "stop", 10, 20)
QUEUE = "llm-openai"

Opened = Callable[[], Journal]


class Provider:
    """Stands for a session. Answers when it is let, with ``error`` if there is one; counts what it was asked."""

    def __init__(self, error: Exception | None = None, *, at_once: bool = False) -> None:
        self.error = error
        self.asked = 0
        self.let = asyncio.Event()
        self.arrived = asyncio.Event()
        if at_once:
            self.let.set()

    async def complete(
        self, request: LlmRequest, *, timeout_seconds: float, resume_handle: ResumeHandle
    ) -> LlmAnswer:
        self.asked += 1
        self.arrived.set()
        await self.let.wait()
        if self.error is not None:
            raise self.error
        return ANSWER


class QuietReporter:
    """What an admission asks of the real one."""

    queue = QUEUE
    limits = LimitSettings()

    def __init__(self) -> None:
        self.watch = self
        self.in_trouble = False
        self.resumes = 0
        self.held_calls = 0
        self.alone_on: str | None = None

    @property
    def last(self) -> BudgetStatus:
        """What the budget said last."""
        state = "probing" if self.in_trouble else "closed"
        return BudgetStatus(QUEUE, 1.0, state, "", True, 0, 0, 0, resumes=self.resumes)

    def call(self, cost: Cost) -> AbstractContextManager[None]:
        return nullcontext()

    async def directive(self, waited_seconds: float, *, holds_model: bool = False) -> Directive:
        return Directive()

    async def is_alone(self, machine: str) -> bool:
        return machine == self.alone_on

    async def budget_status(self, at_most_seconds: float = 1.0) -> BudgetStatus:
        return self.last

    def answered(self, *arguments: object) -> None:
        pass

    def held(self) -> None:
        self.held_calls += 1

    def failed(self, *arguments: object) -> None:
        pass


class Pipeline:
    """Hears how the call moves."""

    def __init__(self) -> None:
        self.heard: list[tuple[str, int, bool]] = []
        self.told = asyncio.Event()
        self.taken = False

    async def confirm(self) -> None:
        self.heard.append(("asked", 0, False))
        if self.taken:
            raise TaskTaken

    async def sending(self, attempt: int) -> None:
        self.heard.append(("sending", attempt, False))
        self.told.set()

    async def failed(self, attempt: int, why: str, *, unsettled: bool) -> None:
        self.heard.append(("failed", attempt, unsettled))


class Attempting(Attempts):
    """The counts of attempts that have no Temporal to tell."""

    def beat(self) -> None:
        pass


@pytest.fixture
def opened(tmp_path: Path) -> Iterator[Opened]:
    """Opens the one journal, as each process does for itself."""
    journals: list[Journal] = []

    def opens() -> Journal:
        journals.append(Journal(tmp_path / "openai.db", max_bytes=10**8, keep_seconds=3600))
        return journals[-1]

    yield opens
    for journal in journals:
        journal.close()


class Process:
    """One process that makes the provider's calls."""

    def __init__(self, journal: Journal, provider: object, **changed: object) -> None:
        settings = load_settings(api_base_url="http://localhost:1", **changed)
        self.journal = AsyncJournal(journal)
        self.reporter = QuietReporter()
        self.gate = Gate()
        self.admission = Admission(self.gate, Costs("openai"), self.reporter, lambda: "")  # type: ignore[arg-type]
        self.runner = CallRunner(
            settings,
            settings.provider("openai"),
            provider,  # type: ignore[arg-type]
            self.journal,
            {QUEUE: self.admission},
            Metrics(),
        )

    async def make(
        self,
        *,
        send_ambiguous: bool = True,
        attempts: Attempts | None = None,
        pipeline: Pipeline | None = None,
        model: str = REQUEST.model,
        hold_seconds: float = 1.0,
        started_at: float = 1000.0,
        late: bool = False,
        first: bool = False,
        attempt: int = 1,
        options: ModelOptions | None = None,
    ) -> Recorded:
        """One attempt at the call."""
        name = replace(NAME, key=f"key of {model}")
        call = Call(
            name,
            QUEUE,
            replace(REQUEST, model=model, options=options),
            hold_seconds=hold_seconds,
            send_ambiguous=send_ambiguous,
            asked=ASKED,
            started_at=started_at,
            late=late,
            project_id="project",
            first=first,
            attempt=attempt,
        )
        attempts = attempts or Attempting()
        attempts.make_current()
        return await self.runner.run(call, attempts, pipeline or Pipeline())

    async def begin(self, provider: Provider) -> "asyncio.Task[Recorded]":
        """An attempt whose call is on its way."""
        attempt = asyncio.create_task(self.make())
        async with asyncio.timeout(10):
            await provider.arrived.wait()
        return attempt
