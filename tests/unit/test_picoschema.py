"""Picoschema becomes the JSON Schema that Dotprompt's own library makes of it; anything else is refused."""

from typing import Any

import pytest

from fleet.pipeline.structured_outputs import schema_problem
from fleet.projects.picoschema import PicoschemaError, json_schema_of


def closed(properties: dict[str, Any], *required: str) -> dict[str, Any]:
    schema = {"type": "object", "properties": properties, "additionalProperties": False}
    return schema | ({"required": list(required)} if required else {})


@pytest.mark.parametrize(
    ("written", "schema"),
    [
        ({"title": "string"}, closed({"title": {"type": "string"}}, "title")),
        (
            {"n": "integer, how many, at most", "x": "any", "y": "any, anything"},
            closed(
                {
                    "n": {"type": "integer", "description": "how many, at most"},
                    "x": {},
                    "y": {"description": "anything"},
                },
                "n",
                "x",
                "y",
            ),
        ),
        ({"note?": "string"}, closed({"note": {"type": ["string", "null"]}})),
        (
            {"tags(array, the words (plain))": "string, a word"},
            closed(
                {
                    "tags": {
                        "type": "array",
                        "items": {"type": "string", "description": "a word"},
                        "description": "the words (plain)",
                    }
                },
                "tags",
            ),
        ),
        (
            {"state?(enum, of the text)": ["DRAFT", "DONE"]},
            closed({"state": {"enum": ["DRAFT", "DONE", None], "description": "of the text"}}),
        ),
        (
            {"links?(array)": {"url": "string", "(*)": "number"}},
            closed(
                {
                    "links": {
                        "type": ["array", "null"],
                        "items": {
                            "type": "object",
                            "properties": {"url": {"type": "string"}},
                            "additionalProperties": {"type": "number"},
                            "required": ["url"],
                        },
                    }
                }
            ),
        ),
        (
            {"who(object, the reader)": {"age": "number"}, "what": {"x": None}},
            closed(
                {
                    "who": closed({"age": {"type": "number"}}, "age") | {"description": "the reader"},
                    "what": closed({"x": {"type": "null"}}, "x"),
                },
                "who",
                "what",
            ),
        ),
        ({"properties": {"a": {"type": "string"}}}, {"type": "object", "properties": {"a": {"type": "string"}}}),
        ({"type": "object", "required": ["a"]}, {"type": "object", "required": ["a"]}),
    ],
)
def test_it_becomes_json_schema(written: dict[str, Any], schema: dict[str, Any]) -> None:
    assert json_schema_of(written) == schema and schema_problem(schema) is None


@pytest.mark.parametrize(
    ("written", "path", "says"),
    [
        ("string", (), "it is 'string', which describes no object"),
        ({}, (), "it is {}, which describes no object"),
        ({"a": "text"}, ("a",), "'text' is not a type"),
        ({"a": {"b": 3}}, ("a", "b"), "it is 3"),
        ({"a(list)": "string"}, ("a(list)",), "'list' in parentheses is not known"),
        ({"a(enum)": "x"}, ("a(enum)",), "it is 'x'"),
        ({"a(enum)": []}, ("a(enum)",), "it is []"),
        ({"a(object)": "string"}, ("a(object)",), "it is 'string'"),
        ({"a(array": "string"}, ("a(array",), "'a(array' is not a property"),
        ({"a": "string", "a?": "string"}, ("a?",), "a is described twice"),
        ({"tags": ["string"]}, ("tags",), "it is ['string']"),
    ],
)
def test_what_is_no_schema_is_told_with_its_place(written: Any, path: tuple[str, ...], says: str) -> None:
    with pytest.raises(PicoschemaError) as refused:
        json_schema_of(written)
    assert refused.value.path == path and refused.value.says.startswith(says) and refused.value.remedy
