"""The page's files name each other by path; nothing builds them, so nothing else would notice a wrong name."""

import re

import pytest

from fleet.control.web.app import PAGE

SCRIPTS = sorted(path.name for path in PAGE.glob("*.js"))


def test_each_script_is_preloaded_once() -> None:
    page = (PAGE / "index.html").read_text("utf-8")
    named = re.findall(r'(?:src|href)="/page/(\w+\.js)"', page)
    assert sorted(named) == SCRIPTS


@pytest.mark.parametrize("name", SCRIPTS)
def test_what_a_script_imports_is_there(name: str) -> None:
    imported = re.findall(r"from '\./([^']+)'", (PAGE / name).read_text("utf-8"))
    assert set(imported) <= set(SCRIPTS)
