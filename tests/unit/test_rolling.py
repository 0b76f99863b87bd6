"""Rolling and scaling, with a supervisord, processes and time in the test's hand: whatever fails and whenever."""

import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from fleet.config import PROJECT_ROOT
from fleet.control.supervision.interrupt_handling import Interrupted, interruptible
from fleet.control.supervision.operation_waits import wait_lines
from fleet.control.supervision.rolling import leave_out, roll
from fleet.control.supervision.scaling import operating, scale
from fleet.control.supervision.supervisord_home import Home
from fleet.errors import OperationError
from tests.unit.machine_world import BOOT_SECONDS, DRAIN_SECONDS, OperatorGone, World

#: Longer than any of the operations here takes.
LONG = 20.0
MOMENTS = [number * 0.5 for number in range(1, int(LONG * 2))]


def ask(world: World, number: signal.Signals = signal.SIGINT) -> None:
    world.interruption.asked = number


def vanish(world: World) -> None:
    world.gone = True


def test_where_there_is_one_process_another_polls_before_it_drains(tmp_path: Path) -> None:
    world = World(tmp_path, openai=1)
    before = world.pids()
    assert roll(world.machine(), []) == ["openai_00"]
    assert world.fewest["openai"] == 1 and world.in_order("openai")
    assert world.pids().keys() == before.keys() and world.pids() != before


def test_where_there_are_more_they_stand_in_for_each_other(tmp_path: Path) -> None:
    world = World(tmp_path, openai=3)
    assert roll(world.machine(), ["openai"]) == ["openai_00", "openai_01", "openai_02"]
    assert world.fewest["openai"] == 2 and world.in_order("openai")
    assert not any("openai_03" in line for line in world.said)


def test_before_a_roll_the_processes_of_a_provider_that_was_disabled_end(tmp_path: Path) -> None:
    world = World(tmp_path, gemini=2, openai=1)
    machine = world.machine()
    assert leave_out(machine, ["gemini", "mine"]) == ["gemini_00", "gemini_01"]
    assert machine.programs() == ["openai"] and machine.count_of("gemini") == 0
    assert leave_out(machine, ["gemini"]) == []


@pytest.mark.parametrize("state", ["STOPPED", "FATAL"])
def test_a_process_that_does_not_serve_stands_in_for_nobody(tmp_path: Path, state: str) -> None:
    world = World(tmp_path, openai=2)
    world.processes_by_name["openai_01"].state = state
    world.processes_by_name["openai_01"].pid = None
    assert roll(world.machine(), ["openai"]) == ["openai_01", "openai_00"]
    assert world.fewest["openai"] == 1 and world.in_order("openai")


def test_a_roll_that_fails_leaves_the_old_poller_and_all_others(tmp_path: Path) -> None:
    world = World(tmp_path, anthropic=1, openai=1, pipeline=2)
    world.broken = {"openai_01"}
    before = world.pids()
    with pytest.raises(OperationError) as failed:
        roll(world.machine(), [])
    assert "renewed: anthropic_00. openai_01 does not come up (FATAL). Remedy: read" in str(failed.value)
    after = world.pids()
    assert after.keys() == before.keys()
    assert {name for name in before if after[name] != before[name]} == {"anthropic_00"}
    assert all(map(world.in_order, ("anthropic", "openai", "pipeline"))) and min(world.fewest.values()) == 1


def test_a_stand_in_stays_while_nobody_else_polls_and_the_next_roll_takes_it_out(tmp_path: Path) -> None:
    world = World(tmp_path, openai=1)
    world.broken = {"openai_00"}
    with pytest.raises(OperationError, match="openai_00 does not come up"):
        roll(world.machine(), [])
    assert world.fewest["openai"] == 1 and world.serves("openai_01")
    assert "openai_01 stays" in world.said[-1]
    world.broken = set()
    assert roll(world.machine(), []) == ["openai_00"]
    assert world.fewest["openai"] == 1 and world.in_order("openai")


def test_programs_are_rolled_side_by_side_and_those_that_keep_them_running_last(tmp_path: Path) -> None:
    names = ("anthropic", "assistants", "control", "gemini", "guardian", "openai", "pipeline")
    took = []
    for side_by_side in (1, 5):
        world = World(tmp_path / str(side_by_side), **dict.fromkeys(names, 1))
        before = world.pids()
        done = roll(world.machine(), [], side_by_side)
        assert sorted(done) == [f"{name}_00" for name in names] and set(done[-2:]) == {"control_00", "guardian_00"}
        assert all(map(world.in_order, names)) and not set(world.pids().values()) & set(before.values())
        assert min(world.fewest[name] for name in names if name not in ("control", "guardian")) == 1
        took.append(world.now)
    assert took[1] < took[0] / 3


@pytest.mark.parametrize("others", [{"anthropic": 1, "pipeline": 2}, {"pipeline": 2}])
def test_no_process_ends_where_a_stand_in_does_not_come_up(tmp_path: Path, others: dict[str, int]) -> None:
    world = World(tmp_path, openai=1, **others)
    world.broken = {"openai_01"}
    before = world.pids()
    with pytest.raises(OperationError, match=r"renewed: none\. openai_01 does not come up"):
        roll(world.machine(), [], 3)
    assert world.pids() == before and all(map(world.in_order, ("openai", *others)))


def test_what_is_being_renewed_beside_a_failure_comes_to_its_end(tmp_path: Path) -> None:
    world = World(tmp_path, anthropic=1, openai=1, pipeline=4)
    world.broken = {"openai_00"}
    before = world.pids()
    with pytest.raises(OperationError, match="openai_00 does not come up"):
        roll(world.machine(), [], 3)
    after = world.pids()
    assert min(world.fewest.values()) >= 1 and world.in_order("anthropic") and world.in_order("pipeline")
    assert len([name for name in before if name.startswith("pipeline") and after[name] != before[name]]) == 1


@pytest.mark.parametrize("what", [ask, vanish])
def test_rolls_side_by_side_that_are_interrupted_or_killed_leave_nothing_for_good(
    tmp_path: Path, what: Callable[[World], None]
) -> None:
    ended = 0
    for moment in MOMENTS:
        world = World(tmp_path, openai=1, gemini=2, pipeline=1)
        world.at = [(moment, lambda world=world: what(world))]
        try:
            roll(world.machine(), [], 3)
        except Interrupted:
            ended += 1
        except OperatorGone:
            ended += 1
            world.gone = False
            roll(world.machine(), [], 3)
        assert all(map(world.in_order, ("openai", "gemini", "pipeline"))), f"after {moment} s"
        assert min(world.fewest.values()) >= 1
    assert ended > 5


@pytest.mark.parametrize("number", [1, 2])
def test_a_roll_that_a_signal_interrupts_leaves_nothing_stopped_and_nothing_over(
    tmp_path: Path, number: int
) -> None:
    interrupted = 0
    for moment in MOMENTS:
        world = World(tmp_path, openai=number, pipeline=1)
        world.at = [(moment, lambda world=world: ask(world))]
        try:
            roll(world.machine(), [])
        except Interrupted as ended:
            interrupted += 1
            assert ended.status == 130 and "interrupted by SIGINT" in str(ended) and "Remedy: " in str(ended)
        assert world.in_order("openai") and world.in_order("pipeline"), f"after {moment} s"
        assert min(world.fewest.values()) >= 1
    assert interrupted > 5


@pytest.mark.parametrize("number", [1, 2])
def test_what_a_killed_roll_leaves_the_next_one_tidies_up(tmp_path: Path, number: int) -> None:
    gone = 0
    for moment in MOMENTS:
        world = World(tmp_path, openai=number)
        world.at = [(moment, lambda world=world: vanish(world))]
        try:
            roll(world.machine(), [])
        except OperatorGone:
            gone += 1
            world.gone = False
            roll(world.machine(), [])
        assert world.in_order("openai") and world.fewest["openai"] >= 1, f"after {moment} s"
    assert gone > 5


@pytest.mark.parametrize("victim", ["openai_00", "openai_01"])
@pytest.mark.parametrize("number", [1, 2])
def test_a_roll_outlives_the_death_of_a_process(tmp_path: Path, victim: str, number: int) -> None:
    for moment in MOMENTS:
        world = World(tmp_path, openai=number)
        world.at = [(moment, lambda world=world: world.die(victim))]
        assert len(roll(world.machine(), [])) == number
        world.settle()
        assert world.in_order("openai"), f"after {moment} s"


def test_new_processes_are_there_before_the_number_counts(tmp_path: Path) -> None:
    world = World(tmp_path, openai=1)
    before = world.pids()
    scale(world.machine(), "openai", 4)
    assert world.in_order("openai") and world.serving("openai") == 4
    assert before.items() <= world.pids().items()
    scale(world.machine(), "openai", 2)
    assert world.in_order("openai") and world.fewest["openai"] == 1 and before.items() <= world.pids().items()


@pytest.mark.parametrize(("count", "broken"), [(3, "openai_02"), (1, "openai_00")])
def test_scaling_that_fails_leaves_all_as_it_was(tmp_path: Path, count: int, broken: str) -> None:
    world = World(tmp_path, openai=2)
    world.broken = {broken}
    if broken == "openai_00":
        world.processes_by_name[broken].state = "FATAL"
    with pytest.raises(OperationError, match=r"openai keeps its 2 processes: .* does not come up"):
        scale(world.machine(), "openai", count)
    world.broken = set()
    assert world.machine().count_of("openai") == 2
    assert world.pids().keys() == {"openai_00", "openai_01"} and world.fewest["openai"] >= 1


def test_a_signal_undoes_scaling_or_comes_too_late(tmp_path: Path) -> None:
    counts = set()
    for target in (1, 4):
        for moment in MOMENTS:
            world = World(tmp_path, openai=2)
            world.at = [(moment, lambda world=world: ask(world, signal.SIGHUP))]
            try:
                scale(world.machine(), "openai", target)
            except Interrupted as ended:
                assert ended.status == 129 and "openai keeps its 2 processes" in str(ended)
            assert world.in_order("openai") and world.fewest["openai"] >= 1
            counts.add(world.serving("openai"))
    assert counts == {1, 2, 4}


@pytest.mark.parametrize("target", [1, 4])
def test_what_killed_scaling_leaves_the_next_roll_tidies_up(tmp_path: Path, target: int) -> None:
    for moment in MOMENTS:
        world = World(tmp_path, openai=2)
        world.at = [(moment, lambda world=world: vanish(world))]
        with pytest.raises(OperatorGone):
            scale(world.machine(), "openai", target)
            world.sleep(LONG)
        world.gone = False
        roll(world.machine(), [])
        assert world.in_order("openai") and world.fewest["openai"] >= 1, f"after {moment} s"


def test_scaling_down_outlives_the_death_of_one_that_goes(tmp_path: Path) -> None:
    for moment in MOMENTS:
        world = World(tmp_path, openai=3)
        world.at = [(moment, lambda world=world: world.die("openai_02"))]
        scale(world.machine(), "openai", 1)
        world.settle()
        assert world.in_order("openai") and world.fewest["openai"] >= 1, f"after {moment} s"


def test_one_that_has_just_died_is_told_to_stop_once_it_is_back(tmp_path: Path) -> None:
    world = World(tmp_path, openai=2)
    world.die("openai_01")
    scale(world.machine(), "openai", 1)
    world.settle()
    assert world.in_order("openai") and world.serving("openai") == 1


def test_signals_only_ask_and_their_handlers_come_back() -> None:
    before = signal.getsignal(signal.SIGTERM)
    with interruptible() as interruption:
        interruption.check()
        os.kill(os.getpid(), signal.SIGTERM)
        os.kill(os.getpid(), signal.SIGHUP)  # a lost terminal sends one after the other
        with pytest.raises(Interrupted, match="interrupted by SIGTERM") as ended:
            interruption.check()
    assert ended.value.status == 143 and signal.getsignal(signal.SIGTERM) is before


TWICE = """
import os, signal
from fleet.control.supervision.interrupt_handling import interruptible
with interruptible():
    for _ in range(2):
        os.kill(os.getpid(), signal.SIGINT)
"""


def test_a_second_signal_leaves_at_once() -> None:
    done = subprocess.run(
        [sys.executable, "-c", TWICE], cwd=PROJECT_ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 130
    asked, left = done.stderr.splitlines()
    assert asked.startswith("SIGINT: ending as soon as") and left.startswith("SIGINT again: leaving now")


def test_signals_that_are_ignored_stay_ignored() -> None:
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with interruptible() as interruption:
            os.kill(os.getpid(), signal.SIGHUP)
            interruption.check()
    finally:
        signal.signal(signal.SIGHUP, before)


def test_where_there_is_no_fleet_its_processes_cannot_be_changed(tmp_path: Path) -> None:
    with (
        pytest.raises(OperationError, match=r"no fleet is up in .* Remedy: "),
        operating(Home.at(tmp_path / "none")),
    ):
        pass


def test_two_operators_do_not_change_one_machine_at_once(tmp_path: Path) -> None:
    home = Home.at(tmp_path / "state")
    home.prepare()
    with operating(home), pytest.raises(OperationError, match="somebody else"), operating(home):
        pass


def test_the_moments_tried_cover_a_whole_roll() -> None:
    assert LONG > 2 * (2 * BOOT_SECONDS + 2 * DRAIN_SECONDS)


def test_a_wait_that_lasts_is_said_with_its_seconds_and_again_every_quarter_of_a_minute(tmp_path: Path) -> None:
    world = World(tmp_path, openai=2)
    world.drain_seconds = 40.0
    roll(world.machine(), ["openai"])
    said = [line for line in world.said if line.startswith("waiting for openai_00")]
    assert [line.rpartition(": ")[2] for line in said] == ["5 s ...", "20 s ...", "35 s ..."]
    assert said[0] == "waiting for openai_00 to finish the calls in flight: 5 s ..."


def test_a_short_wait_is_not_said_in_a_file(tmp_path: Path) -> None:
    world = World(tmp_path, openai=2)
    scale(world.machine(), "openai", 1)
    assert world.said == ["draining openai_01 ..."]


def test_the_waits_are_shown_at_each_look_to_a_terminal(tmp_path: Path) -> None:
    world, shown = World(tmp_path, openai=1), list[str]()
    roll(world.machine(lambda waits, now: shown.extend(wait_lines(waits, now))), ["openai"])
    assert "waiting for openai_01 to serve: 1 s" in shown
    assert "waiting for openai_00 to finish the calls in flight: 1 s" in shown
    assert not any(line.startswith("waiting for to") for line in shown)


def test_programs_that_are_waited_for_alike_share_a_line(tmp_path: Path) -> None:
    world = World(tmp_path, gemini=2, openai=2)
    world.drain_seconds = 6.0
    roll(world.machine(), [], side_by_side=2)
    assert "waiting for gemini_00, openai_00 to finish the calls in flight: 5 s ..." in world.said
