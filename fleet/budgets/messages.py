"""What crosses Temporal between the processes, the budgets and the operator. Durations are in seconds."""

from dataclasses import dataclass, field

from fleet.contracts import Limited, LimitSettings

BUDGET_WORKFLOW = "ProviderBudgetWorkflow"
SET_QUEUE_RATE = "set_queue_rate"

OPEN_SIGNAL = "open"
REPORT_SIGNAL = "report"
LIMIT_SIGNAL = "limit"
PAUSE_SIGNAL = "pause"
RESUME_SIGNAL = "resume"
NEW_KEY_SIGNAL = "new_key"
STATUS_QUERY = "standing"

#: Calls a second of a queue of which no limit is known.
UNLIMITED = 1000.0
#: The least rate at which a queue dispatches calls that may be made at all. A server dispatches at any rate, one
#: call each ``1 / rate`` seconds; after a rise the next one comes ``1 / rate`` + 1 s later, 0 being never.
MIN_RATE = 0.001


def budget_id(queue: str) -> str:
    """The workflow id of a queue's budget."""
    return f"budget-{queue}"


@dataclass(frozen=True)
class Reading:
    """What a provider's answer said of one limit, ``age_seconds`` before the report was sent.

    ``refill`` is units a second. ``refused``: the answer was a refusal for the sake of a limit.
    """

    what: Limited
    refill: float
    remaining: float
    age_seconds: float
    refused: bool = False


@dataclass(frozen=True)
class Trouble:
    """A kind of failure and how often it occurred; ``detail`` and ``wait_seconds`` are the last one's. ``key``
    marks the API key that was used, as :func:`fleet.redaction.mark` does; ``model`` is set where the failure holds
    that model's calls alone."""

    meaning: str
    count: int
    detail: str = ""
    wait_seconds: float | None = None
    key: str = ""
    model: str = ""


@dataclass(frozen=True)
class Report:
    """What one process, of one machine, did since its last report.

    ``calls`` were sent, of which ``charged`` were not refused; ``spent`` is what those were estimated to cost,
    corrected by what earlier ones turned out to, and ``largest`` the most that one of them cost. ``answered``
    counts usable answers and what failed for reasons that are the assistant's own. ``in_flight`` are this
    process's calls that have not ended. ``held`` were dispatched and went back unsent, since their model has no
    quota. ``sent`` has when the ``calls`` were sent: pairs of seconds before the report, and how many; processes
    of 0.1.0 leave it out.
    """

    process: str
    calls: int = 0
    charged: int = 0
    answered: int = 0
    spent: dict[str, float] = field(default_factory=dict)
    largest: dict[str, float] = field(default_factory=dict)
    readings: list[Reading] = field(default_factory=list)
    troubles: list[Trouble] = field(default_factory=list)
    sent_at: float = 0.0
    in_flight: int = 0
    held: int = 0
    sent: list[list[float]] = field(default_factory=list)

    @property
    def machine(self) -> str:
        """Host name and machine of the process; empty where it does not say."""
        _, at, machine = self.process.rpartition("@")
        return machine if at else ""


@dataclass(frozen=True)
class MachineHome:
    """What a machine tells of itself: its ``machine`` (``HOST+MACHINE``), the ``version`` of its release, and
    where the others may ask its control process; ``control_url`` is empty where they may not."""

    machine: str
    version: str = ""
    control_url: str = ""


@dataclass(frozen=True)
class Opening:
    """A process tells that it will poll the queue, which dispatches ``rate`` calls a second now; None: the server
    does not let that be known or set. ``exact`` is False where the server divides the queue.

    ``costs`` is what a call is estimated to cost of which nothing is known, ``timeout_seconds`` how long one may
    take before it counts as failed. ``home`` is the process's machine; None where it does not tell.
    """

    limits: LimitSettings
    rate: float | None
    exact: bool = True
    costs: dict[str, float] = field(default_factory=dict)
    timeout_seconds: float = 600.0
    home: MachineHome | None = None


@dataclass(frozen=True)
class LimitStatus:
    """One limit as the budget sees it. ``others`` is what somebody else takes of it a second."""

    what: str
    per_minute: float
    level: float
    others_per_minute: float
    mean_cost: float
    measured: bool


@dataclass(frozen=True)
class HeldModel:
    """A model without quota until then (unix seconds): its calls wait, those of others go on. ``key`` marks the
    API key whose quota that is."""

    model: str
    until: float
    why: str
    key: str = ""


@dataclass(frozen=True)
class KnownMachine:
    """A machine whose processes the budget has heard: when last, in unix seconds by the Temporal server's clock.
    What it did not tell of itself is empty."""

    machine: str
    heard_at: float
    version: str = ""
    control_url: str = ""


@dataclass(frozen=True)
class BudgetStatus:
    """Answer of the query ``budget_status``. ``why`` says what holds the rate where it is; ``resumes`` is how
    often the operator has opened the queue; ``machines`` are those that the budget has heard in the last day.
    ``report_seconds`` is the time in which one report of each process falls due; budgets of 0.1.0 do not say (0),
    and neither how many ``processes`` have reported lately."""

    queue: str
    rate: float
    breaker: str
    why: str
    exact: bool
    calls: int
    answered: int
    refused: int
    limits: list[LimitStatus] = field(default_factory=list)
    until: float | None = None
    rejected_key: str = ""
    calls_per_minute: float = 0.0
    set_limits: LimitSettings = field(default_factory=LimitSettings)
    resumes: int = 0
    held_models: list[HeldModel] = field(default_factory=list)
    report_seconds: float = 0.0
    processes: int = 0
    machines: list[KnownMachine] = field(default_factory=list)

    @property
    def state(self) -> str:
        """The queue's state in the words that people read: ``healthy``, ``probing``, ``parked`` or ``paused``."""
        return "healthy" if self.breaker == "closed" else self.breaker

    @property
    def holds(self) -> bool:
        """Whether the queue is shut: by an operator, or since no call can succeed."""
        return self.breaker in ("parked", "paused")
