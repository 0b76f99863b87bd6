"""Every command that a message of the fleet names can be typed as it stands, with its arguments."""

import ast
import functools
import re
import shlex
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer
from typer.core import TyperGroup
from typer.exceptions import TyperException

from fleet.cli.main import app
from fleet.config import PROJECT_ROOT

COMMAND = re.compile(r"\\?`(?:\.venv/bin/)?fleet ([^`\\]+)\\?`")
#: Stands for what a message fills in: a name, an id or a number.
FILLED_IN = "1"


@functools.cache
def strings_in(path: Path) -> list[str]:
    """Every string of a Python file but the docstrings, with what an f-string fills in replaced."""
    return list(_strings_of(list(ast.walk(ast.parse(path.read_text("utf-8"))))))


def _strings_of(nodes: list[ast.AST]) -> Iterator[str]:
    docstrings = {
        id(node.value) for node in nodes if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)
    }
    within = {id(part) for node in nodes if isinstance(node, ast.JoinedStr) for part in node.values}
    for node in nodes:
        if isinstance(node, ast.JoinedStr):
            yield "".join(str(part.value) if isinstance(part, ast.Constant) else FILLED_IN for part in node.values)
        elif (
            isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in docstrings | within
        ):
            yield node.value


def commands() -> Iterator[tuple[str, str]]:
    """Each file that names a command, and the command."""
    python = [path for folder in ("fleet", "workers") for path in (PROJECT_ROOT / folder).rglob("*.py")]
    for path in python:
        for text in strings_in(path):
            yield from ((name_of(path), found) for found in COMMAND.findall(text))
    for path in (PROJECT_ROOT / "scripts").glob("*.sh"):
        yield from ((name_of(path), found) for found in COMMAND.findall(path.read_text("utf-8")))


def name_of(path: Path) -> str:
    return str(path.relative_to(PROJECT_ROOT))


def parse(words: list[str]) -> None:
    """Parse a command line without running it.

    Raises:
        TyperException: the command would refuse it.
    """
    command: Any = typer.main.get_command(app)
    context = command.make_context("fleet", words[:1])
    while isinstance(command, TyperGroup):
        name, *words = words
        command = command.get_command(context, name)
        if command is None:
            raise TyperException(f"there is no command {name}")
        own = words[:1] if isinstance(command, TyperGroup) else words
        context = command.make_context(name, own, parent=context)


def test_every_command_that_a_message_names_can_be_typed() -> None:
    # One test, since each process that shares the files would look through the whole source for its parameters.
    found, wrong = sorted(set(commands())), []
    for file, command in found:
        try:
            parse(shlex.split(command))
        except (TyperException, ValueError) as error:
            wrong.append((file, command, str(error)))
    assert len(found) > 100 and not wrong


@pytest.mark.parametrize("command", ["resume", "show", "run", "logs --providr x", "nothing", "scale openai"])
def test_a_command_without_its_argument_or_with_a_wrong_one_is_found(command: str) -> None:
    with pytest.raises(TyperException):
        parse(command.split())


def test_no_message_sends_a_reader_to_the_client_of_temporal() -> None:
    texts = [
        text
        for folder in ("fleet", "workers")
        for path in (PROJECT_ROOT / folder).rglob("*.py")
        for text in strings_in(path)
    ]
    assert len(texts) > 1000 and not [text for text in texts if "`temporal workflow" in text]


@pytest.mark.parametrize("word", ["--help", "-h"])
def test_the_script_of_the_tests_helps(word: str) -> None:
    script = PROJECT_ROOT / "scripts" / "test.sh"
    done = subprocess.run([script, word], capture_output=True, text=True, timeout=30, check=True)
    assert "scripts/test.sh --all" in done.stdout and "tests/process/test_fleet.py -k" in done.stdout
    assert "set -euo" not in done.stdout
