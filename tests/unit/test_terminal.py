"""Text from outside controls no terminal: the function, the writers and the console that all commands use."""

import json
import sys
from collections.abc import Callable, Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as some
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from fleet.cli import main as command
from fleet.cli.console import Console
from fleet.cli.output import print_json
from fleet.redaction import MASK, excerpt, protect, redact
from fleet.terminal import harmless, harmless_lines, write_error, write_line

#: What a terminal obeys or a reader does not see.
HOSTILE = {
    "OSC 52": "\x1b]52;c;cm0gLXJm\x07",
    "title": "\x1b]0;root@prod\x1b\\",
    "hyperlink": "\x1b]8;;http://evil.example\x07here\x1b]8;;\x07",
    "clear": "\x1b[2J\x1b[H",
    "C1 CSI": "\x9b31m",
    "C1 OSC": "\x9d0;x\x9c",
    "bell": "\x07",
    "carriage return": "ok\rproblem",
    "override": "abc\u202egpj.exe",
    "isolate": "\u2066x\u2069",
    "mark": "a\u200fb\u061cc",
    "tags": "hi\U000e0041\U000e0042",
    "variation": "a\U000e0101",
    "zero width": "op\u200benai",
    "separator": "a\u2028b\u2029c",
    "surrogate": "\ud800",
    "delete": "a\x7fb",
}


def obeyed(text: str) -> list[str]:
    """The characters in printed text that a terminal obeys or hides; line breaks are the command's own."""
    return [character for character in text if character != "\n" and harmless(character) != character]


@pytest.fixture(params=HOSTILE.values(), ids=HOSTILE.keys())
def hostile(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def test_no_character_that_a_terminal_obeys_or_hides_is_left(hostile: str) -> None:
    assert harmless(hostile) != hostile and harmless(harmless(hostile)) == harmless(hostile)
    assert harmless(hostile).isprintable() and harmless(hostile).isascii()


@given(some.text(max_size=50))
def test_whatever_text_comes_its_line_breaks_alone_are_left(text: str) -> None:
    assert "\n" not in harmless(text)
    assert not [character for character in harmless_lines(text) if character < " " and character != "\n"]
    harmless(text).encode()


@pytest.mark.parametrize("text", ["žluťoučký kůň", "日本語", "👩‍💻 🚀", "می‌خواهم", "1 < 2 [bold] $x"])
def test_text_of_any_language_stays_as_it_is(text: str) -> None:
    assert harmless(text) == text


@pytest.mark.parametrize("write", [write_line, write_error])
def test_what_is_written_is_harmless(
    write: Callable[[str], None], hostile: str, capsys: pytest.CaptureFixture[str]
) -> None:
    write(f"{hostile}\nsk-abcdefgh12345678")
    out, err = capsys.readouterr()
    assert not obeyed(out + err) and "sk-abc" not in out + err


def renderables(text: str) -> Iterator[object]:
    """Every way in which a command may show text."""
    yield text.replace("[", "\\[")
    yield Text(text)
    yield Text("a ").append(text, "bold")
    yield Panel(Text(text), title=Text(text))
    table = Table("name", text.replace("[", "\\["), title=Text(text))
    table.add_row(Text(text), text.replace("[", "\\["))
    yield table


def test_the_console_shows_no_renderable_that_controls_the_terminal(
    hostile: str, capsys: pytest.CaptureFixture[str]
) -> None:
    for renderable in renderables(hostile):
        Console(width=80).print(renderable)
        Console(stderr=True, width=80).print(renderable)
    Console().say(hostile)
    out, err = capsys.readouterr()
    assert out and err and not obeyed(out) and not obeyed(err)


def test_the_console_shows_no_key_and_takes_no_plain_text_for_markup(capsys: pytest.CaptureFixture[str]) -> None:
    protect("house-key-1234")
    Console(width=200).print("a house-key-1234 b", Text("sk-abcdefgh12345678"))
    Console().say("/state/[red]/[/x] :warning: house-key-1234")
    out = capsys.readouterr().out
    assert "house-key" not in out and "sk-abc" not in out and out.count(MASK) == 3
    assert "/state/[red]/[/x] :warning:" in out


def test_json_is_ascii_and_stays_the_same_json_without_its_keys(
    hostile: str, capsys: pytest.CaptureFixture[str]
) -> None:
    print_json({"text": hostile, "inner": [{"url": 'http://x/?key=abcdefgh"', "n": 1.5, "none": None}]})
    line = capsys.readouterr().out
    assert line.count("\n") == 1 and not obeyed(line) and line.isascii()
    assert json.loads(line) == {
        "text": hostile,
        "inner": [{"url": f'http://x/?key={MASK}"', "n": 1.5, "none": None}],
    }


@pytest.mark.parametrize(
    "words", [["{}"], ["scale", "openai", "{}"], ["status", "--{}"], ["logs", "--level", "{}"]]
)
def test_an_error_about_a_commands_own_words_is_one_harmless_line(
    words: list[str], hostile: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["fleet", *(word.format(hostile) for word in words)])
    assert command._guarded() in (1, 2)
    out, err = capsys.readouterr()
    assert not obeyed(out + err)
    assert err.startswith("fleet: ") and err.count("\n") == 1 and "Remedy: " in err


def test_an_error_that_nobody_expected_is_harmless_too(
    hostile: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail(**options: object) -> None:
        raise RuntimeError(f"{hostile} sk-abcdefgh12345678")

    monkeypatch.setattr(command, "app", fail)
    assert command._guarded() == 1
    err = capsys.readouterr().err
    assert "RuntimeError" in err and not obeyed(err) and "sk-abc" not in err


def test_a_key_is_removed_before_a_text_is_cut() -> None:
    text = "x" * 70 + " sk-" + "a1" * 30
    assert "sk-" not in harmless(text, 80) and "sk-" not in excerpt(text, 80)
    assert len(harmless(text, 80)) == 80


@pytest.mark.parametrize("text", ["a task-management-system", "risk-assessment, disk-encryption"])
def test_a_word_that_ends_like_a_keys_beginning_is_no_key(text: str) -> None:
    assert redact(text) == text


@pytest.mark.parametrize("text", ['{"a": "\\nsk-proj-abcdefgh12345678"}', "xsk-ant-api03-abcdefgh12345678"])
def test_a_key_behind_other_text_is_removed(text: str) -> None:
    assert "12345678" not in redact(text)
