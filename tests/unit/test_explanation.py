"""Where an assistant stands, from histories and states that a running fleet shows for moments only."""

import os
import time
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest
from temporalio.api.enums.v1 import ApplicationErrorCategory, PendingActivityState, TimeoutType
from temporalio.api.workflow.v1 import PendingActivityInfo

from fleet.budgets.messages import BudgetStatus
from fleet.cli.limits import BudgetStatuses, show_budget_statuses, to_json
from fleet.cli.show import console_for
from fleet.cli.waits import AGAIN_SECONDS, Waits
from fleet.config import Settings
from fleet.contracts import ActivityLimits, Assignment, Assistant, AssistantCall, PipelinePlan, RetryOf
from fleet.control.health.status import FleetStatus, QueueStatus, Reachable
from fleet.control.machines.other_machines import OtherMachine
from fleet.control.pipelines.explanation import AssistantStatus, Explanation, explained
from fleet.control.pipelines.journal_rows import JournalRow
from fleet.control.pipelines.queue_reasons import Surroundings
from fleet.control.pipelines.story import Asked, Story
from fleet.control.supervision.process_health import Vitals, cut_off_here
from fleet.control.supervision.supervisord_client import ProcessStatus
from fleet.process.data_converter import data_converter
from fleet.process.liveness import Unreachable

NOW = 1_800_000_000.0
HERE = "fleet@host+abc:1"
STARTED = PendingActivityState.PENDING_ACTIVITY_STATE_STARTED
BENIGN = ApplicationErrorCategory.APPLICATION_ERROR_CATEGORY_BENIGN
SCHEDULED = PendingActivityState.PENDING_ACTIVITY_STATE_SCHEDULED
WRITER = Assistant("writer", "Writer", 1, "openai", "gpt-4o", "Write.")


def pending(
    state: Any = STARTED, attempt: int = 1, pid: int | None = None, **seconds: float
) -> PendingActivityInfo:
    """A pending call; ``seconds`` are points in time before now."""
    info = PendingActivityInfo(activity_id="writer", state=state, attempt=attempt)
    info.last_worker_identity = f"openai_00@host+abc:{pid or os.getpid()}"
    for name, ago in ({"last_started_time": 10.0} | seconds).items():
        getattr(info, name).FromMilliseconds(int((NOW - ago) * 1000))
    return info


def around(
    pollers: int = 1,
    pipeline: int = 1,
    budget: BudgetStatus | None = None,
    here: ProcessStatus | None = None,
    vitals: dict[str, Vitals] | None = None,
    others: Sequence[OtherMachine] = (),
) -> Surroundings:
    queues = [QueueStatus("pipeline", pipeline, 0, 0.0), QueueStatus("llm-openai", pollers, 3, 7.0)]
    ok = Reachable("localhost", ok=True)
    status = FleetStatus(ok, ok, [here] if here else [], queues, budgets={"llm-openai": budget} if budget else {})
    status = replace(status, vitals=vitals or {}, machines=[*others])
    return Surroundings(Settings(API_BASE_URL="http://localhost:8000"), status, HERE, NOW)


def status_of_call(
    info: PendingActivityInfo | None,
    sent_ago: float | None = None,
    assignment: Assignment | None = None,
    row: JournalRow | None = None,
    **known: Any,
) -> AssistantStatus:
    call = AssistantCall("writer", "Writer", "openai", "gpt-4o", "project", assignment=assignment)
    asked = Asked(call, "llm-openai", NOW - 20, pending=info)
    asked.sent_at = None if sent_ago is None else NOW - sent_ago
    plan = PipelinePlan("project", [WRITER], {"openai": "llm-openai"}, ActivityLimits(600, 180, 1, 2))
    story = Story(workflow_id="p-1", status="running", started_at=NOW - 30, plan=plan, asked={5: asked})
    journal = {} if row is None else {"writer": row}
    (found,) = explained(story, replace(around(**known), journal=journal)).assistants
    return found


def budget(breaker: str = "closed", why: str = "idle", rate: float = 1000.0) -> BudgetStatus:
    return BudgetStatus("llm-openai", rate, breaker, why, True, 0, 0, 0)


def test_a_call_on_its_way_names_its_process_and_its_heartbeat() -> None:
    found = status_of_call(pending(last_heartbeat_time=4), sent_ago=9)
    assert (found.state, found.remedy) == ("running", "")
    assert found.why == "openai_00 on host has sent it to openai/gpt-4o, its last heartbeat came 4 s ago"


def test_a_heartbeat_alone_tells_that_the_call_was_sent() -> None:
    info = pending()
    details = {"under_way": True, "at": "/state/journal/openai.db", "open_at": "/state/journal/openai.db"}
    info.heartbeat_details.payloads.extend(data_converter().payload_converter.to_payloads([details]))
    assert status_of_call(info).state == "running"


def test_a_call_that_has_its_inputs_with_it_fetches_none() -> None:
    assignment = Assignment(WRITER, "Kávovar", None, None, [])
    found = status_of_call(pending(last_started_time=1), assignment=assignment)
    assert (found.state, found.cause) == ("running", "begun")


DIED = "sent at 08:00:00 UTC by a process that has died"


@pytest.mark.parametrize(
    ("row", "said"),
    [
        (JournalRow("intent", NOW), "sent at 08:00:00 UTC"),
        (JournalRow("intent", NOW, alive=False), f"{DIED}, so it may have been paid"),
        (JournalRow("intent", NOW, alive=False, resumable=True), f"{DIED}, but the provider goes on with it"),
        (
            JournalRow("intent", NOW, maybe_paid=2),
            "sent at 08:00:00 UTC, 2 earlier calls of it may have been paid",
        ),
        (
            JournalRow("answered", NOW, alive=False),
            "its answer is here since 08:00:00 UTC, not yet taken by Temporal, and is delivered without a call",
        ),
        (
            JournalRow("unsure", NOW),
            "a call that ended at 08:00:00 UTC without a usable answer was or may have been paid",
        ),
        (JournalRow("failed", NOW, maybe_paid=1), "an earlier call of it may have been paid"),
    ],
)
def test_what_the_journal_of_this_machine_knows_of_a_call_is_told(row: JournalRow, said: str) -> None:
    assert status_of_call(pending(), sent_ago=9, row=row).why.endswith(f"; this machine's journal: {said}")


@pytest.mark.parametrize("row", [JournalRow("failed", NOW), JournalRow("answered", NOW - 60)])
def test_a_journal_that_knows_nothing_of_this_call_adds_nothing(row: JournalRow) -> None:
    assert "journal" not in status_of_call(pending(), sent_ago=9, row=row).why


def test_a_retry_names_the_run_that_it_goes_on_from() -> None:
    plan = PipelinePlan("project", [WRITER], {"openai": "llm-openai"}, ActivityLimits(600, 180, 1, 2))
    story = Story(workflow_id="p-1", status="running", plan=plan, retry_of=RetryOf("p-1", "run-1"))
    assert explained(story, around()).why == "0 of 1 assistants have answered; it goes on from run run-1"


def test_a_report_of_an_earlier_attempt_does_not_tell_that_this_one_was_sent() -> None:
    assert status_of_call(pending(last_started_time=1, attempt=2), sent_ago=9).state == "fetching_inputs"


def test_a_dead_process_of_this_machine_is_told_with_the_time_of_the_takeover() -> None:
    found = status_of_call(pending(pid=2**22 + 1, last_heartbeat_time=100), sent_ago=9)
    assert (found.state, found.cause) == ("between_attempts", "worker_lost")
    assert "openai_00 on host, which had it, has died; another process takes over by " in found.why


def test_an_assistant_whose_inputs_nobody_can_hand_out_names_the_pipeline_program() -> None:
    found = status_of_call(pending(last_started_time=1), pipeline=0)
    assert (found.state, found.cause) == ("fetching_inputs", "no_pollers")
    assert "no process polls the queue pipeline" in found.why and "pipeline processes" in found.remedy


def test_a_process_that_has_had_a_call_for_long_and_not_sent_it_holds_it_back() -> None:
    found = status_of_call(pending(), budget=budget(why="limit of requests"))
    assert (found.state, found.cause) == ("held_by_limit", "gate")
    assert "holds it back until the limit has room (limit of requests)" in found.why


def process(state: str, uptime: int = 0) -> ProcessStatus:
    return ProcessStatus("openai", "openai_00", state, 7, uptime)


@pytest.mark.parametrize(
    "here", [process("STARTING"), process("BACKOFF"), process("EXITED"), process("RUNNING", 9)]
)
def test_a_process_that_supervisord_is_starting_needs_no_command(here: ProcessStatus) -> None:
    found = status_of_call(pending(SCHEDULED), pollers=0, here=here)
    assert found.why == "no process polls the queue llm-openai; supervisord is starting openai_00"
    assert (found.cause, found.remedy) == ("no_pollers", "")


def test_a_lost_worker_that_is_being_started_again_needs_no_command() -> None:
    info = pending(pid=2**22 + 1, last_heartbeat_time=100)
    found = status_of_call(info, sent_ago=9, pollers=0, here=process("STARTING"))
    assert found.cause == "worker_lost" and found.why.endswith("; supervisord is starting openai_00")
    assert found.remedy == "nothing to do"


@pytest.mark.parametrize(
    ("here", "why", "remedy"),
    [
        (process("STOPPED"), "openai_00 is STOPPED", "`supervisorctl start openai:*`"),
        (
            process("FATAL"),
            "openai_00 is FATAL",
            "see why with `fleet logs --process openai_00`, then `supervisorctl start openai:*`",
        ),
        (
            process("STOPPING", 99),
            "openai_00 is STOPPING",
            "wait until it has ended, then `supervisorctl start openai:*`",
        ),
        (process("RUNNING", 99), "openai_00 runs, but does not poll", "see why with `fleet status`"),
    ],
)
def test_a_process_that_nobody_starts_is_named_with_its_command(
    here: ProcessStatus, why: str, remedy: str
) -> None:
    found = status_of_call(pending(SCHEDULED), pollers=0, here=here)
    assert found.why == f"no process polls the queue llm-openai; {why}"
    assert found.remedy == remedy


def test_two_reasons_are_told_together() -> None:
    found = status_of_call(pending(SCHEDULED), pollers=0, budget=budget("paused", "lunch"))
    assert found.why == "openai was paused: lunch; and no process polls the queue llm-openai"
    assert found.remedy.startswith("`fleet resume openai`; and start openai processes")


def test_a_reached_limit_names_rate_reason_and_backlog() -> None:
    found = status_of_call(pending(SCHEDULED), budget=budget(why="limit of requests", rate=0.1))
    assert found.state == "held_by_limit" and "dispatches a call every 10 s (limit of requests)" in found.why
    assert "3 calls wait in the queue llm-openai, the oldest for 7 s" in found.why


def test_a_limit_that_would_have_emptied_the_queue_is_not_what_holds_a_call() -> None:
    found = status_of_call(pending(SCHEDULED), budget=budget(why="limit of tokens", rate=346.2))
    assert (found.state, found.cause) == ("in_queue", "busy")
    assert found.why.startswith(
        "3 calls wait in the queue llm-openai, the oldest for 7 s: its processes take calls"
    )
    assert found.why.endswith("more slowly than the limit of openai allows")
    assert found.remedy == "nothing to do, or `fleet scale openai 2`"


def test_a_call_that_the_journal_has_as_sent_waits_for_no_limit() -> None:
    sent = JournalRow("intent", NOW - 1)
    found = status_of_call(pending(SCHEDULED), budget=budget(why="limit", rate=0.1), row=sent)
    assert (found.state, found.cause, found.remedy) == ("running", "sent", "")
    assert found.why.startswith("it was sent to openai/gpt-4o; this machine's journal: sent at ")
    died = status_of_call(pending(SCHEDULED), budget=budget(why="limit", rate=0.1), row=replace(sent, alive=False))
    assert died.state == "held_by_limit"


def test_a_lost_heartbeat_is_told_until_the_next_attempt() -> None:
    info = pending(SCHEDULED, attempt=2, next_attempt_schedule_time=-5)
    info.last_failure.message = "activity Heartbeat timeout"
    info.last_failure.timeout_failure_info.timeout_type = TimeoutType.TIMEOUT_TYPE_HEARTBEAT
    found = status_of_call(info)
    assert (found.state, found.cause) == (
        "between_attempts",
        "worker_lost",
    ) and "attempt 2 comes in 5 s" in found.why


def test_what_was_not_run_says_that_a_retry_runs_it() -> None:
    plan = PipelinePlan("project", [WRITER], {}, ActivityLimits(600, 180, 1, 2))
    story = Story(workflow_id="p-1", status="canceled", started_at=NOW - 30, ended_at=NOW, plan=plan)
    told = explained(story, around())
    assert (told.state, told.assistants[0].state, told.assistants[0].remedy) == (
        "canceled",
        "waiting",
        "`fleet retry p-1`",
    )


def test_a_wait_is_said_once_again_when_it_changes_and_again_while_it_lasts() -> None:
    clock, said = [0.0], list[str]()
    waits = Waits(said.append, lambda: clock[0])
    paused = AssistantStatus(
        "a", "A", "in_queue", None, "paused", "openai was paused: lunch", "`fleet resume openai`"
    )
    found = Explanation("p-1", "r", "running", "running", "0 of 1", "", [paused, replace(paused, name="B")])
    waits.tell(found)
    clock[0] = AGAIN_SECONDS - 1
    waits.tell(found)
    assert said == ["A, B in queue: openai was paused: lunch. Remedy: `fleet resume openai`"]
    clock[0] = AGAIN_SECONDS
    waits.tell(found)
    waits.tell(replace(found, assistants=[replace(paused, cause="no_pollers", why="no process polls it")]))
    waits.tell(replace(found, assistants=[replace(paused, state="running")]))
    assert len(said) == 3 and said[-1].startswith("A in queue: no process polls it")


def test_the_usual_moment_in_a_queue_is_not_told() -> None:
    said = list[str]()
    usual = AssistantStatus("a", "A", "in_queue", None, "dispatch", "it is dispatched next", "")
    Waits(said.append, time.monotonic).tell(Explanation("p-1", "r", "running", "running", "", "", [usual]))
    assert said == []


def test_a_pipeline_that_no_process_runs_is_told_in_one_sentence_that_stays() -> None:
    clock, said = [0.0], list[str]()
    waits = Waits(said.append, lambda: clock[0])
    asked = AssistantStatus("a", "A", "fetching_inputs", None, "no_pollers", "it asks for its inputs; nobody", "x")
    why = "no process polls the queue pipeline, so the pipeline does not continue; supervisord is starting it"
    found = Explanation("p-1", "r", "running", "no_pollers", why, "", [asked])
    for seconds in range(0, 60, 3):
        clock[0] = float(seconds)
        waits.tell(found, silent=seconds % 2 == 0)
    assert said == [why, why]


def test_a_pipeline_that_tells_nothing_for_no_known_reason_is_said_to() -> None:
    said = list[str]()
    waits = Waits(said.append)
    waits.tell(Explanation("p-1", "r", "running", "running", "0 of 1", ""), silent=True)
    waits.tell(Explanation("p-1", "r", "completed", "completed", "all", ""), silent=True)
    assert said == ["no pipeline process tells its progress. Remedy: see what is wrong with `fleet status`"]


UNREACHED = (
    "bad: lost_before_sending: http://127.0.0.1:9/v1: no connection could be made: [Errno 111] Connection "
    "refused. Remedy: see that this machine reaches base_url: names, route, proxy, certificates, clock"
)


def probing(why: str = UNREACHED) -> Vitals:
    lost = Unreachable("reach openai", why, next_at=NOW + 3)
    return Vitals("probing", 0.1, 0.0, True, True, 0, {}, lost)


def not_sent(attempt: int) -> PendingActivityInfo:
    """A call that did not leave its machine, given back to its queue: it counts as no attempt."""
    info = pending(SCHEDULED, attempt=attempt, last_attempt_complete_time=9)
    info.last_failure.message = UNREACHED.replace("http://127.0.0.1:9/v1: ", "")
    info.last_failure.application_failure_info.type = "provider_error"
    info.last_failure.application_failure_info.category = BENIGN
    return info


@pytest.mark.parametrize("pollers", [1, 0])
@pytest.mark.parametrize("breaker", ["closed", "probing"])
def test_a_call_that_no_process_can_send_names_the_process_and_the_address(pollers: int, breaker: str) -> None:
    found = status_of_call(
        not_sent(6),
        pollers=pollers,
        budget=budget(breaker, rate=0.5),
        here=process("RUNNING", 99),
        vitals={"openai_00": probing()},
    )
    assert (found.state, found.cause) == ("in_queue", "cut_off_here")
    assert found.why == (
        "openai_00 cannot reach openai: probing, next in 3 s: bad: lost_before_sending: http://127.0.0.1:9/v1: no "
        "connection could be made: [Errno 111] Connection refused"
    )
    assert found.remedy.startswith("see that this machine reaches base_url: ")
    assert found.remedy.endswith("; after a change of settings, `fleet roll openai`")


def test_a_pause_is_told_before_processes_that_cannot_send() -> None:
    found = status_of_call(
        pending(SCHEDULED),
        budget=budget("paused", "lunch"),
        here=process("RUNNING", 99),
        vitals={"openai_00": probing()},
    )
    assert found.cause == "paused" and "; and openai_00 cannot reach openai" in found.why


def test_a_queue_that_another_machine_polls_does_not_wait_for_processes_here_that_cannot_send() -> None:
    other = OtherMachine("there", "xyz", pollers={"llm-openai": 1})
    found = status_of_call(
        not_sent(2), here=process("RUNNING", 99), vitals={"openai_00": probing()}, others=[other]
    )
    assert found.cause != "cut_off_here"


def test_a_try_that_counts_as_no_attempt_is_not_told_as_one() -> None:
    why = status_of_call(not_sent(6), budget=budget(why="limit of requests", rate=0.1)).why
    assert "attempt 6" not in why and "the last one" not in why
    assert "; it was tried before, which counts as no attempt: bad: lost_before_sending: no connection" in why


def test_a_call_that_did_not_leave_its_machine_is_not_held_by_a_limit() -> None:
    info = not_sent(3)
    info.next_attempt_schedule_time.FromMilliseconds(int((NOW + 5) * 1000))
    found = status_of_call(info)
    assert (found.state, found.cause) == ("between_attempts", "not_sent")
    assert "; its next try comes in 5 s, at " in found.why and "reaches base_url" in found.remedy


def test_fleet_limits_does_not_call_a_queue_healthy_that_no_process_here_can_serve(
    capsys: pytest.CaptureFixture[str],
) -> None:
    statuses: BudgetStatuses = {"llm-openai": budget(), "llm-groq": budget()}
    here, vitals = [process("RUNNING", 99)], {"openai_00": probing()}
    cut_off = {"llm-openai": cut_off_here(here, vitals, "openai", NOW)}
    show_budget_statuses(console_for(), statuses, cut_off)
    *_, of_openai, of_groq, _, told = capsys.readouterr().out.splitlines()
    said = [told]
    assert "cut off here" in of_openai and "healthy" in of_groq
    assert said == [f"openai_00 cannot reach openai: probing, next in 3 s: {UNREACHED}"]
    assert to_json(statuses, cut_off)["problems"] == said


def test_one_process_that_can_send_is_enough() -> None:
    here = [process("RUNNING", 99), replace(process("RUNNING", 99), process="openai_01")]
    serving = replace(probing(), stage="serving", unreachable=None)
    assert cut_off_here(here, {"openai_00": probing(), "openai_01": serving}, "openai", NOW) == []
    assert cut_off_here(here, {"openai_00": probing()}, "openai", NOW) == []
