"""Dataclasses whose methods are compiled at their first call behave as all others do."""

import dataclasses
import inspect
import json
import subprocess
import sys

import pytest

from fleet.process import lazy_dataclasses

#: What a dataclass with each option does, as JSON.
PROBE = """
import copy, dataclasses, inspect, json, pickle, sys
{first}

@dataclasses.dataclass
class Plain:
    x: int
    y: list[int] = dataclasses.field(default_factory=list, compare=False)

@dataclasses.dataclass(frozen=True, order=True, slots=True)
class Frozen:
    x: int
    y: int = 0

@dataclasses.dataclass(frozen=True)
class Inherited(Frozen):
    z: str = "z"

@dataclasses.dataclass(unsafe_hash=True)
class Own:
    x: object = None
    def __repr__(self):
        return "own"

def said(act):
    try:
        return repr(act())
    except Exception as error:
        return f"{{type(error).__name__}}: {{error}}"

def assign(one, name):
    setattr(one, name, 1)
    return vars(one)

nested = Own()
nested.x = Plain(1, [nested])
loop = Plain(1)
loop.y.append(loop)
print(json.dumps([[said(act) for act in (
    lambda: Plain(1, [2]), lambda: loop, lambda: Own(2), lambda: Plain("x"), lambda: Inherited(1),
    lambda: Plain(1, [1]) == Plain(1, [2]), lambda: Plain(1) == Plain(2), lambda: Plain(1) == 1,
    lambda: Frozen(1) == Inherited(1), lambda: Inherited(1) == Inherited(1), lambda: len({{Own(1), Own(1)}}),
    lambda: hash(Plain(1)), lambda: hash(Frozen(1)) == hash(Frozen(1)) == hash((1, 0)),
    lambda: Frozen(1) < Frozen(2), lambda: Frozen(1) >= Frozen(1, 1), lambda: Frozen(1) < Inherited(2),
    lambda: Frozen(1) < 1, lambda: sorted([Frozen(2), Frozen(1)]),
    lambda: assign(Frozen(1), "x"), lambda: assign(Inherited(1), "z"), lambda: assign(Inherited(1), "new"),
    lambda: delattr(Frozen(1), "x"), lambda: assign(Plain(1), "new"), lambda: Plain(),
    lambda: pickle.loads(pickle.dumps(Frozen(1, 2))), lambda: copy.deepcopy(Inherited(1)),
    lambda: dataclasses.replace(Frozen(1), y=2), lambda: dataclasses.asdict(Plain(1, [2])),
    lambda: inspect.signature(Frozen), lambda: Plain.__doc__, lambda: Plain.__repr__.__wrapped__.__qualname__,
    lambda: [getattr(Frozen, name).__qualname__ for name in ("__init__", "__eq__", "__repr__", "__delattr__")],
    lambda: Frozen.__setattr__.__name__,
) for _ in range(2)], getattr(dataclasses._create_fn, "compiles_later", False)]))
"""

pytestmark = pytest.mark.skipif(
    not hasattr(dataclasses, "_create_fn"), reason="this Python compiles all methods of a class at once"
)


def test_a_dataclass_does_what_it_does_without_it() -> None:
    def seen(first: str) -> list[object]:
        command = [sys.executable, "-c", PROBE.format(first=first)]
        return list(json.loads(subprocess.run(command, capture_output=True, check=True).stdout))

    lazy, plain = seen("import fleet"), seen("")
    assert lazy[0] == plain[0]
    assert (lazy[1], plain[1]) == (True, False)


def test_a_method_is_compiled_once_when_it_is_called(monkeypatch: pytest.MonkeyPatch) -> None:
    compiled = []

    def create(
        name: str,
        args: object,
        body: object,
        *,
        globals: object = None,
        locals: object = None,
        return_type: object = 0,
    ) -> object:
        compiled.append(name)
        return lambda *_: True

    monkeypatch.setattr(dataclasses, "_create_fn", create)
    lazy_dataclasses.install()

    @dataclasses.dataclass
    class Some:
        x: int

    assert compiled == ["__init__"]
    assert Some.__eq__(object.__new__(Some), 1) is Some.__eq__(object.__new__(Some), 2) is True
    assert compiled == ["__init__", "__eq__"]


def test_another_pythons_function_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    def create(name: str, args: object, body: object) -> None:
        raise AssertionError("not called")

    monkeypatch.setattr(dataclasses, "_create_fn", create)
    lazy_dataclasses.install()
    assert dataclasses._create_fn is create  # type: ignore[attr-defined]
    monkeypatch.delattr(dataclasses, "_create_fn")
    lazy_dataclasses.install()
    assert not hasattr(dataclasses, "_create_fn")


def test_it_is_installed_once() -> None:
    before = dataclasses._create_fn  # type: ignore[attr-defined]
    lazy_dataclasses.install()
    assert dataclasses._create_fn is before  # type: ignore[attr-defined]
    assert "name" in inspect.signature(before).parameters
