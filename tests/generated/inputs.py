"""How many generated inputs each entry gets, and how they are run.

The same inputs are generated in each run (``derandomize``), so a failure can be repeated and a change of one file
cannot fail another. ``scripts/test.sh --all`` runs them all, every other run a part.
"""

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

#: Inputs by entry; tests/generated/test_budget.py adds them up.
BUDGET = {
    "OpenAI's answers": 200,
    "OpenAI's chat answers": 200,
    "Anthropic's streams": 200,
    "Gemini's answers": 150,
    "Gemini's interactions": 50,
    "assistants": 2_000,
    "prompt files": 1_000,
    "templates": 600,
    "backend answers": 400,
    "journal rows": 300,
    "settings": 300,
    "messages": 300,
    "control requests": 700,
    "command lines": 200,
    "CSV": 2_600,
    "pipeline arguments": 800,
}
#: The part of them that runs without --all.
PART = 0.05
#: Set by tests/conftest.py for --all.
whole = False

#: Any text, with what is awkward for terminals, encodings and protocols more often than by chance.
TEXTS = st.text(max_size=12) | st.sampled_from(
    ["", " ", "\x00", "\r\n", "\x1b]52;c;QQ==\x07", "\u202e", "\ud800", "{{", "á" * 30, "9" * 400, "-1", "NaN"]
)
NUMBERS = (
    st.integers()
    | st.floats()
    | st.sampled_from([0, -1, 2**31, 2**63, 10**30, 10**400, float("inf"), float("nan")])
)
#: Any value that JSON can have.
VALUES = st.recursive(
    st.none() | st.booleans() | NUMBERS | TEXTS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXTS, inner, max_size=3),
    max_leaves=6,
)


def changed(good: Any, *further: Any) -> st.SearchStrategy[Any]:
    """The good value with up to three of its parts, at any depth, replaced, removed or repeated. ``further`` are
    values to replace parts by, beside :data:`VALUES`."""
    values = VALUES | st.sampled_from(further) if further else VALUES

    @st.composite
    def change(draw: st.DrawFn) -> Any:
        found = good
        for _ in range(draw(st.integers(0, 3))):
            found = _changed_once(draw, found, values)
        return found

    return change()


def changed_alike(good: Any) -> st.SearchStrategy[Any]:
    """The good value with up to three of its texts, numbers and booleans, at any depth, replaced by others of
    their type."""

    @st.composite
    def change(draw: st.DrawFn) -> Any:
        found = good
        for _ in range(draw(st.integers(0, 3))):
            found = _alike(draw, found)
        return found

    return change()


def _alike(draw: st.DrawFn, value: Any) -> Any:
    match value:
        case dict() if value:
            place = draw(st.sampled_from(sorted(value)))
            return value | {place: _alike(draw, value[place])}
        case list() if value:
            number = draw(st.integers(0, len(value) - 1))
            return [*value[:number], _alike(draw, value[number]), *value[number + 1 :]]
        case bool():
            return draw(st.booleans())
        case int() | float():
            return draw(NUMBERS)
        case str():
            return draw(TEXTS)
    return value


def _changed_once(draw: st.DrawFn, value: Any, values: st.SearchStrategy[Any]) -> Any:
    places: list[Any] = list(value) if isinstance(value, dict) else []
    if isinstance(value, list):
        places = list(range(len(value)))
    if not places or draw(st.integers(0, 9)) == 0:
        return draw(values)
    place = draw(st.sampled_from(places))
    copied = dict(value) if isinstance(value, dict) else list(value)
    match draw(st.sampled_from(["deeper", "deeper", "remove", "repeat"])):
        case "remove":
            del copied[place]
        case "repeat" if isinstance(copied, list):
            copied.append(copied[place])
        case _:
            copied[place] = _changed_once(draw, copied[place], values)
    return copied


def budget_of(entry: str) -> int:
    """How many inputs the entry gets in this run."""
    return BUDGET[entry] if whole else max(int(BUDGET[entry] * PART), 5)


def check_each(
    entry: str,
    inputs: st.SearchStrategy[Any],
    check: Callable[[Any], bool | None],
    known: Sequence[Any] = (),
    *,
    min_share: float = 0.0,
) -> None:
    """Check as many inputs as the entry gets, after the ``known`` ones, which have found a defect before.

    ``check`` may say whether an input was accepted. ``min_share`` is the part of the generated inputs that must be
    accepted, and the part that must be refused: what is never accepted, or never refused, is not tested. Of the
    few inputs of a run without --all it is at least one each."""
    for value in known:
        check(value)
    seen = 0
    ways: Counter[bool | None] = Counter()

    @settings(
        max_examples=budget_of(entry),
        derandomize=True,
        database=None,
        deadline=None,
        phases=[Phase.explicit, Phase.generate, Phase.shrink],
        suppress_health_check=list(HealthCheck),
    )
    @given(inputs)
    def run(value: Any) -> None:
        nonlocal seen
        seen += 1
        ways[check(value)] += 1

    run()
    assert seen >= budget_of(entry), f"only {seen} inputs were generated: the entry has fewer different ones"
    if min_share:
        wanted = max(min_share * seen, 1) if whole else 1
        assert min(ways[True], ways[False]) >= wanted, f"accepted: {ways[True]}, refused: {ways[False]} of {seen}"


def await_each(
    entry: str,
    inputs: st.SearchStrategy[Any],
    check: Callable[[Any], Awaitable[bool | None]],
    runner: asyncio.Runner,
    known: Sequence[Any] = (),
    *,
    min_share: float = 0.0,
) -> None:
    """The same for a check that awaits; all run in one event loop."""

    async def awaited(value: Any) -> bool | None:
        return await check(value)

    check_each(entry, inputs, lambda value: runner.run(awaited(value)), known, min_share=min_share)
