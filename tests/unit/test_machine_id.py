"""Machines are told from each other, clones and copies too."""

import json
import os
import shutil
import socket
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from fleet.process.machine_id import Marks, identity_on, kept_id, known_id, pid_here, process_on, runs_here

HERE = Marks("4f1c", ("52:54:00:00:00:01",), "boot 1")


def test_a_machine_keeps_its_id(tmp_path: Path) -> None:
    made = kept_id(tmp_path / "state", Marks.here(tmp_path / "state"))
    assert len(made) == 12 and int(made, 16) >= 0
    assert kept_id(tmp_path / "state", Marks.here(tmp_path / "state")) == made


def test_a_command_makes_no_id(tmp_path: Path) -> None:
    assert known_id(tmp_path / "state") == "" and not (tmp_path / "state").exists()
    made = kept_id(tmp_path / "state", HERE)
    assert known_id(tmp_path / "state") == made


def test_cards_may_change_one_after_the_other(tmp_path: Path) -> None:
    made = kept_id(tmp_path, HERE)
    assert kept_id(tmp_path, Marks("4f1c", ("52:54:00:00:00:01", "52:54:00:00:00:09"), "boot 2")) == made
    assert kept_id(tmp_path, Marks("4f1c", ("52:54:00:00:00:09",), "boot 3")) == made
    assert kept_id(tmp_path, Marks("4f1c", ("52:54:00:00:00:77",), "boot 3")) == made, "while it runs"


def test_processes_that_start_together_agree(tmp_path: Path) -> None:
    with ThreadPoolExecutor(8) as threads:
        assert len(set(threads.map(lambda _: kept_id(tmp_path, HERE), range(40)))) == 1


@pytest.mark.parametrize(
    ("there", "same"),
    [
        (Marks("4f1c", ("52:54:00:00:00:02",), "boot 2"), False),
        (Marks("99aa", ("52:54:00:00:00:01",), "boot 2"), False),
        (Marks("4f1c", ("52:54:00:00:00:01", "52:54:00:00:00:09"), "boot 2"), True),
        (Marks("4f1c", (), "boot 2"), True),
    ],
    ids=["a clone", "another installation", "another card", "no card"],
)
def test_a_state_folder_that_was_copied_to_another_machine_gets_an_id_of_its_own(
    tmp_path: Path, there: Marks, same: bool
) -> None:
    made = kept_id(tmp_path / "here", HERE)
    shutil.copytree(tmp_path / "here", tmp_path / "there")
    assert (kept_id(tmp_path / "there", there) == made) is same
    assert kept_id(tmp_path / "here", HERE) == made


@pytest.mark.parametrize(
    ("folder", "networks", "same"),
    [
        (2, ("02:42:ac:11:00:03",), False),
        (1, ("02:42:ac:11:00:03",), True),
        (2, ("02:42:ac:11:00:02",), True),
        (2, (), True),
        (0, ("02:42:ac:11:00:03",), True),
    ],
    ids=["with a copied volume", "made anew with its volume", "moved to another volume", "no card", "not known"],
)
def test_a_container_of_the_same_host_is_another_machine_if_card_and_folder_are_others(
    tmp_path: Path, folder: int, networks: tuple[str, ...], same: bool
) -> None:
    made = kept_id(tmp_path, Marks("", ("02:42:ac:11:00:02",), "boot 1", folder=1))
    assert (kept_id(tmp_path, Marks("", networks, "boot 1", folder)) == made) is same


def test_a_file_of_a_release_that_knew_no_folder_keeps_its_id(tmp_path: Path) -> None:
    known = {"id": "0123456789ab", "system": "4f1c", "networks": ["52:54:00:00:00:01"], "boot": "boot 1"}
    (tmp_path / "machine.json").write_text(json.dumps(known), "utf-8")
    here = Marks("4f1c", ("52:54:00:00:00:77",), "boot 1", Marks.here(tmp_path).folder)
    assert kept_id(tmp_path, here) == known["id"]
    assert json.loads((tmp_path / "machine.json").read_text("utf-8"))["folder"] == tmp_path.stat().st_ino


@pytest.mark.parametrize("damaged", ["", "null", "[]", "{}", '{"id": "x", "system": "4f1c", "networks": 1}'])
def test_a_damaged_file_is_written_anew(tmp_path: Path, damaged: str) -> None:
    (tmp_path / "machine.json").write_text(damaged, "utf-8")
    made = kept_id(tmp_path, HERE)
    assert json.loads((tmp_path / "machine.json").read_text("utf-8"))["id"] == made


def test_where_it_cannot_be_made_the_host_name_has_to_do(tmp_path: Path) -> None:
    (tmp_path / "state").write_text("no folder", "utf-8")
    assert kept_id(tmp_path / "state", HERE) == ""
    assert process_on("", "openai_00") == f"openai_00@{socket.gethostname()}"


def test_a_process_is_looked_for_on_its_own_machine_alone() -> None:
    own = identity_on("aaaa", "control_00")
    host = process_on("aaaa", "x").partition("@")[2].partition("+")[0]
    assert pid_here(identity_on("aaaa", "openai_00"), own) == os.getpid()
    assert pid_here(identity_on("bbbb", "openai_00"), own) is None, "a clone of the same host name"
    assert pid_here(f"openai_00@{host}:7", own) == 7, "a process of 0.1.0"
    assert pid_here("openai_00@elsewhere+aaaa:7", own) is None
    assert pid_here("7@" + host, own) is None


def test_a_thread_with_the_pid_of_a_process_that_has_ended_is_not_that_process() -> None:
    own = identity_on("aaaa", "control_00")
    place = own.rpartition("@")[2].rpartition(":")[0]
    with ThreadPoolExecutor(1) as threads:
        thread = threads.submit(threading.get_native_id).result()
        assert Path("/proc", str(thread)).exists()
        assert runs_here(f"openai_00@{place}:{thread}", own) is False
    assert runs_here(own, own) is True and runs_here(identity_on("bbbb", "openai_00"), own) is None
