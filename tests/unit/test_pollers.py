"""Whether Temporal answers a process, as the SDK's metrics tell; their course is as it was measured."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import pytest

from fleet.process.pollers import OVERDUE_SECONDS, Polls

QUEUE = "llm-openai"


@dataclass
class Metric:
    name: str


@dataclass
class Update:
    metric: Metric
    value: float
    attributes: dict[str, Any]


def update(name: str, value: float = 1, **attributes: str) -> Update:
    return Update(Metric(f"temporal_{name}"), value, attributes)


def pollers(count: int) -> Update:
    return update("num_pollers", count, task_queue=QUEUE, poller_type="activity_task")


def free_slots(count: int) -> Update:
    return update("worker_task_slots_available", count, task_queue=QUEUE, worker_type="ActivityWorker")


ANSWERED = [update("request_latency", 0.01, operation="DescribeNamespace")]
NOT_FOUND = [*ANSWERED, update("request_failure", operation="DescribeWorkflow", status_code="NOT_FOUND")]
POLLED = [update("long_request_latency", 55, task_queue=QUEUE)]
FAILED = update("long_request_failure", task_queue=QUEUE, status_code="TRANSPORT_ERROR")
REFUSED = update("long_request_failure", task_queue=QUEUE, status_code="RESOURCE_EXHAUSTED")
POLL_FAILED = [FAILED, *POLLED]


@dataclass
class Process:
    """A process whose metrics are read every second."""

    now: float = 1000.0
    polls: Polls = field(init=False)

    def __post_init__(self) -> None:
        self.polls = Polls(lambda: self.now)

    def live(self, seconds: float, updates: Sequence[Update] = ()) -> None:
        """These come at once, and then nothing for so long."""
        for second in range(int(seconds)):
            self.polls.take(updates if second == 0 else [])  # type: ignore[arg-type]
            self.now += 1

    @property
    def overdue(self) -> bool:
        due = self.polls.queues[QUEUE].due_since
        return due is not None and self.now - due > OVERDUE_SECONDS


@pytest.fixture
def process() -> Process:
    """One that is connected and has just begun to poll."""
    fresh = Process()
    fresh.polls.expect([QUEUE])
    fresh.live(1, [*ANSWERED, pollers(5), free_slots(10)])
    return fresh


def test_what_has_asked_nothing_is_neither_connected_nor_not() -> None:
    assert Process().polls.connected() is None


def test_a_fresh_process_is_of_use_at_once(process: Process) -> None:
    assert process.polls.connected() is True
    assert process.polls.queues[QUEUE].served and process.polls.queues[QUEUE].polled_at is None


def test_a_queue_that_should_be_polled_and_never_was_is_not_served() -> None:
    process = Process()
    process.polls.expect([QUEUE])
    process.live(1, ANSWERED)
    assert not process.polls.queues[QUEUE].served


def test_polls_that_come_back_empty_each_minute_are_not_overdue(process: Process) -> None:
    for _ in range(5):
        process.live(60, POLLED)
        assert not process.overdue and process.polls.connected() is True
    assert process.polls.queues[QUEUE].polled_at == process.now - 60


def test_polls_that_neither_fail_nor_come_back_are_overdue(process: Process) -> None:
    process.live(60, POLLED)
    process.live(30)
    assert not process.overdue
    process.live(2)
    assert process.overdue and process.polls.connected() is True


def test_a_server_that_is_gone_is_known_in_seconds_and_so_is_its_return(process: Process) -> None:
    for wait in (1, 1, 2, 4, 4):
        process.live(wait, POLL_FAILED)
        assert process.polls.connected() is True
    process.live(1, POLL_FAILED)
    assert process.polls.connected() is False
    for _ in range(20):
        process.live(12, POLL_FAILED)
        assert process.polls.connected() is False
    failing = process.polls.queues[QUEUE].failing_since
    assert failing is not None and process.now - failing > 240
    process.live(8)  # it is there again, and the polls wait
    assert process.polls.connected() is True and process.polls.queues[QUEUE].failing_since is None
    process.live(45)
    assert not process.overdue
    process.live(1, POLLED)
    assert process.polls.connected() is True


def test_one_answer_is_enough_to_be_connected_again(process: Process) -> None:
    for _ in range(3):
        process.live(12, POLL_FAILED)
    assert process.polls.connected() is False
    process.live(1, ANSWERED)
    assert process.polls.connected() is True


def test_a_server_that_no_longer_answers_stays_away_between_failures(process: Process) -> None:
    process.live(45, POLL_FAILED)
    process.live(1, POLL_FAILED)
    for _ in range(44):
        assert process.polls.connected() is False
        process.live(1)
    process.live(1, POLL_FAILED)
    assert process.polls.connected() is False


def test_a_single_failure_is_no_lost_connection(process: Process) -> None:
    process.live(1, POLL_FAILED)
    for _ in range(60):
        process.live(1)
        assert process.polls.connected() is True


def test_a_refusal_is_an_answer_and_yet_a_poll_that_fails(process: Process) -> None:
    for _ in range(5):
        process.live(10, [REFUSED, *POLLED])
        assert process.polls.connected() is True
    assert process.polls.queues[QUEUE].failing_since is not None
    process.live(1, NOT_FOUND)
    assert process.polls.connected() is True


def test_a_failure_and_its_end_that_come_in_two_goes_are_no_success(process: Process) -> None:
    for _ in range(12):
        process.live(1, [FAILED])
        process.live(1, POLLED)
    assert process.polls.connected() is False and process.polls.queues[QUEUE].polled_at is None


def test_a_worker_with_all_it_may_take_polls_nothing_and_serves(process: Process) -> None:
    process.live(600, [pollers(0), free_slots(0), *POLLED])
    assert process.polls.queues[QUEUE].served and not process.overdue
    process.live(80, [pollers(1), free_slots(1)])
    assert not process.overdue, "its poll was sent 80 s ago"
    process.live(1, [pollers(0), free_slots(10)])
    assert not process.polls.queues[QUEUE].served


@pytest.mark.parametrize(
    ("operation", "status", "doubts"),
    [
        ("RespondActivityTaskCompleted", "NOT_FOUND", 1),  # dispatched again meanwhile
        ("RecordActivityTaskHeartbeat", "NOT_FOUND", 1),
        ("RespondActivityTaskCompleted", "TRANSPORT_ERROR", 1),
        ("DescribeNamespace", "UNAVAILABLE", 1),
        ("DescribeWorkflow", "NOT_FOUND", 0),
        ("RespondActivityTaskCompleted", "INVALID_ARGUMENT", 0),
    ],
)
def test_what_the_server_may_not_have_heard_is_noticed(operation: str, status: str, doubts: int) -> None:
    process = Process()
    process.live(1, [update("request_failure", operation=operation, status_code=status), *ANSWERED])
    assert process.polls.doubts == doubts
