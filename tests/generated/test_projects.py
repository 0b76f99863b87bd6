"""What a backend holds for a project, and what its files say, makes a pipeline or is refused by one line."""

import json
from typing import Any

from hypothesis import strategies as st
from temporalio.api.common.v1 import Payload

from fleet.budgets.worker.call_costs import Costs
from fleet.config import load_settings
from fleet.contracts import AssistantResult
from fleet.errors import FleetError
from fleet.execution.load_assistants import LoadedProject
from fleet.pipeline.assistants import parse_assistants
from fleet.pipeline.fingerprint import fingerprint_of
from fleet.pipeline.inputs import PipelineInputs
from fleet.pipeline.prompts import build_system_prompt, build_user_message
from fleet.pipeline.stages import Stages
from fleet.pipeline.templates import TemplateError, names_in, render_template
from fleet.process.data_converter import data_converter
from fleet.projects.problems import Problem
from fleet.projects.prompt_file import parse_prompt
from fleet.providers.base import LlmRequest
from tests.generated.inputs import TEXTS, changed, check_each

SETTINGS = load_settings(api_base_url="http://localhost:1")
CONVERTER = data_converter().payload_converter
INPUTS = PipelineInputs("Coffee", "demo", "a,b\n1,2\n", "2026-01-31")
SCHEMA = {"type": "object", "properties": {"keywords": {"type": "array"}}, "required": ["keywords"]}
GOOD: list[dict[str, Any]] = [
    {
        "id": "1",
        "functionKey": "brief",
        "name": "Brief",
        "order": 1,
        "active": True,
        "model_provider": "openai",
        "model": "gpt-4o",
        "system_prompt": "Write.",
        "temperature": 0.5,
        "top_p": None,
        "max_tokens": 500,
        "provider_options": {"user": "x"},
        "input_keys": ["topic", "csv"],
        "output_schema": SCHEMA,
    },
    {
        "id": "2",
        "functionKey": "draft",
        "name": "Draft",
        "order": 2,
        "model_provider": "claude",
        "model": "claude-sonnet-4-6",
        "system_prompt": "Write about {{topic}}.",
        "system_template": True,
        "user_template": "{{#if date}}{{date}}{{/if}} {{brief.keywords}} {{topic}}",
        "input_keys": ["topic", "date", "brief.keywords", "brief"],
        "fallback": [{"model_provider": "gemini", "model": "gemini-2.5-flash"}],
        "on_ambiguous": "fail",
        "stop": ["END"],
    },
]
#: Values that are nearly right in a field.
NEARLY: tuple[Any, ...] = (
    "draft",
    "brief",
    "Brief\nfleet: all is well",
    "{{#each",
    "{{{topic}}}",
    10**12,
    1e-300,
    [[]],
)


def see_pipeline(assistants: Any) -> None:
    """What happens to a project that is not refused: it crosses Temporal, and calls are built and paid for."""
    queues = {name: section.queue for name, section in SETTINGS.providers.items()}
    payload: Payload = CONVERTER.to_payload(LoadedProject(assistants, ""))
    read: LoadedProject = CONVERTER.from_payload(payload, LoadedProject)
    assert read.assistants == assistants
    stages = Stages(read.assistants, INPUTS)
    for assistant in read.assistants:
        key = assistant.function_key
        assert assistant.provider in queues and len(key.splitlines()) == 1
        assignment = stages.assignment(key)
        request = LlmRequest(
            assistant.model,
            build_system_prompt(assignment),
            build_user_message(assignment),
            assistant.temperature,
            assistant.top_p,
            assistant.max_tokens,
            "fleet-1",
        )
        costs = Costs(SETTINGS.provider(assistant.provider).kind).estimate(request)
        assert all(0 <= cost < float("inf") for cost in costs.values())
        request.user_message.encode()
        request.system_prompt.encode()
        output = '{"keywords": ["a"]}' if assistant.output_schema else "Hello."
        result = AssistantResult(key, output, "openai", "m", "stop", 1, 0, 1, None, None, 1, 1.0, "", "")
        stages.finish(result, 1.0)
    assert stages.all_done()


def parse(payload: Any) -> Any:
    return parse_assistants(
        payload,
        "demo",
        default_temperature=0.7,
        default_max_tokens=None,
        provider_name=lambda name: SETTINGS.provider(name).name,
    )


def check_rows(payload: Any) -> bool:
    """Whether the rows make a pipeline."""
    payload = json.loads(json.dumps(payload))  # as it is when it has come over HTTP
    if not isinstance(payload, list):
        return False  # the backend's client refuses it
    try:
        assistants = parse(payload)
    except FleetError as error:
        assert len(error.message.splitlines()) == 1 and "Remedy: " in error.message
        return False
    assert len(fingerprint_of(payload)) == 12
    see_pipeline(assistants)
    return True


def test_any_rows_of_a_backend_make_a_pipeline_or_are_refused_by_one_line() -> None:
    broken = [GOOD[0] | {field: "a\nb"} for field in GOOD[0]]
    known = [[row] for row in broken] + [[row, row | {"functionKey": "c"}] for row in broken]
    check_each("assistants", changed(GOOD, *NEARLY), check_rows, known, min_share=0.05)


PROMPT = """---
model: openai/gpt-4o
name: Brief
config:
  temperature: 0.5
  maxOutputTokens: 400
  stopSequences: [END]
  seed: 5
  providerOptions: {user: x}
fleet:
  order: 1
  inputs: [topic, csv]
  fallback: [claude/claude-sonnet-4-6]
  on_ambiguous: fail
output:
  format: json
  schema:
    keywords(array, words): string
    mood?(enum, of it): [good, bad]
---
{{role "system"}}
You write about {{topic}}.
{{role "user"}}
{{#if csv}}{{csv}}{{/if}}
"""
LINES = st.sampled_from(
    [
        *PROMPT.splitlines(keepends=True),
        "model: [\n",
        "fleet.key: a\u2028b\n",
        "name: !!python/object:os.system x\n",
        "a: &a [*a, *a]\n",
        "config: {topP: .inf}\n",
        "fleet.order: 0x7fffffffffffffffffffff\n",
        "version: 2026-99-99\n",
        "{{#each topic}}\n",
        "{{> partial}}\n",
        "{{/if}}\n",
        '{{role "x"}}\n',
        "output.schema: {a: {b: {c: any}}}\n",
        "output:\n  schema: {x(array): {y: string}}\n",
        "\tx: y\n",
        "? {a: b}\n: c\n",
        "2: 3\n",
        "<<: {model: a/b}\n",
    ]
)


@st.composite
def prompt_texts(draw: st.DrawFn) -> str:
    """The good file with lines removed, repeated, replaced or put in."""
    lines = PROMPT.splitlines(keepends=True)
    for _ in range(draw(st.sampled_from([0, 1, 1, 1, 2, 4]))):
        place = draw(st.integers(0, len(lines)))
        kept = draw(st.integers(0, 2))
        lines[place : place + kept] = [draw(LINES | TEXTS)]
    return "".join(lines)


def check_prompt(text: str) -> bool:
    """Whether the file is an assistant that can be executed."""
    found, problems = parse_prompt(text, "brief.prompt")
    assert bool(found) != bool(problems)
    for problem in problems:
        assert isinstance(problem, Problem) and problem.remedy and len(str(problem).splitlines()) == 1
        assert 0 <= problem.line <= text.count("\n") + 1
    return bool(found) and check_rows([dict(found.row)])


def test_any_prompt_file_is_an_assistant_or_has_problems_with_a_line_each() -> None:
    check_each("prompt files", prompt_texts(), check_prompt, min_share=0.05)


PIECES = st.sampled_from(
    [
        *(
            "{",
            "}",
            "{{",
            "}}",
            "{{{",
            "}}}",
            "\\",
            "~",
            "!",
            "--",
            " ",
            "\n",
            "x",
            "topic",
            "a.b",
            "else",
            "@",
            "^",
        ),
        *(
            "#if csv",
            "/if",
            "#unless topic",
            "/unless",
            "lookup",
            "{{topic}}",
            "{{{csv}}}",
            "{{#if csv}}",
            "{{/if}}",
        ),
        *("{{else}}", "\\{{", "{{~topic~}}", "{{! c }}", "{{!-- c --}}", "{{~!", "--~}}", "{{!--"),
    ]
)


def check_template(text: str) -> bool:
    """What the check before a pipeline accepts, the template engine takes too. Says whether it does."""
    try:
        names_in(text)
    except TemplateError as error:
        assert len(str(error).splitlines()) == 1 and "Remedy: " in str(error)
        return False
    render_template(text, {"topic": "Coffee", "csv": "{{topic}}"}).encode()
    return True


def test_any_template_is_rendered_or_refused_before_anything_is_paid() -> None:
    known = [
        "{{{#if csv}}{{/if}}",
        "{{{topic}}",
        "\\\\{{}}",
        "{{{~topic~}}}",
        "{{{!--{{! c }}!--",
        "{{!--}}}",
        "{{~!--~}}",
    ]
    known += [
        "\\{{!--{{#if csv}}{{!-- c --}}",
        '{"a": {{topic}}}',
        "{{{topic}}}",
        "\\{{x}} {{! {x} }}",
        "{{a\n\\}}",
    ]
    check_each("templates", st.lists(PIECES, max_size=8).map("".join), check_template, known, min_share=0.05)


def test_the_good_ones_are_good() -> None:
    see_pipeline(parse(GOOD))
    found, problems = parse_prompt(PROMPT, "brief.prompt")
    assert found is not None and not problems
