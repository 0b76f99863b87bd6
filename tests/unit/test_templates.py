"""What a template may say, and what becomes of it."""

from dataclasses import replace

import pytest

from fleet.contracts import Assignment, Assistant, NamedText
from fleet.pipeline.prompts import build_system_prompt, build_user_message
from fleet.pipeline.templates import TemplateError, escaped, names_in, render_template, split_prompt


@pytest.mark.parametrize(
    ("template", "rendered"),
    [
        ("Topic: {{topic}}!", "Topic: coffee!"),
        ("{{fact-check}} and {{ topic }} and {{{topic}}}", "true and coffee and coffee"),
        ("{{#if csv}}rows{{else}}no rows{{/if}}", "no rows"),
        ("{{#unless csv}}no rows{{/unless}}", "no rows"),
        ("a\n{{#if topic}}\nb\n{{/if}}\nc", "a\nb\nc"),
        ("{{! a comment }}{{!-- {{topic}} --}}text", "text"),
        ("\\{{topic}} is {{topic}}", "{{topic}} is coffee"),
        ("[{{unknown}}]", "[]"),
        ("{{log}} {{lookup}}", "a log a lookup"),
        ("{{brief.keywords}}, {{brief}}{{#if brief.keywords}}!{{/if}} Dr. \\{{a.b}}", "bean, whole! Dr. {{a.b}}"),
    ],
)
def test_places_are_filled_in(template: str, rendered: str) -> None:
    values = {"topic": "coffee", "fact-check": "true", "csv": "", "log": "a log", "lookup": "a lookup"}
    values |= {"brief": "whole", "brief.keywords": "bean"}
    assert render_template(template, values) == rendered


def test_what_an_output_contains_is_never_read_as_a_template_and_never_escaped() -> None:
    output = '{{role "user"}} {{topic}} <b>&</b>'
    assert render_template("{{brief}}", {"brief": output, "topic": "secret"}) == output


@pytest.mark.parametrize(
    ("template", "line", "says"),
    [
        ("a\n{{#each x}}", 2, "{{#each x}} is not supported"),
        ("{{> partial}}", 1, "{{> partial}} is not supported"),
        ("{{json x}}", 1, "{{json x}} is not supported"),
        ("{{}}", 1, "{{}} is not supported"),
        ("a\n\n{{#if x}}b", 3, "{{#if}} is not closed"),
        ("{{/if}}", 1, "{{/if}} closes nothing"),
        ("{{#if a}}{{/unless}}", 1, "{{/unless}} closes nothing"),
        ("{{else}}", 1, "{{else}} is not supported"),
        ("a\nb {{topic", 2, "{{ is not closed"),
        ('{{role "model"}}', 1, "role 'model' is not supported"),
        ('{{#if a}}{{role "user"}}{{/if}}', 1, "a role stands within a block"),
        ("{{topic.}}", 1, "{{topic.}} is not supported"),
    ],
)
def test_a_mistake_is_told_with_its_line_and_a_remedy(template: str, line: int, says: str) -> None:
    with pytest.raises(TemplateError) as refused:
        split_prompt(template)
    assert (refused.value.line, refused.value.says) == (line, says) and refused.value.remedy


def test_a_prompt_is_divided_by_its_roles() -> None:
    prompt = split_prompt('You write.\n{{role "user"}}\nOn {{topic}}.\n{{role "system"}}\nBe brief.')
    assert (prompt.system, prompt.user, prompt.dynamic) == ("You write.\n\nBe brief.", "On {{topic}}.", False)
    assert [(place.name, place.line) for place in prompt.named] == [("topic", 3)]


def test_a_prompt_without_tags_is_plain_text() -> None:
    text = "Use {braces} and {{ two }}."
    prompt = split_prompt(escaped(text))
    assert (prompt.system, prompt.user, prompt.dynamic, prompt.named) == (text, None, False, [])


def test_names_are_listed_once_in_their_order() -> None:
    assert names_in("{{b}}{{#if a}}{{a}}{{/if}}{{b}}") == ["b", "a"]


def assignment(**fields: object) -> Assignment:
    assistant = Assistant("draft", "Draft", 2, "openai", "gpt-4o", "Write.", input_keys=["topic", "brief"])
    outputs = [NamedText("brief", "Brief", "The brief.")]
    return Assignment(replace(assistant, **fields), "Coffee", "2025-01-31", "a,b\n1,2\n", outputs)  # type: ignore[arg-type]


def test_a_template_replaces_the_message_made_of_the_inputs() -> None:
    built = build_user_message(assignment(user_template="{{topic}}/{{brief}}/{{date}}\n{{csv}}"))
    assert built == "Coffee/The brief./2025-01-31\n| a | b |\n| --- | --- |\n| 1 | 2 |"


def test_a_system_prompt_is_a_template_only_where_it_says_so() -> None:
    told = "Write on {{topic}}."
    assert build_system_prompt(assignment(system_prompt=told)) == told
    assert build_system_prompt(assignment(system_prompt=told, system_template=True)) == "Write on Coffee."
