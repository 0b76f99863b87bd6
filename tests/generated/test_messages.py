"""What other processes send to workflows is taken or left out: an exception would fail a task again and again."""

import json
import math
from dataclasses import asdict
from typing import Any, TypeVar

import pytest
from hypothesis import strategies as st

from fleet.budgets.law.believable import believable_limits, believable_opening, believable_report
from fleet.budgets.law.budget import Budget
from fleet.budgets.law.budget_status import describe
from fleet.budgets.law.report_intake import ReportIntake
from fleet.budgets.messages import MachineHome, Opening, Reading, Report, Trouble
from fleet.contracts import AssistantMoved, AssistantState, Limited, LimitSettings
from fleet.errors import InputError
from fleet.failures import FailureKind
from fleet.pipeline.stages import Stages
from fleet.process.data_converter import data_converter
from tests.generated.inputs import changed, changed_alike, check_each
from tests.generated.test_projects import GOOD, INPUTS, parse

NOW = 1_000_000.0
CONVERTER = data_converter().payload_converter
Message = TypeVar("Message")

REPORT = Report(
    "openai_00@vm+1",
    3,
    3,
    2,
    {"tokens": 300.0},
    {"tokens": 100.0},
    [Reading(Limited.TOKENS, 100.0, 50.0, 0.5)],
    [Trouble(FailureKind.RATE, 1, "slow down", 5.0, "0123", "gpt-4o")],
    NOW - 1,
    1,
    0,
    [[1.0, 3.0]],
)
OPENING = Opening(LimitSettings(60.0, 1000.0), 10.0, True, {"tokens": 900.0}, 600.0, MachineHome("vm+1", "0.3"))
MESSAGES: dict[str, Any] = {
    "report": REPORT,
    "opening": OPENING,
    "limits": LimitSettings(60.0, None, 1000.0, None),
    "moved": AssistantMoved("brief", AssistantState.RUNNING, 1, "", False),
}
KINDS = [kind.value for kind in FailureKind]


def as_told(message: Any) -> Any:
    return json.loads(json.dumps(asdict(message)))


def read(told: Any, kind: type[Message]) -> Message | None:
    """The message as Temporal's SDK gives it to the workflow; None where it drops it.

    Its converter raises a TypeError for what is not of the type."""
    payload = CONVERTER.to_payload(told)
    try:
        found: Message = CONVERTER.from_payload(payload, kind)
    except TypeError:
        return None
    assert isinstance(found, kind)
    return found


@st.composite
def messages(draw: st.DrawFn) -> tuple[str, list[Any]]:
    name = draw(st.sampled_from(["report", "report", "report", "opening", "limits", "moved"]))
    good = as_told(MESSAGES[name])
    if name == "report" and draw(st.booleans()):
        good["troubles"][0]["meaning"] = draw(st.sampled_from(KINDS))
    change = changed_alike(good) | changed(good, 1e308, -1e308, float("inf"), 10**400)
    return name, draw(st.lists(change, min_size=1, max_size=2))


def check_budget(name: str, told: list[Any]) -> None:
    """A budget takes them among good ones, and its rate is one that Temporal takes."""
    budget = Budget("llm-openai")
    intake = ReportIntake(budget)
    budget.open(OPENING, NOW)
    for seconds, item in enumerate(told):
        now = NOW + seconds
        match read(item, type(MESSAGES[name])):
            case Report() as report:
                intake.take(believable_report(report), now)
            case Opening() as opening:
                budget.open(believable_opening(opening), now)
            case LimitSettings() as limits:
                budget.limit(believable_limits(limits), now)
        see(budget, now)
    budget.resume(NOW + 50)
    budget.limit(LimitSettings(), NOW + 50)
    budget.open(OPENING, NOW + 50)
    intake.take(Report("openai_00@vm+1", 1, 1, 1, {"tokens": 10.0}, sent_at=NOW + 50), NOW + 50)
    see(budget, NOW + 51)
    see(budget, NOW + 5_000)
    assert budget.dispatch_rate() > 0, "the queue is closed for good"


def see(budget: Budget, now: float) -> None:
    """What the workflow does after each message, and when it is continued as new."""
    budget.pass_time(now)
    assert math.isfinite(budget.dispatch_rate()) and budget.dispatch_rate() >= 0
    status = describe(budget)
    json.dumps(asdict(status), allow_nan=False)
    json.dumps(asdict(budget), allow_nan=False)


def check_pipeline(told: list[Any]) -> None:
    stages = Stages(parse(GOOD), INPUTS)
    stages.queue("brief", 1.0)
    for item in told:
        if (moved := read(item, AssistantMoved)) is not None:
            stages.move(moved)
        if isinstance(item, dict) and isinstance(item.get("note"), str):
            with pytest.raises(InputError, match="Remedy: "):
                stages.outputs([item["note"] + "?"])
    json.dumps([asdict(progress) for progress in stages.progress(2.0, with_outputs=True)], allow_nan=False)
    stages.ready("draft")


def check(given: tuple[str, list[Any]]) -> bool:
    """Whether all of the messages are read."""
    name, told = given
    if name == "moved":
        check_pipeline(told)
    else:
        check_budget(name, told)
    return all(read(item, type(MESSAGES[name])) is not None for item in told)


def test_any_message_is_taken_or_left_out() -> None:
    known = []
    for number in (float("inf"), float("nan"), 1e308, 10**400):
        report = as_told(REPORT)
        report["troubles"][0] |= {"meaning": "quota_until_reset", "wait_seconds": number}
        known += [("report", [report]), ("report", [as_told(REPORT) | {"spent": {"tokens": number}}])]
        known += [("limits", [{"rpm": number}]), ("opening", [as_told(OPENING) | {"rate": number}])]
    for sent in ([[121.0, 3.0]], [[1.0, 0.0]]):  # all calls were sent long ago, or none were
        known.append(("report", [as_told(REPORT) | {"sent": sent, "troubles": []}]))
    check_each("messages", messages(), check, known, min_share=0.25)
