"""The front matter of a Dotprompt file: YAML, with the line of every value.

Source: google.github.io/dotprompt/reference. Keys with a period belong to a namespace; ours is ``fleet``, which
may also be written as a section.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import yaml

from fleet.projects.problems import Problem

#: Comments and blank lines may stand before the first ``---``.
_PARTS = re.compile(r"\A((?:(?:#[^\n]*|[ \t]*)\n)*)---[ \t]*\n(.*?)(?<=\n)---[ \t]*(?:\n(.*))?\Z", re.DOTALL)
#: Sections whose values are read one by one, as ``config.temperature``.
_SECTIONS = ("config", "fleet", "input", "output")
_MAX_CHARACTERS = 200_000
_MAX_NODES = 20_000
Path = tuple[str | int, ...]
_BEGIN = "begin the file with ---, a line such as `model: openai/gpt-6-luna`, and ---"


@dataclass(frozen=True)
class Value:
    """A value of the front matter, and the line of the file that its key stands in. ``lines`` has those of what it
    contains, by the path of keys and positions."""

    value: Any
    line: int
    lines: Mapping[Path, int] = field(default_factory=dict)

    def line_of(self, path: Path) -> int:
        """The line of the value at this path, or of the closest value around it that has one."""
        while path and path not in self.lines:
            path = path[:-1]
        return self.lines.get(path, self.line)


@dataclass(frozen=True)
class FrontMatter:
    """The values by key, with those of sections as ``section.key``; and the text below, which begins in
    ``body_line``."""

    values: Mapping[str, Value]
    body: str
    body_line: int


class Unreadable(Exception):
    """The front matter cannot be read."""

    def __init__(self, line: int, says: str, remedy: str) -> None:
        super().__init__(says)
        self.line, self.says, self.remedy = line, says, remedy

    def problem(self, file: str) -> Problem:
        """The problem, in this file."""
        return Problem(file, self.line, self.says, self.remedy)


def read_front_matter(text: str) -> FrontMatter:
    """The front matter and the body of a file with line ends ``\\n``.

    Raises:
        Unreadable: there is no front matter, it is not YAML, or it contains a key twice.
    """
    found = _PARTS.match(text)
    if found is None:
        began = re.match(r"\A(?:(?:#[^\n]*|[ \t]*)\n)*---[ \t]*\n", text)
        if began is not None:
            raise Unreadable(began.group().count("\n"), "its front matter does not end", "end it with a line ---")
        raise Unreadable(1, "it has no front matter", _BEGIN)
    before, front, body = found[1], found[2], found[3] or ""
    line = before.count("\n") + 2
    body_line = line + front.count("\n") + 1
    if len(front) > _MAX_CHARACTERS:
        raise Unreadable(line, f"its front matter has more than {_MAX_CHARACTERS:,} characters", "shorten it")
    return FrontMatter(_values(front, line), body, body_line)


def _values(front: str, first_line: int) -> dict[str, Value]:
    try:
        loader = yaml.SafeLoader(front)
        root = loader.get_single_node()
        if root is None:
            return {}
        if not isinstance(root, yaml.MappingNode):
            raise Unreadable(first_line, "its front matter is not a list of `key: value` lines", _BEGIN)
        return _flattened(loader, root, first_line)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        says = f"its front matter is not YAML ({error.problem or error.context})"
        remedy = "correct that line; a text with : or # in it must stand in quotes"
        raise Unreadable(first_line + (mark.line if mark else 0), says, remedy) from None
    except yaml.reader.ReaderError as error:
        line = first_line + front.count("\n", 0, error.position)
        raise Unreadable(line, f"it contains the character U+{error.character:04X}", "remove it") from None
    except (ValueError, RecursionError) as error:  # an impossible date, or lists a thousand deep
        raise Unreadable(first_line, f"its front matter is not YAML ({error})", "correct it") from None


def _flattened(loader: yaml.SafeLoader, root: yaml.MappingNode, first_line: int) -> dict[str, Value]:
    values: dict[str, Value] = {}
    for name, line, node in _items(root, first_line):
        if name in _SECTIONS and isinstance(node, yaml.MappingNode):
            for inner, inner_line, value in _items(node, first_line):
                _add(values, f"{name}.{inner}", _value(loader, value, inner_line, first_line))
        else:
            _add(values, name, _value(loader, node, line, first_line))
    return values


def _value(loader: yaml.SafeLoader, node: yaml.Node, line: int, first_line: int) -> Value:
    lines: dict[Path, int] = {}
    _note_lines(node, (), first_line, lines)
    return Value(loader.construct_object(node, deep=True), line, lines)


def _note_lines(node: yaml.Node, path: Path, first_line: int, lines: dict[Path, int]) -> None:
    """Note the line of everything in a node. Aliases of YAML can make a small text a huge value, which is
    refused."""
    if len(lines) > _MAX_NODES:
        raise Unreadable(
            first_line + node.start_mark.line, f"it has more than {_MAX_NODES:,} values", "shorten it"
        )
    if isinstance(node, yaml.MappingNode):
        for key, line, inner in _items(node, first_line):
            if (*path, key) in lines:
                first = lines[*path, key]
                raise Unreadable(line, f"{key} is set twice, first in line {first}", "remove one of them")
            lines[*path, key] = line
            _note_lines(inner, (*path, key), first_line, lines)
    elif isinstance(node, yaml.SequenceNode):
        for position, inner in enumerate(node.value):
            lines[*path, position] = first_line + inner.start_mark.line
            _note_lines(inner, (*path, position), first_line, lines)


def _items(node: yaml.MappingNode, first_line: int) -> list[tuple[str, int, yaml.Node]]:
    items = []
    for key, value in node.value:
        line = first_line + key.start_mark.line
        if not isinstance(key, yaml.ScalarNode):
            raise Unreadable(line, "a key of its front matter is not a name", "write `key: value`")
        items.append((key.value, line, value))
    return items


def _add(values: dict[str, Value], name: str, value: Value) -> None:
    if name in values:
        raise Unreadable(
            value.line, f"{name} is set twice, first in line {values[name].line}", "remove one of them"
        )
    values[name] = value
