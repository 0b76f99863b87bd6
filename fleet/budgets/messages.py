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

#: Calls per second of a queue with no known limit.
UNLIMITED = 1000.0
#: The lowest rate of a queue whose calls may be made at all. At a positive rate the server dispatches one call
#: every ``1 / rate`` seconds; after an increase the next one comes ``1 / rate`` + 1 s later. At 0 none is ever
#: dispatched.
MIN_RATE = 0.001


def budget_id(queue: str) -> str:
    """The workflow id of a queue's budget."""
    return f"budget-{queue}"


@dataclass(frozen=True)
class Reading:
    """What a provider's answer said about one limit, ``age_seconds`` before the report was sent.

    ``refill`` is units per second. ``refused``: the answer was a refusal because of a limit.
    """

    what: Limited
    refill: float
    remaining: float
    age_seconds: float
    refused: bool = False


@dataclass(frozen=True)
class Trouble:
    """A kind of failure and how often it occurred; ``detail`` and ``wait_seconds`` are those of the last one.
    ``key`` marks the API key that was used, as :func:`fleet.redaction.mark` does; ``model`` is set where the
    failure holds only that model's calls."""

    meaning: str
    count: int
    detail: str = ""
    wait_seconds: float | None = None
    key: str = ""
    model: str = ""


@dataclass(frozen=True)
class Report:
    """What one process, of one machine, did since its last report.

    ``calls`` is how many were sent, ``charged`` how many of those were not refused. ``spent`` is the estimated
    cost of the charged calls, corrected by the actual cost of earlier ones; ``largest`` is the highest cost of a
    single call. ``answered`` counts usable answers, and failures caused by the assistant itself. ``in_flight`` is
    the number of this process's calls that have not ended. ``held`` counts calls that were dispatched and went
    back unsent, since their model has no quota. ``sent`` says when the ``calls`` were sent, in pairs of seconds
    before the report and number of calls; processes of 0.1.0 leave it out.
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
        """Host name and machine of the process; empty where the process does not say."""
        _, at, machine = self.process.rpartition("@")
        return machine if at else ""


@dataclass(frozen=True)
class MachineHome:
    """What a machine reports about itself: its ``machine`` (``HOST+MACHINE``), the ``version`` of its release, and
    the address where other machines may query its control process; ``control_url`` is empty where they may not."""

    machine: str
    version: str = ""
    control_url: str = ""


@dataclass(frozen=True)
class Opening:
    """A process announces that it will poll the queue, which now dispatches ``rate`` calls per second; None: the
    server does not let the rate be read or set. ``exact`` is False where the server divides the queue into
    partitions.

    ``costs`` is the estimated cost of a call about which nothing is known, ``timeout_seconds`` how long a call may
    take before it counts as failed. ``home`` is the process's machine; None where the process does not say.
    """

    limits: LimitSettings
    rate: float | None
    exact: bool = True
    costs: dict[str, float] = field(default_factory=dict)
    timeout_seconds: float = 600.0
    home: MachineHome | None = None


@dataclass(frozen=True)
class LimitStatus:
    """One limit as the budget sees it. ``others_per_minute`` is what the rate leaves to others: an estimate, which
    is above 0 for a while after a change of load."""

    what: str
    per_minute: float
    level: float
    others_per_minute: float
    mean_cost: float
    measured: bool


@dataclass(frozen=True)
class HeldModel:
    """A model without quota until ``until`` (unix seconds): its calls wait, calls of other models continue.
    ``key`` marks the API key that the quota belongs to."""

    model: str
    until: float
    why: str
    key: str = ""


@dataclass(frozen=True)
class KnownMachine:
    """A machine whose processes have reported to the budget. ``heard_at`` is when one last did, in unix seconds by
    the Temporal server's clock. What the machine did not report about itself is empty."""

    machine: str
    heard_at: float
    version: str = ""
    control_url: str = ""


@dataclass(frozen=True)
class BudgetStatus:
    """Answer of the query ``standing``. ``why`` says what determines the rate; ``resumes`` counts how often the
    queue was resumed, by the operator or with a new key; ``machines`` are those that reported within the last day.
    ``report_seconds`` is the time in which each process sends one report. ``processes`` is how many processes have
    reported recently. Budgets of 0.1.0 send neither of these two (0)."""

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
        """Whether the queue dispatches nothing: paused by an operator, or parked since no call can succeed."""
        return self.breaker in ("parked", "paused")
