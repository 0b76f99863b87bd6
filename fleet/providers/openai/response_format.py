"""A JSON Schema in the forms of OpenAI's two APIs. Source: OpenAI "Structured model outputs"."""

from collections.abc import Mapping
from typing import Any

_NAME = "output"
#: What strict mode does not take. Source: "Supported schemas".
_NOT_STRICT = (
    "allOf",
    "oneOf",
    "not",
    "if",
    "then",
    "else",
    "dependentRequired",
    "dependentSchemas",
    "patternProperties",
    "additionalItems",
    "prefixItems",
    "contains",
    "uniqueItems",
    "propertyNames",
    "unevaluatedProperties",
)


def responses_format(schema: Mapping[str, Any]) -> dict[str, Any]:
    """The field ``text`` of the Responses API."""
    return {"format": {"type": "json_schema"} | _named(schema)}


def chat_format(schema: Mapping[str, Any]) -> dict[str, Any]:
    """The field ``response_format`` of chat completions."""
    return {"type": "json_schema", "json_schema": _named(schema)}


def _named(schema: Mapping[str, Any]) -> dict[str, Any]:
    """In strict mode the model cannot leave the schema, but not every schema is taken; otherwise it is told."""
    return {"name": _NAME, "schema": schema, "strict": is_strict(schema)}


def is_strict(schema: Any) -> bool:
    """Whether strict mode takes the schema: each of its objects forbids other properties and requires its own."""
    if isinstance(schema, list):
        return all(map(is_strict, schema))
    if not isinstance(schema, Mapping):
        return True
    if any(name in schema for name in _NOT_STRICT):
        return False
    properties = schema.get("properties")
    if schema.get("type") == "object" or "properties" in schema:
        properties = properties if isinstance(properties, Mapping) else {}
        if schema.get("additionalProperties") is not False or set(schema.get("required", [])) != set(properties):
            return False
    within = [schema.get("properties", {}), schema.get("$defs", {}), schema.get("definitions", {})]
    nested = [part for group in within if isinstance(group, Mapping) for part in group.values()]
    return all(map(is_strict, [*nested, schema.get("items"), schema.get("anyOf")]))
