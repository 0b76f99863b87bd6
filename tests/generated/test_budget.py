"""The generated inputs are ten thousand in all, each entry's in a file of this folder."""

import re
from pathlib import Path

from tests.generated.inputs import BUDGET, PART, budget_of, whole

IN_ALL = 10_000


def test_all_entries_together_get_ten_thousand_inputs() -> None:
    assert sum(BUDGET.values()) == IN_ALL
    assert sum(map(budget_of, BUDGET)) == IN_ALL if whole else sum(map(budget_of, BUDGET)) < 2 * PART * IN_ALL


def test_every_entry_is_used_by_a_test() -> None:
    code = "".join(path.read_text("utf-8") for path in Path(__file__).parent.glob("test_*.py"))
    named = re.findall(r'(?:await_each|check_each)\(\s*"([^"]+)"', code) + re.findall(r'": "([^"]+)",', code)
    assert set(named) >= BUDGET.keys()
