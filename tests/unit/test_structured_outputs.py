"""Outputs that match a JSON Schema: what is a schema, which answers match, which fields can be read."""

import json
from dataclasses import replace
from typing import Any

import pytest

from fleet.contracts import LATER_FIELDS, Assignment, AssistantResult
from fleet.devstack.simulator.answer_json import matching_value
from fleet.errors import InputError
from fleet.execution.requests import identity_of
from fleet.pipeline.inputs import PipelineInputs
from fleet.pipeline.stages import Stages
from fleet.pipeline.structured_outputs import answer_problem, field_text, json_in, schema_problem
from fleet.pipeline.workflow import AssistantPipelineWorkflow
from fleet.providers.base import LlmRequest
from fleet.providers.openai.response_format import is_strict
from tests.unit.test_assistants import parse, row

SCHEMA: dict[str, Any] = {
    "type": "object",
    "properties": {
        "title": {"type": "string", "maxLength": 60},
        "keywords": {"type": "array", "items": {"type": "string"}, "minItems": 1},
        "audience": {"$ref": "#/$defs/audience"},
    },
    "required": ["title", "keywords"],
    "$defs": {"audience": {"type": "object", "properties": {"age": {"type": "integer"}}}},
}
GOOD = '{"title": "Kávovary", "keywords": ["kávovar", "káva"], "audience": {"age": 30}}'


@pytest.mark.parametrize("text", [GOOD, f"```json\n{GOOD}\n```", f"\n```\n{GOOD}\n```\n"])
def test_an_answer_that_matches_has_no_problem_also_in_a_fence(text: str) -> None:
    assert answer_problem(text, SCHEMA) is None
    assert json_in(text)["keywords"] == ["kávovar", "káva"]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("Here is your JSON: {}", "$: it is not JSON: "),
        ('{"title": "a", "keywords": [', "$: it is not JSON: "),
        ('{"title": NaN, "keywords": ["a"]}', "NaN is not JSON"),
        ("[" * 100_000, "$: it is not JSON: "),
        ('{"title": "a"}', "$: 'keywords' is a required property"),
        ('{"title": "a", "keywords": ["b", 3]}', "$.keywords[1]: 3 is not of type 'string'"),
        ('{"title": "a", "keywords": ["b"], "audience": {"age": "old"}}', "$.audience.age: 'old'"),
        (f'{{"title": "{"x" * 9000}", "keywords": ["b"]}}', "$.title: "),
    ],
)
def test_an_answer_that_does_not_match_is_told_with_its_place(text: str, said: str) -> None:
    problem = answer_problem(text, SCHEMA)
    assert problem is not None and said in problem and len(problem) < 400


@pytest.mark.parametrize(
    ("schema", "said"),
    [
        ("text", "it is not a JSON object"),
        ({"type": "array", "items": {}}, 'its "type" is not "object"'),
        ({"type": "object", "properties": {"a": {"type": "strnig"}}}, "at $.properties.a.type"),
        ({"type": "object", "properties": {"a": {"$ref": "https://example.com/a"}}}, "https://example.com/a"),
    ],
)
def test_what_is_no_schema_for_an_output_is_refused_before_anything_is_sent(schema: Any, said: str) -> None:
    assert said in (schema_problem(schema) or "")
    with pytest.raises(Exception, match=r"assistant .*: output_schema cannot be used: .*Remedy: write it as"):
        parse(row("brief", output_schema=schema))


def test_a_reference_within_the_schema_that_leads_nowhere_is_a_problem_of_the_answer() -> None:
    schema = {"type": "object", "properties": {"a": {"$ref": "#/$defs/none"}}}
    assert "$: it cannot be checked: output_schema refers to" in (answer_problem('{"a": 1}', schema) or "")


@pytest.mark.parametrize(
    ("key", "said"),
    [
        ("brief.titel", "has no property 'titel' there. Remedy: read one of brief.audience, brief.keywords"),
        ("brief.audience.name", "has no property 'name' there. Remedy: read one of brief.audience.age"),
        ("brief.title.length", "has no property 'length' there"),
        ("plain.title", "which has no output_schema. Remedy"),
        ("nobody.title", "does not exist"),
    ],
)
def test_a_field_that_no_schema_declares_is_refused(key: str, said: str) -> None:
    rows = [row("brief", 1, output_schema=SCHEMA), row("plain", 2)]
    with pytest.raises(Exception, match=r"assistant last: ") as refused:
        parse(*rows, row("last", 3, input_keys=[key]))
    assert said in str(refused.value)


def result(key: str, output: str) -> AssistantResult:
    return AssistantResult(key, output, "openai", "gpt-4o", "stop", 1, 0, 1, 0.0, None, 1, 1.0, "", "")


def assignment_of_last(*keys: str) -> Assignment:
    rows = [
        row("brief", 1, output_schema=SCHEMA),
        row("brief.title", 2),  # a functionKey may look like a field, and then is one no more
        row("last", 3, input_keys=list(keys)),
    ]
    stages = Stages(parse(*rows), PipelineInputs("topic", "p", "", ""))
    assert not stages.ready("last")
    stages.finish(result("brief", GOOD), 1.0)
    stages.finish(result("brief.title", "of its own"), 1.0)
    assert stages.ready("last")
    return stages.assignment("last")


def test_an_assistant_reads_single_fields_of_an_output_as_text_or_json() -> None:
    outputs = assignment_of_last("brief.keywords", "brief.title", "brief.audience.age", "brief").outputs
    assert [(output.key, output.text) for output in outputs] == [
        ("brief.keywords", '["kávovar", "káva"]'),
        ("brief.title", "of its own"),
        ("brief.audience.age", "30"),
        ("brief", GOOD),
    ]


def test_a_field_that_is_left_out_is_null_and_text_is_read_as_it_is() -> None:
    assert field_text('{"title": "a", "keywords": []}', ["audience", "age"]) == "null"
    assert field_text(GOOD, ["title"]) == "Kávovary"


def test_a_result_has_the_output_as_json_where_there_is_a_schema() -> None:
    found = parse(row("brief", 1, output_schema=SCHEMA), row("next", 2))
    stages = Stages(found, PipelineInputs("t", "p", "", ""))
    assert [record.output_json for record in stages.records()] == [None, None]
    stages.finish(result("brief", GOOD), 1.0)
    assert stages.records()[0].output_json["audience"] == {"age": 30}


STRICT = {
    "type": "object",
    "properties": {"a": {"type": "string"}},
    "required": ["a"],
    "additionalProperties": False,
}


@pytest.mark.parametrize(
    ("schema", "strict"),
    [
        (STRICT, True),
        (STRICT | {"required": []}, False),
        ({**STRICT, "additionalProperties": True}, False),
        (STRICT | {"properties": {"a": SCHEMA}}, False),
        (STRICT | {"properties": {"a": {"type": "array", "items": STRICT}}}, True),
        (STRICT | {"properties": {"a": {"anyOf": [STRICT, {"type": "null"}]}}}, True),
        (STRICT | {"allOf": [STRICT]}, False),
    ],
)
def test_openais_strict_mode_is_asked_for_where_it_takes_the_schema(schema: dict[str, Any], strict: bool) -> None:
    assert is_strict(schema) is strict


MORE = [
    SCHEMA,
    STRICT,
    {
        "type": "object",
        "properties": {
            "kind": {"enum": ["b", "c"]},
            "score": {"type": "number", "minimum": 0.2, "maximum": 1},
            "year": {"type": "integer", "exclusiveMinimum": 2000, "maximum": 2030},
            "day": {"type": "string", "format": "date"},
            "next": {"anyOf": [{"$ref": "#"}, {"type": "null"}]},
            "tags": {"type": "array", "items": {"type": "string"}, "uniqueItems": True, "minItems": 2},
            "both": {"allOf": [{"type": "object", "properties": {"x": {"const": 1}}, "required": ["x"]}]},
            "maybe": {"type": ["string", "null"], "minLength": 200},
        },
        "required": ["kind", "score", "year", "day", "next", "tags", "both", "maybe"],
        "additionalProperties": False,
    },
]


@pytest.mark.parametrize("schema", MORE, ids=["nested", "strict", "many"])
def test_the_simulator_writes_what_matches(schema: dict[str, Any]) -> None:
    assert answer_problem(json.dumps(matching_value(schema, "[SIMULATOR]")), schema) is None


def test_a_worker_that_does_not_know_schemas_gets_no_inputs() -> None:
    pipeline = AssistantPipelineWorkflow()
    rows = (row("brief", 1, output_schema=SCHEMA), row("plain", 2))
    pipeline._stages = Stages(parse(*rows), PipelineInputs("t", "p", "", ""))
    with pytest.raises(InputError, match="does not know output_schema"):
        pipeline.assignment("brief")
    assert pipeline.assignment("brief", list(LATER_FIELDS)).assistant.output_schema == SCHEMA
    assert pipeline.assignment("plain").assistant.needs == []


def test_calls_without_a_schema_keep_the_identity_that_earlier_releases_gave_them() -> None:
    request = LlmRequest("gpt-4o", "Write.", "Topic", 0.7, None, 100, "key")
    assert identity_of(request) == (
        '{"model": "gpt-4o", "system_prompt": "Write.", "user_message": "Topic", "temperature": 0.7, "top_p": '
        'null, "max_tokens": 100}'
    )
    assert "output_schema" in identity_of(replace(request, output_schema=SCHEMA))


def _nested(depth: int) -> dict[str, Any]:
    schema: dict[str, Any] = {}
    for _ in range(depth):
        schema = {"properties": {"a": schema}}
    return schema


@pytest.mark.parametrize("schema", [{"$schema": []}, {"$schema": 5}, _nested(300)], ids=["list", "number", "deep"])
def test_a_schema_that_the_library_cannot_look_at_is_refused(schema: dict[str, Any]) -> None:
    assert "it is not a JSON Schema: at $" in (schema_problem({"type": "object"} | schema) or "")


def test_a_schema_that_refers_to_itself_without_end_is_told_as_the_reason() -> None:
    assert "refers to itself without end" in (answer_problem("{}", {"type": "object", "$ref": "#"}) or "")
