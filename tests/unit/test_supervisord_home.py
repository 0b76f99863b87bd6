"""The folder that supervisord is run from, and what fleet writes into it."""

import stat
import sys
from pathlib import Path

import pytest

from fleet.config import PROJECT_ROOT, Settings, load_settings
from fleet.control.supervision.programs import processes_of, program_section, programs_of, write_programs
from fleet.control.supervision.supervisord_home import Home
from fleet.errors import OperationError


def settings(state: Path, **overrides: object) -> Settings:
    return load_settings(api_base_url="http://localhost:8000", state_dir=state, **overrides)


def prepared(state: Path) -> Home:
    home = Home.of(settings(state))
    home.prepare()
    return home


def test_the_default_home_is_the_checkout() -> None:
    home = Home.of(load_settings(api_base_url="http://localhost:8000"))
    assert home.configuration == PROJECT_ROOT / "supervisord.conf" and home.configuration.is_file()
    assert home.socket == PROJECT_ROOT / "state" / "supervisor.sock"


def test_another_home_links_to_the_one_tracked_configuration(tmp_path: Path) -> None:
    home = prepared(tmp_path / "state")
    assert stat.S_IMODE(home.state.stat().st_mode) == 0o700
    assert home.configuration.resolve() == PROJECT_ROOT / "supervisord.conf"
    assert (home.folder / ".venv").readlink() == Path(sys.prefix)
    assert (home.folder / "state").resolve() == home.state
    home.prepare()  # and again, over what is there


def test_a_python_that_was_started_through_the_link_leaves_the_link_where_it_points(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    home = prepared(tmp_path / "state")
    environment = Path(sys.prefix).resolve()
    monkeypatch.setattr(sys, "prefix", str(home.folder / ".venv"))
    home.prepare()
    assert (home.folder / ".venv").readlink() == environment


@pytest.mark.parametrize(("name", "said"), [("a%b", "'%'"), ("x" * 120, "107 bytes")])
def test_a_path_that_supervisord_cannot_take_is_refused(tmp_path: Path, name: str, said: str) -> None:
    with pytest.raises(OperationError, match="FLEET_STATE_DIR") as caught:
        prepared(tmp_path / name)
    assert said in str(caught.value)


def test_numprocs_lives_in_programs_d_and_is_kept(tmp_path: Path) -> None:
    home = prepared(tmp_path / "state")
    write_programs(home, settings(home.state))
    openai = home.programs / "openai.conf"
    assert processes_of(openai, "openai") == 1
    openai.write_text(openai.read_text("utf-8").replace("numprocs=1", "numprocs=4"), "utf-8")
    write_programs(home, settings(home.state))
    assert processes_of(openai, "openai") == 4


def test_an_added_provider_has_a_program_as_long_as_it_is_configured(tmp_path: Path) -> None:
    home = prepared(tmp_path / "state")
    groq = {"groq": {"kind": "openai", "base_url": "https://api.groq.invalid/v1"}}
    write_programs(home, settings(home.state, providers=groq))
    text = (home.programs / "groq.conf").read_text("utf-8")
    assert f'command="{home.folder}/.venv/bin/python" -P -m workers.llm groq' in text
    assert "stopwaitsecs=630" in text and "%(here)s" not in text
    foreign = home.programs / "mine.conf"
    foreign.write_text("[program:mine]\ncommand=/bin/true\n", "utf-8")
    write_programs(home, settings(home.state))
    assert not (home.programs / "groq.conf").exists() and foreign.exists()


def test_a_disabled_provider_has_no_process_and_one_again_once_it_is_enabled(tmp_path: Path) -> None:
    home = prepared(tmp_path / "state")
    own = {"base_url": "http://127.0.0.1:1/v1"}
    write_programs(home, settings(home.state, providers={"mine": own}))
    disabled = {"gemini": {"enabled": False}, "mine": own | {"enabled": False}}
    write_programs(home, settings(home.state, providers=disabled))
    gemini = home.programs / "gemini.conf"
    assert processes_of(gemini, "gemini") == 0 and not (home.programs / "mine.conf").exists()
    write_programs(home, settings(home.state))
    assert processes_of(gemini, "gemini") == 1


def test_a_damaged_file_is_named(tmp_path: Path) -> None:
    home = prepared(tmp_path / "state")
    (home.programs / "openai.conf").write_text("[program:openai]\nnumprocs=many\n", "utf-8")
    with pytest.raises(OperationError, match=r"openai\.conf cannot be read"):
        write_programs(home, settings(home.state))


def test_the_tracked_file_has_no_numprocs_and_stops_later_than_workers_drain() -> None:
    text = (PROJECT_ROOT / "supervisord.conf").read_text("utf-8")
    assert "numprocs=" not in text and text.count("stopwaitsecs=630") == 6
    assert load_settings(api_base_url="http://localhost:8000").drain_seconds < 630


def test_the_program_backend_is_there_only_for_a_folder_of_projects(tmp_path: Path) -> None:
    state = tmp_path / "state"
    ours = load_settings(state_dir=state, projects_dir=tmp_path)
    home = Home.of(ours)
    home.prepare()
    write_programs(home, ours)
    assert "backend" in programs_of(ours)
    assert program_section(home, "backend")["command"].endswith("-m workers.backend")
    write_programs(home, settings(state))
    assert "backend" not in programs_of(settings(state)) and not (home.programs / "backend.conf").exists()
