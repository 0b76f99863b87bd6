"""Workers name the code that they run."""

from pathlib import Path

import pytest

from fleet.config import load_settings
from fleet.process import runtime
from fleet.process.runtime import build_id, worker_options


@pytest.fixture
def checkout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for room in ("fleet", "workers"):
        (tmp_path / room).mkdir()
        (tmp_path / room / "one.py").write_text("x = 1\n", "utf-8")
    monkeypatch.setattr(runtime, "PROJECT_ROOT", tmp_path)
    return tmp_path


def test_the_same_code_has_the_same_id_wherever_it_is(checkout: Path) -> None:
    before = build_id.__wrapped__()
    assert before == build_id.__wrapped__()
    checkout.rename(checkout.with_name("elsewhere")).rename(checkout)
    assert build_id.__wrapped__() == before


def test_a_change_of_code_changes_the_id(checkout: Path) -> None:
    before = build_id.__wrapped__()
    (checkout / "workers" / "one.py").write_text("x = 2\n", "utf-8")
    changed = build_id.__wrapped__()
    (checkout / "workers" / "one.py").rename(checkout / "workers" / "two.py")
    assert len({before, changed, build_id.__wrapped__()}) == 3


def test_every_worker_is_given_it() -> None:
    assert worker_options(load_settings(api_base_url="http://localhost"))["build_id"] == build_id()
