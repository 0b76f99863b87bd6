"""Compiles the rarely called methods of dataclasses when they are first called.

``@dataclass`` writes up to six methods per class as text and compiles each by itself, which takes 0.08 ms of CPU.
A worker that uses Temporal loads 400 dataclasses, nearly all of them the SDK's, and compares or prints almost none
of them. After :func:`install` only ``__init__`` is compiled with the class. In place of each other method stands a
function that compiles it at the first call and does what it does.

This replaces a private function of the standard library, which has these parameters in Python 3.11 and 3.12. Where
it is absent or differs, nothing is replaced: newer Pythons compile all methods of a class at once.
"""

import dataclasses
import inspect
from collections.abc import Callable, Mapping, Sequence
from typing import Any

_NAME = "_create_fn"
_KNOWN_PARAMETERS = ("name", "args", "body", "globals", "locals", "return_type")


def install() -> None:
    """Do so from now on. A second call does nothing."""
    create = getattr(dataclasses, _NAME, None)
    if create is None or getattr(create, "compiles_later", False):
        return
    if tuple(inspect.signature(create).parameters) == _KNOWN_PARAMETERS:
        setattr(dataclasses, _NAME, _later(create))


def _later(create: Callable[..., Callable[..., Any]]) -> Callable[..., Callable[..., Any]]:
    """``create``, which makes a method of its text, but with the text compiled at the method's first call."""

    def create_method(
        name: str, args: Sequence[str], body: Sequence[str], **rest: Mapping[str, Any] | None
    ) -> Callable[..., Any]:
        if name == "__init__":  # is called, and its signature is read
            return create(name, args, body, **rest)
        compiled: Callable[..., Any] | None = None

        def method(self: Any, *values: Any) -> Any:
            nonlocal compiled
            if compiled is None:
                compiled = create(name, args, body, **rest)
            return compiled(self, *values)

        method.__name__ = name
        method.__qualname__ = f"__create_fn__.<locals>.{name}"  # as create gives it; pytest looks for it
        return method

    create_method.compiles_later = True  # type: ignore[attr-defined]
    return create_method
