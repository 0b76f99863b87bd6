"""What a backend says of itself and of a project, in whatever form it says it."""

from typing import Any

import httpx
import pytest

from fleet.execution.backend_client import _detail, _told_projects


@pytest.mark.parametrize("problems", [5, True, {"a": 1}])
def test_problems_of_another_form_are_left_out(problems: Any) -> None:
    answer = httpx.Response(200, json={"projects": {"a": {"problems": problems}}})
    assert _told_projects(answer)["a"].problems == []


def test_what_a_backend_says_is_one_bounded_line() -> None:
    said = _detail(httpx.Response(422, json={"detail": "no\nmodel " + "y" * 1_000_000}))
    assert said.startswith("no model yyy") and len(said) == 1_000
