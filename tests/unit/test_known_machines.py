"""What a budget knows of the machines whose processes it hears."""

import json
import socket
from dataclasses import replace

import pytest

from fleet.budgets.law.budget import Budget
from fleet.budgets.law.budget_status import describe
from fleet.budgets.law.known_machines import Roster
from fleet.budgets.messages import KnownMachine, MachineHome, Opening, Report
from fleet.config import load_settings
from fleet.contracts import LimitSettings
from fleet.process.data_converter import data_converter

HOME = MachineHome("vm2+bbbb", "1.2.0", "http://vm2:8020")
OPENING = Opening(LimitSettings(), 10.0, home=HOME)
DAY = 24 * 3600.0


def test_a_budget_tells_which_machines_it_has_heard_how_they_are_found_and_when_that_was() -> None:
    budget = Budget("llm-openai")
    budget.open(OPENING, 1.0)
    budget.open(replace(OPENING, home=None), 2.0)  # as a process of 0.1.0 tells it
    budget.take(Report("openai_00@vm2+bbbb", calls=1, answered=1), 50.0)
    budget.take(Report("openai_01@vm2+bbbb", calls=1, answered=1), 49.0)
    budget.take(Report("openai_00@vm3+cccc", in_flight=1), 60.0)
    budget.take(Report("openai_00"), 61.0)
    assert describe(budget).machines == [
        KnownMachine("vm2+bbbb", 50.0, "1.2.0", "http://vm2:8020"),
        KnownMachine("vm3+cccc", 60.0),
    ]


def test_the_machines_are_carried_on_and_are_not_needed() -> None:
    budget = Budget("llm-openai")
    budget.open(OPENING, 1.0)
    converter = data_converter().payload_converter
    (payload,) = converter.to_payloads([budget])
    assert converter.from_payload(payload, Budget) == budget
    told = json.loads(payload.data)
    del told["roster"]
    payload.data = json.dumps(told).encode()
    assert converter.from_payload(payload, Budget).roster == Roster()


@pytest.mark.parametrize("what", [OPENING, describe(Budget("llm-openai"))])
def test_releases_that_know_more_or_less_understand_it(what: object) -> None:
    converter = data_converter().payload_converter
    (payload,) = converter.to_payloads([what])
    told = json.loads(payload.data)
    told.pop("home", None)
    told.pop("machines", None)
    payload.data = json.dumps(told | {"of_a_later_release": 1}).encode()
    found = converter.from_payload(payload, type(what))
    assert found == (replace(what, home=None) if isinstance(what, Opening) else what)


def test_machines_are_forgotten_after_a_day_and_are_a_hundred_at_most() -> None:
    roster = Roster()
    for number in range(150):
        roster.heard(f"vm{number}+{number:04}", float(number))
    assert len(roster.machines) == 100 and "vm49+0049" not in roster.machines
    roster.opened(HOME, DAY + 148.5)
    assert set(roster.machines) == {"vm149+0149", "vm2+bbbb"}


@pytest.mark.parametrize(
    ("host", "address"),
    [
        ("127.0.0.1", ""),
        ("127.0.1.1", ""),
        ("::1", ""),
        ("localhost", ""),
        ("0.0.0.0", f"http://{socket.gethostname()}:8020"),
        ("::", f"http://{socket.gethostname()}:8020"),
        ("10.0.0.7", "http://10.0.0.7:8020"),
        ("fd00::7", "http://[fd00::7]:8020"),
    ],
)
def test_a_machine_is_asked_where_its_control_process_listens(host: str, address: str) -> None:
    assert load_settings(api_base_url="http://localhost:1", control_host=host).control_address == address


def test_the_operator_may_name_another_address() -> None:
    settings = load_settings(api_base_url="http://localhost:1", control_url="https://vm1.example/fleet/")
    assert settings.control_address == "https://vm1.example/fleet"
