"""What a journal knows and tells: calls, their states, and the tasks that they belong to."""

from dataclasses import dataclass
from enum import StrEnum

from fleet.process.process_id import Owner


class State(StrEnum):
    """What is known of a call."""

    INTENT = "intent"
    ANSWERED = "answered"
    FAILED = "failed"
    UNSURE = "unsure"
    CUT_OFF = "cut_off"

    @classmethod
    def read(cls, text: str) -> "State":
        """The state in a row; unsure for one that only a newer release knows: the call may have been paid."""
        try:
            return cls(text)
        except ValueError:
            return cls.UNSURE


@dataclass(frozen=True)
class Send:
    """This process has to send the call; ``maybe_paid`` counts the earlier calls that were or may have been paid.
    A call that outlives its process is resumed by ``response_id`` where there is one."""

    maybe_paid: int
    response_id: str | None = None


@dataclass(frozen=True)
class Answered:
    """The call has been answered: ``answer`` is what was recorded."""

    answer: str
    maybe_paid: int


@dataclass(frozen=True)
class Wait:
    """A living process makes the call, until ``deadline`` (unix seconds) at the latest."""

    owner: Owner
    deadline: float


@dataclass(frozen=True)
class Ambiguous:
    """The call was or may have been paid ``maybe_paid`` times, and the policy forbids sending it again."""

    maybe_paid: int


#: What a process learns of a call that it wants to make.
CallState = Send | Answered | Wait | Ambiguous


@dataclass(frozen=True)
class Counts:
    """What a journal holds: calls by their state, and the total number of additional calls that may have been
    paid."""

    by_state: dict[str, int]
    maybe_paid: int


@dataclass(frozen=True)
class CallName:
    """Identifies a call. ``key`` is equal for equal requests of one assistant in one pipeline."""

    key: str
    workflow_id: str
    function_key: str


@dataclass(frozen=True)
class Task:
    """A Temporal task with its ``token``: one assistant of one run of a pipeline."""

    token: bytes
    workflow_id: str
    run_id: str
    function_key: str


@dataclass(frozen=True)
class Asked:
    """The run that last asked for a call, and what else its answer is delivered with (JSON)."""

    run_id: str
    about: str


@dataclass(frozen=True)
class Left:
    """What is known of the calls made for a task that its process no longer works on.

    ``answer`` is the recorded answer and ``about`` that of :class:`Asked`, both empty where there is none.
    ``maybe_paid`` counts the calls that were or may have been paid, in addition to the answered one.
    ``response_id`` is that of a call which still runs at the provider. ``running``: a living process makes the
    call. ``untold``: the journal does not know which assistant the task belongs to. ``orphaned``: the process that
    held the task is dead. ``paid_in_all`` counts the answered call and those after it too, for an answer that
    cannot be used.
    """

    task: Task
    answer: str = ""
    about: str = ""
    maybe_paid: int = 0
    response_id: str = ""
    running: bool = False
    untold: bool = False
    orphaned: bool = False
    paid_in_all: int = 0
