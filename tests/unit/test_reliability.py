"""docs/reliability.md names tests that are there."""

import re
from pathlib import Path

import pytest

TESTS = Path(__file__).parents[1]
PAGE = TESTS.parent / "docs" / "reliability.md"
NAMED = re.findall(r"`([\w/]+\.py)::(\w+)`", PAGE.read_text("utf-8"))


@pytest.mark.parametrize(("path", "name"), NAMED)
def test_a_promise_is_held_by_a_test(path: str, name: str) -> None:
    assert re.search(rf"^(async def|def|class)? ?{name}\b", (TESTS / path).read_text("utf-8"), re.MULTILINE)


def test_every_promise_names_one() -> None:
    rows = [
        line for line in PAGE.read_text("utf-8").splitlines() if line.startswith("| ") and "promise" not in line
    ]
    assert len(rows) > 20 and all("::" in row for row in rows)
