"""A machine that cannot send calls: the breaker tells it from a provider that nobody reaches; the others go on."""

import json

import pytest

from fleet.budgets.law.breaker import Breaker
from fleet.budgets.law.budget import Budget
from fleet.budgets.law.budget_status import describe
from fleet.budgets.messages import Opening, Report, Trouble
from fleet.contracts import LimitSettings
from fleet.failures import FailureKind
from fleet.process.data_converter import data_converter
from tests.budget_world import Provider, World

LOST = FailureKind.LOST_BEFORE_SENDING


def lost(count: int) -> list[Trouble]:
    return [Trouble(LOST, count, "no connection could be made")]


def test_what_one_machine_cannot_send_while_anothers_is_answered_opens_nothing() -> None:
    breaker = Breaker()
    for second in range(60):
        breaker.take(0, lost(50), float(second), "vm2")
        breaker.take(1, [], second + 0.5, "vm1")
    assert breaker.state == "closed"
    assert breaker.machines.cut_off(60.0) == ["vm2"]


def test_calls_of_another_machine_that_are_on_their_way_are_enough() -> None:
    breaker = Breaker()
    breaker.take(0, [], 0.0, "vm1")
    for second in range(50):
        breaker.take(0, lost(50), float(second), "vm2")
    assert breaker.state == "closed"


def test_the_first_to_fail_waits_for_what_the_others_tell() -> None:
    breaker = Breaker()
    breaker.take(0, lost(15), 0.25, "vm2")
    assert breaker.state == "closed"
    breaker.take(0, [], 1.0, "vm1")
    breaker.pass_time(3.0)
    assert breaker.state == "closed"


def test_what_nobody_can_send_is_the_providers_trouble() -> None:
    breaker = Breaker()
    for at in (0.0, 0.5, 1.0, 1.5):
        for machine in ("vm1", "vm2"):
            breaker.take(0, lost(3), at, machine)
    breaker.pass_time(4.0)
    assert breaker.state == "probing" and "no connection could be made" in breaker.why


def test_a_machine_alone_that_reaches_nothing_is_taken_for_everybody() -> None:
    breaker = Breaker()
    breaker.take(5, [], 0.0, "vm1")
    breaker.take(0, lost(8), 70.0, "vm1")
    assert breaker.state == "closed"
    breaker.pass_time(72.5)
    assert breaker.state == "probing"


def test_a_machine_whose_calls_fail_before_and_after_sending_is_no_excuse() -> None:
    """Its other failures count like everybody's."""
    breaker = Breaker()
    breaker.take(0, [*lost(8), Trouble(FailureKind.OUTAGE, 8, "HTTP 503")], 0.0, "vm2")
    assert breaker.state == "probing" and breaker.why == "outage: HTTP 503"


def test_while_it_is_probed_a_machine_that_is_cut_off_keeps_nobody_from_coming_back() -> None:
    breaker = Breaker()
    breaker.take(0, [Trouble(FailureKind.OUTAGE, 10)], 0.0, "vm1")
    assert breaker.state == "probing"
    for second in (2, 4, 6):
        breaker.take(1, [], float(second), "vm1")
        breaker.take(0, lost(1), second + 0.5, "vm2")
    assert breaker.state == "closed"


def test_a_machine_that_is_silent_for_a_minute_vouches_for_nothing() -> None:
    breaker = Breaker()
    breaker.take(5, [], 0.0, "vm1")
    for second in range(55, 65):
        breaker.take(0, lost(3), float(second), "vm2")
    assert breaker.state == "probing"


def test_a_budget_names_the_machine_that_does_not_reach_its_provider() -> None:
    budget = Budget("llm-openai")
    budget.open(Opening(LimitSettings(rpm=600), 2.0), 0.0)
    budget.take(Report("openai_00@vm1+aaaa", calls=5, answered=5), 1.0)
    budget.take(Report("openai_00@vm2+bbbb", calls=9, troubles=lost(9)), 1.1)
    assert describe(budget).breaker == "closed"
    assert describe(budget).why.endswith("vm2+bbbb does not reach it, others do")


def test_what_a_budget_knows_of_its_machines_is_carried_on_and_is_not_needed() -> None:
    """Its workflow is continued as new, and the release before this one did not know of them."""
    budget = Budget("llm-openai")
    budget.take(Report("openai_00@vm1+aaaa", calls=5, answered=5), 1.0)
    budget.take(Report("openai_00@vm2+bbbb", calls=9, troubles=lost(9)), 1.1)
    converter = data_converter().payload_converter
    (payload,) = converter.to_payloads([budget])
    assert converter.from_payload(payload, Budget) == budget
    told = json.loads(payload.data)
    del told["breaker"]["machines"], told["breaker"]["unsent"]
    payload.data = json.dumps(told | {"of_a_later_release": 1}).encode()
    assert converter.from_payload(payload, Budget).breaker.machines.lines == {}


# A whole queue: vm2 is always free.


def world(**options: object) -> World:
    """10 calls a second, which vm1 could make alone."""
    fixed = {
        "limits": LimitSettings(rpm=600),
        "processes": 4,
        "machines": 2,
        "latency": 2.0,
        "slots": 15,
        "first": 10.0,
    }
    return World(Provider(10.0, 60.0), **(fixed | options))  # type: ignore[arg-type]


def is_vm2(machine: str, now: float) -> bool:
    return machine == "vm2"


@pytest.mark.parametrize("seed", range(8))
def test_the_healthy_machine_keeps_its_throughput_beside_a_black_hole(seed: int) -> None:
    queue = world(cut_off=is_vm2, seed=seed)
    queue.run(330.0)
    assert queue.utilisation(30.0, 330.0, 10.0) > 0.95
    assert queue.states == {"closed"}
    assert len([at for at, _ in queue.lost if at > 60.0]) == 0


@pytest.mark.parametrize("seed", range(4))
def test_a_machine_that_becomes_a_black_hole_in_mid_run_takes_little(seed: int) -> None:
    queue = world(cut_off=lambda machine, now: machine == "vm2" and 120.0 < now < 240.0, seed=seed)
    queue.run(360.0)
    assert queue.utilisation(120.0, 240.0, 10.0) > 0.95
    assert queue.states == {"closed"} and len(queue.lost) < 40
    assert any(at > 300.0 and taken for at, _, taken in queue.calls)


def test_without_leaving_it_would_take_most_of_the_queue() -> None:
    queue = world(cut_off=is_vm2, leave=False, slots=5)
    queue.run(200.0)
    assert queue.utilisation(30.0, 200.0, 10.0) < 0.75


def test_what_nobody_reaches_for_a_while_is_reached_again_by_everybody() -> None:
    queue = world(cut_off=lambda machine, now: 60.0 < now < 120.0)
    queue.run(360.0)
    assert len(queue.lost) < 80
    assert queue.utilisation(240.0, 360.0, 10.0) > 0.95
