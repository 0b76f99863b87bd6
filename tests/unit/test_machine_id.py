"""Machines are told from each other, clones and copies too."""

import json
import os
import shutil
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from fleet.machine_id import Marks, identity_on, machine_id, pid_here, process_on

HERE = Marks("4f1c", ("52:54:00:00:00:01",))


def test_a_machine_keeps_its_id(tmp_path: Path) -> None:
    made = machine_id(tmp_path / "state")
    assert len(made) == 12 and int(made, 16) >= 0
    assert machine_id(tmp_path / "state") == made


def test_processes_that_start_together_agree(tmp_path: Path) -> None:
    with ThreadPoolExecutor(8) as threads:
        assert len(set(threads.map(lambda _: machine_id(tmp_path), range(40)))) == 1


@pytest.mark.parametrize(
    ("there", "same"),
    [
        (Marks("4f1c", ("52:54:00:00:00:02",)), False),
        (Marks("99aa", ("52:54:00:00:00:01",)), False),
        (Marks("4f1c", ("52:54:00:00:00:01", "52:54:00:00:00:09")), True),
        (Marks("4f1c", ()), True),
    ],
    ids=["a clone", "another installation", "another card", "no card"],
)
def test_a_state_folder_that_was_copied_to_another_machine_gets_an_id_of_its_own(
    tmp_path: Path, there: Marks, same: bool
) -> None:
    made = machine_id(tmp_path / "here", lambda: HERE)
    shutil.copytree(tmp_path / "here", tmp_path / "there")
    assert (machine_id(tmp_path / "there", lambda: there) == made) is same
    assert machine_id(tmp_path / "here", lambda: HERE) == made


@pytest.mark.parametrize("damaged", ["", "null", "[]", "{}", '{"id": "x", "system": "4f1c", "networks": 1}'])
def test_a_damaged_file_is_written_anew(tmp_path: Path, damaged: str) -> None:
    (tmp_path / "machine.json").write_text(damaged, "utf-8")
    made = machine_id(tmp_path, lambda: HERE)
    assert json.loads((tmp_path / "machine.json").read_text("utf-8"))["id"] == made


def test_where_nothing_can_be_written_the_id_follows_from_the_machine(tmp_path: Path) -> None:
    (tmp_path / "state").write_text("no folder", "utf-8")
    assert machine_id(tmp_path / "state", lambda: HERE) == machine_id(tmp_path / "state", lambda: HERE)


def test_a_process_is_looked_for_on_its_own_machine_alone() -> None:
    own = identity_on("aaaa", "control_00")
    host = process_on("aaaa", "x").partition("@")[2].partition("+")[0]
    assert pid_here(identity_on("aaaa", "openai_00"), own) == os.getpid()
    assert pid_here(identity_on("bbbb", "openai_00"), own) is None, "a clone of the same host name"
    assert pid_here(f"openai_00@{host}:7", own) == 7, "a process of 0.1.0"
    assert pid_here("openai_00@elsewhere+aaaa:7", own) is None
    assert pid_here("7@" + host, own) is None
