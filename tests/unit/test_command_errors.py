"""What the command says of arguments and files that it cannot use: one line, and no stack."""

import io
import os
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import redirect_stderr
from pathlib import Path

import pytest
from temporalio.service import RPCError, RPCStatusCode

from fleet.cli import main as command
from fleet.cli.find_fleet import find_anyhow
from fleet.cli.fleet_record import FleetRecord
from fleet.cli.logs import moment
from fleet.control.pipelines.result_files import write_index
from fleet.control.pipelines.story import unknown_pipeline
from fleet.errors import OperationError

NOBODY = 65534
as_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can act as another user")


def as_nobody(act: Callable[[], object]) -> str:
    """What ``act`` raises in a process of the user nobody."""
    reading, writing = os.pipe()
    if (child := os.fork()) == 0:
        try:
            os.setgroups([])
            os.setgid(NOBODY)
            os.setuid(NOBODY)
            said = f"no error: {act()!r}"
        except BaseException as error:
            said = f"{type(error).__name__}: {error}"
        os.write(writing, said.encode())
        os._exit(0)
    os.close(writing)
    with os.fdopen(reading) as told:
        said = told.read()
    os.waitpid(child, 0)
    return said


@pytest.fixture
def state_of_root(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A state folder of root, which others see and may not look into. They may not even see pytest's folders."""
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o755)
        monkeypatch.chdir(folder)
        state = Path(folder, "state")
        state.mkdir(mode=0o700)
        (state / "fleet.json").write_text("{}", "utf-8")
        monkeypatch.setenv("FLEET_STATE_DIR", str(state))
        monkeypatch.setattr(sys, "argv", ["fleet", "status", "--all"])
        yield state


@as_root
@pytest.mark.parametrize("find", ["load", "doctor"])
def test_a_state_folder_of_another_user_names_the_user_and_the_whole_command(
    state_of_root: Path, find: str
) -> None:
    said = as_nobody(find_anyhow if find == "doctor" else lambda: FleetRecord.load(state_of_root))
    assert said == (
        f"NotPermitted: {state_of_root}/fleet.json belongs to root, and nobody may not use it. "
        f"Remedy: run this as root: `sudo -u root env FLEET_STATE_DIR={state_of_root} fleet status --all`"
    )


def test_a_record_that_is_damaged_is_not_taken_for_another_users(tmp_path: Path) -> None:
    (tmp_path / "fleet.json").write_text("[", "utf-8")
    with pytest.raises(OperationError, match="cannot be read"):
        FleetRecord.load(tmp_path)


@pytest.mark.parametrize(
    "text", ["yesterday", "99999999999d", "1e5d", "0001-01-01", "9999-12-31T23:59", "", "-1h"]
)
def test_a_time_that_is_none_or_out_of_all_bounds_is_refused(text: str) -> None:
    with pytest.raises(OperationError, match="is not a valid time"):
        moment(text)


@pytest.mark.parametrize("text", ["0s", "3650d", "2026-01-31T14:00Z"])
def test_a_time_within_bounds_is_taken(text: str) -> None:
    assert moment(text).tzinfo is None


def test_a_huge_id_does_not_fill_the_terminal() -> None:
    unknown = RPCError("not found", RPCStatusCode.NOT_FOUND, b"")
    assert len(str(unknown_pipeline("x" * 5000, unknown))) < 300
    away = RPCError("away", RPCStatusCode.UNAVAILABLE, b"")
    assert len(str(unknown_pipeline("x" * 5000, away))) < 300


def test_results_are_not_written_where_a_file_stands(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    for place in (tmp_path / "file", tmp_path / "file" / "below"):
        with pytest.raises(OperationError, match="is not a folder"):
            write_index(place, "")


def ends_with(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], error: Exception
) -> tuple[int, str]:
    """The status and the standard error of a command in which this is raised."""

    def fails(**options: object) -> None:
        raise error

    monkeypatch.setattr(command, "app", fails)
    status = command._guarded()
    return status, capsys.readouterr().err


def test_a_file_that_may_not_be_read_is_one_line_with_a_remedy(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    (tmp_path / "openai_00.log").touch()
    denied = PermissionError(13, "Permission denied", str(tmp_path / "openai_00.log"))
    status, said = ends_with(monkeypatch, capsys, denied)
    assert status == 1 and len(said.splitlines()) == 1
    assert f"Remedy: correct its rights: `chmod u+rwX {tmp_path}/openai_00.log`" in said


def test_a_denial_without_a_file_is_one_line_with_a_remedy(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for denial in (PermissionError(1, "Operation not permitted"), PermissionError()):
        status, said = ends_with(monkeypatch, capsys, denial)
        assert status == 1 and len(said.splitlines()) == 1, said
        assert "names no file. Remedy: run this as the fleet's user" in said


def test_a_new_file_in_an_own_folder_without_rights_names_the_folder(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    denial = PermissionError(13, "Permission denied", str(tmp_path / "new.json"))
    status, said = ends_with(monkeypatch, capsys, denial)
    assert status == 1 and f"the rights that {tmp_path} has. Remedy: correct its rights: " in said
    assert f"`chmod u+rwX {tmp_path}`" in said


@as_root
def test_only_a_file_of_the_state_folder_is_worth_a_command_as_another_user(
    state_of_root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = state_of_root.with_name("other")
    other.mkdir(mode=0o700)

    def opens(path: Path) -> str:
        said = io.StringIO()
        monkeypatch.setattr(command, "app", lambda **options: path.write_text("", "utf-8"))
        with redirect_stderr(said):
            status = command._guarded()
        return f"{status} {said.getvalue()}"

    said = as_nobody(lambda: opens(other / "out.json"))
    assert said == "no error: " + repr(
        f"1 fleet: {other}/out.json may not be used by nobody (Permission denied; {other} belongs to root). "
        "Remedy: name another file or folder, or have root give nobody the right to it\n"
    )
    for place in (state_of_root / "operate.lock", state_of_root / "../state/programs.d/openai.conf"):
        said = as_nobody(lambda place=place: opens(place))  # type: ignore[misc]
        assert f"run this as root: `sudo -u root env FLEET_STATE_DIR={state_of_root} fleet status --all`" in said


def test_an_argument_that_is_not_utf8_is_named(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["fleet", "show", "\udcff\udcfe"])
    error = UnicodeEncodeError("utf-8", "\udcff", 0, 1, "surrogates not allowed")
    status, said = ends_with(monkeypatch, capsys, error)
    assert status == 2 and len(said.splitlines()) == 1
    assert "is not valid UTF-8. Remedy: set the terminal to UTF-8" in said


def test_any_other_failure_to_encode_is_a_defect_and_shows_where(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["fleet", "show", "x"])
    status, said = ends_with(monkeypatch, capsys, UnicodeEncodeError("utf-8", "\udcff", 0, 1, "surrogates"))
    assert status == 1 and "Traceback" in said
