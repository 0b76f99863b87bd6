"""docs/security.md names, for each threat, tests that exist."""

import ast
import re
from functools import cache

from fleet.config import PROJECT_ROOT

_TEXT = (PROJECT_ROOT / "docs" / "security.md").read_text("utf-8")
_ROWS = [line for line in _TEXT.splitlines() if line.startswith("| ") and "tests/" in line.rpartition(" | ")[2]]
_ALL_ROWS = [line for line in _TEXT.partition("## Threats")[2].splitlines() if line.startswith("| ")]


@cache
def functions_of(file: str) -> set[str]:
    body = ast.parse((PROJECT_ROOT / file).read_text("utf-8")).body
    return {node.name for node in body if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)}


def test_each_threat_has_a_test_and_it_exists() -> None:
    assert len(_ROWS) == len(_ALL_ROWS) - 1, "a row names no test"
    for row in _ROWS:
        file, found = "", 0
        for word in re.findall(r"`([^`]+)`", row.rpartition(" | ")[2]):
            if word.startswith("tests/"):
                file = word
            else:
                assert word in functions_of(file), f"{file} has no {word}"
                found += 1
        assert found, f"only a file is named: {row}"
