"""One assistant from one file, and every mistake in one with its line and its remedy."""

from pathlib import Path

import pytest

from fleet.projects.problems import Problem
from fleet.projects.prompt_file import PromptFile, parse_prompt, read_prompt_file

SOUND = "---\nmodel: openai/gpt-4o\n---\nWrite.\n"


def parsed(text: str, file: str = "my/10-brief.prompt") -> PromptFile:
    found, problems = parse_prompt(text, file)
    assert found is not None, problems
    return found


def test_the_file_name_has_the_order_and_the_key() -> None:
    row = parsed(SOUND).row
    assert (row["order"], row["functionKey"], row["name"]) == (10, "brief", "brief")
    assert (row["model_provider"], row["model"], row["system_prompt"]) == ("openai", "gpt-4o", "Write.")
    assert row["active"] is True and "input_keys" not in row and "user_template" not in row


def test_every_field_has_its_place() -> None:
    row = parsed(
        "# a licence\n\n---\nmodel: groq/meta-llama/llama-4\nname: The Brief\ndescription: text\n"
        "config:\n  temperature: 0\n  top_p: 0.5\n  maxOutputTokens: 800\noutput:\n  format: text\n"
        "fleet.order: 3\nfleet.key: plan\nfleet.inputs: [topic, csv]\n"
        "fleet.fallback: [claude/opus, openai/gpt-4o]\n"
        "fleet.on_ambiguous: fail\nfleet.active: false\nother.program: 7\n---\nWrite {{topic}}.\n"
        '{{role "user"}}\nNow: {{csv}}\n'
    ).row
    assert row == {
        "functionKey": "plan",
        "name": "The Brief",
        "order": 3,
        "active": False,
        "model_provider": "groq",
        "model": "meta-llama/llama-4",
        "system_prompt": "Write {{topic}}.",
        "temperature": 0.0,
        "top_p": 0.5,
        "max_tokens": 800,
        "on_ambiguous": "fail",
        "input_keys": ["topic", "csv"],
        "fallback": [
            {"model_provider": "claude", "model": "opus"},
            {"model_provider": "openai", "model": "gpt-4o"},
        ],
        "user_template": "Now: {{csv}}",
        "system_template": True,
    }


def test_the_options_of_a_model_have_dotprompts_names_and_the_contracts() -> None:
    given = {
        "reasoning_effort": "low",
        "thinking_budget": 0,
        "stop": ["END"],
        "seed": 7,
        "provider_options": {"user": "a", "metadata": {"b": [1]}},
    }
    first = "reasoningEffort: low, thinkingBudget: 0, stopSequences: [END], seed: 7, providerOptions:"
    second = "reasoning_effort: low, thinking_budget: 0, stop: END, seed: 7, provider_options:"
    for names in (first, second):
        row = parsed(front(f"config: {{{names} {{user: a, metadata: {{b: [1]}}}}}}")).row
        assert {name: row[name] for name in given} == given
    assert not set(given) & set(parsed(SOUND).row)


@pytest.mark.parametrize(
    ("written", "meant"),
    [
        ("temprature", "config.temperature"),
        ("reasonningEffort", "config.reasoningEffort"),
        ("thinkingbudget", "config.thinkingBudget"),
        ("stop_sequence", "config.stopSequences"),
        ("maxTokens", "config.maxOutputTokens"),
        ("topk", "config.topP"),
    ],
)
def test_an_unknown_option_is_told_with_the_nearest(written: str, meant: str) -> None:
    _, (problem,) = parse_prompt(front(f"config:\n  {written}: 1"), "my/10-brief.prompt")
    assert (problem.line, problem.says) == (4, f"config.{written} is not supported")
    assert problem.remedy.startswith(f"write {meant}") and "config.providerOptions" in problem.remedy


@pytest.mark.parametrize("schema", ["{a: string}", "{type: object, properties: {a: {type: string}}}"])
def test_an_output_has_a_schema_in_either_form(schema: str) -> None:
    row = parsed(f"---\nmodel: a/b\noutput:\n  format: json\n  schema: {schema}\n---\nWrite.\n").row
    assert row["output_schema"]["type"] == "object"
    assert row["output_schema"]["properties"] == {"a": {"type": "string"}}
    assert parsed(f"---\nmodel: a/b\noutput.schema: {schema}\n---\nWrite.\n").row == row


def test_an_assistant_says_what_it_reads_of_the_csv() -> None:
    section = "fleet:\n  inputs: [csv]\n  csv:\n    columns: [a, b]\n    rows: {top: 50, by: volume}\n"
    row = parsed(f"---\nmodel: a/b\n{section}---\nWrite.\n").row
    assert row["csv"] == {"columns": ["a", "b"], "rows": {"top": 50, "by": "volume"}}
    flat = "fleet.inputs: [csv]\nfleet.csv: {columns: [a, b], rows: {top: 50, by: volume}}\n"
    assert parsed(f"---\nmodel: a/b\n{flat}---\nWrite.\n").row == row


def test_our_words_may_also_stand_in_a_section() -> None:
    text = "---\nmodel: a/b\nfleet:\n  order: 4\n  inputs: topic\n---\nWrite.\n"
    assert (parsed(text).row["order"], parsed(text).row["input_keys"]) == (4, ["topic"])


def test_a_template_of_the_message_says_what_is_read() -> None:
    text = '---\nmodel: a/b\n---\nWrite.\n{{role "user"}}\n{{brief}} on {{topic}}\n'
    assert parsed(text).row["input_keys"] == ["brief", "topic"]


def test_windows_line_ends_and_a_byte_order_mark_change_nothing(tmp_path: Path) -> None:
    path = tmp_path / "10-brief.prompt"
    path.write_bytes(b"\xef\xbb\xbf" + SOUND.replace("\n", "\r\n").encode())
    found, problems = read_prompt_file(path, "my/10-brief.prompt")
    assert found is not None and not problems and found.row == parsed(SOUND).row


def front(lines: str, body: str = "Write.") -> str:
    return f"---\nmodel: openai/gpt-4o\n{lines}\n---\n{body}\n"


@pytest.mark.parametrize(
    ("text", "line", "says"),
    [
        ("Write.", 1, "it has no front matter"),
        ("", 1, "it has no front matter"),
        ("---\nmodel: a/b\nWrite.", 1, "its front matter does not end"),
        ("---\n- a\n---\nWrite.", 2, "its front matter is not a list of `key: value` lines"),
        ("---\nmodel: [a\n---\nWrite.", 3, "its front matter is not YAML"),
        (front("name: a: b"), 3, "its front matter is not YAML"),
        (front("name: a\x07b"), 3, "it contains the character U+0007"),
        (front("? [a]\n: b"), 3, "a key of its front matter is not a name"),
        (front("name: a\nname: b"), 4, "name is set twice, first in line 3"),
        (front("fleet.order: 1\nfleet:\n  order: 2"), 5, "fleet.order is set twice, first in line 3"),
        (front("config:\n  top_p: 1\n  top_p: 0"), 5, "config.top_p is set twice, first in line 4"),
        (front("config:\n  top_p: 1\n  topP: 0"), 5, "config.topP is set twice, first in line 4"),
        (front("name: " + "[" * 2000), 2, "its front matter is not YAML"),
        (front("modle: a"), 3, "modle is not supported"),
        (front("config:\n  topK: 3"), 4, "config.topK is not supported"),
        (front("config:\n  seed: -1"), 4, "config.seed is -1"),
        (front("config:\n  stopSequences: [a, 3]"), 4, "config.stopSequences is ['a', 3]"),
        (front("config:\n  thinkingBudget: lots"), 4, "config.thinkingBudget is 'lots'"),
        (front("config:\n  reasoning_effort: [low]"), 4, "config.reasoningEffort is ['low']"),
        (front("config:\n  providerOptions: [a]"), 4, "config.providerOptions is ['a']"),
        (front("config:\n  providerOptions: {at: 2026-01-01}"), 4, "config.providerOptions is {'at': datetime"),
        (front("config:\n  providerOptions: {a: .nan}"), 4, "config.providerOptions is {'a': nan}"),
        (
            front("config:\n  stop: a\n  stopSequences: [b]"),
            5,
            "config.stopSequences is set twice, first in line 4",
        ),
        (front("config: fast"), 3, "config is not supported"),
        (front("fleet.input: a"), 3, "fleet.input is not supported"),
        (front("tools: [search]"), 3, "tools is not supported"),
        (front("input:\n  default:\n    topic: a"), 4, "input.default is not supported"),
        (front("output:\n  format: xml"), 4, "output.format is 'xml'"),
        (front("output:\n  format: json"), 4, "output.format is json without output.schema"),
        (front("output:\n  schema:\n    a: string\n  format: text"), 6, "output.format is text, and there is"),
        (front("output:\n  form: json"), 4, "output.form is not supported"),
        (front("output:\n  schema: Article"), 4, "output.schema: it is 'Article', which describes no object"),
        (front("output:\n  schema:\n    a: string\n    b: strin"), 6, "output.schema: 'strin' is not a type"),
        (front("output:\n  schema:\n    a(array):\n      b: 3"), 6, "output.schema: it is 3"),
        (front("output:\n  schema:\n    a: string\n    a: number"), 6, "a is set twice, first in line 5"),
        (
            front("output:\n  schema:\n    type: object\n    properties:\n      a:\n        type: strin"),
            8,
            "output.schema: 'strin' is not valid under any of the given schemas",
        ),
        (front("output:\n  schema:\n    type: array"), 4, 'output.schema: its "type" is not "object"'),
        (
            front("output:\n  schema:\n    type: object\n    $ref: 'https://example.com/a'"),
            4,
            "output.schema: it refers to https://example.com/a",
        ),
        ("---\nname: a\n---\nWrite.", 2, "model is missing"),
        ("---\nname: a\nmodel:\n---\nWrite.", 3, "model is missing"),
        ("---\nmodel: gpt-4o\n---\nWrite.", 2, "model is 'gpt-4o'"),
        ("---\nmodel: 3\n---\nWrite.", 2, "model is 3"),
        (front("config:\n  temperature: hot"), 4, "config.temperature is 'hot'"),
        (front("config:\n  temperature: 3"), 4, "config.temperature is 3"),
        (front("config:\n  topP: true"), 4, "config.topP is True"),
        (front("config:\n  maxOutputTokens: 0"), 4, "config.maxOutputTokens is 0"),
        (front("config:\n  max_tokens: 1.5"), 4, "config.maxOutputTokens is 1.5"),
        (front("name: 3"), 3, "name is 3"),
        (front('name: "\\ud800"'), 3, "name is '\\ud800'"),
        (front("fleet.order: first"), 3, "fleet.order is 'first'"),
        (front("fleet.inputs: [topic, topic]"), 3, "fleet.inputs is ['topic', 'topic']"),
        (front("fleet.inputs: {a: b}"), 3, "fleet.inputs is {'a': 'b'}"),
        (front("fleet.inputs: 3"), 3, "fleet.inputs is 3"),
        (front("fleet.fallback: [gpt-4o]"), 3, "fleet.fallback is ['gpt-4o']"),
        (front("fleet.csv: all"), 3, "fleet.csv: is not an object"),
        (front("fleet.csv:\n  columns: [a]\n  rows: 5"), 5, "fleet.csv: rows is 5"),
        (front("fleet.csv:\n  rows:\n    top: 5"), 5, "fleet.csv: rows has top without by"),
        (front("fleet:\n  csv:\n    rows:\n      first: 0"), 6, "fleet.csv: rows.first is 0"),
        (front("fleet.csv: {cols: [a]}"), 3, "fleet.csv: has 'cols'"),
        (front("fleet.csv.columns: [a]"), 3, "fleet.csv.columns is not supported"),
        (front("fleet.on_ambiguous: maybe"), 3, "fleet.on_ambiguous is 'maybe'"),
        (front("fleet.active: 1"), 3, "fleet.active is 1"),
        (front("fleet.key: topic"), 3, "key 'topic' is the name of a pipeline input"),
        (front("fleet.key: a b"), 3, "key 'a b' cannot be used in a template"),
        (front("name: a", ""), 5, "it has no system prompt"),
        (front("name: a", 'Write.\n{{role "user"}}'), 5, 'there is nothing below {{role "user"}}'),
        (front("name: a", "Write.\n{{#each x}}"), 6, "{{#each x}} is not supported"),
    ],
)
def test_a_mistake_has_one_line_with_its_place_and_a_remedy(text: str, line: int, says: str) -> None:
    found, problems = parse_prompt(text, "my/10-brief.prompt")
    assert found is None
    (problem,) = problems
    assert (problem.file, problem.line) == ("my/10-brief.prompt", line) and problem.says.startswith(says)
    assert str(problem).startswith(f"my/10-brief.prompt:{line}: {says}") and ". Remedy: " in str(problem)
    assert "\n" not in str(problem)


def test_all_mistakes_of_a_file_are_told_at_once() -> None:
    _, problems = parse_prompt(
        "---\nmodel: gpt\nconfig:\n  temperature: 9\nfleet.active: no way\n---\n", "a/b.prompt"
    )
    assert [problem.line for problem in problems] == [2, 7, 1, 5, 4]


def test_a_name_without_a_number_needs_an_order() -> None:
    assert parsed(front("fleet.order: 2"), "my/brief.prompt").row["order"] == 2
    _, problems = parse_prompt(SOUND, "my/brief.prompt")
    assert [problem.says for problem in problems] == ["it has no place in the order"]


@pytest.mark.parametrize(
    ("raw", "line", "says"),
    [
        (b"---\nmodel: a/b\n---\ncaf\xe9\n", 4, "it is not UTF-8 text"),
        (b"x" * 1_000_001, 0, "it has 1,000,001 bytes, at most 1,000,000 are allowed"),
    ],
)
def test_a_file_that_is_no_text_is_told(tmp_path: Path, raw: bytes, line: int, says: str) -> None:
    path = tmp_path / "10-brief.prompt"
    path.write_bytes(raw)
    assert [(p.line, p.says) for p in read_prompt_file(path, "f")[1]] == [(line, says)]


def test_a_file_that_cannot_be_read_is_told(tmp_path: Path) -> None:
    (tmp_path / "10-brief.prompt").symlink_to(tmp_path / "nothing")
    _, problems = read_prompt_file(tmp_path / "10-brief.prompt", "f")
    assert problems == [Problem("f", 0, "it cannot be read (No such file or directory)", "correct its rights")]
