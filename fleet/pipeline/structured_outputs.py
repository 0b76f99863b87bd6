"""Outputs that programs can read: JSON that matches an assistant's ``output_schema``. Pure.

A schema is JSON Schema for an object. Every provider is asked for it in its own way, and the answer is checked
here all the same, since not every model keeps to it.
"""

import json
import re
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from fleet.redaction import excerpt

if TYPE_CHECKING:
    from jsonschema.protocols import Validator

_FENCED = re.compile(r"```(?:json)?[ \t]*\n(.*?)\n?```", re.DOTALL | re.IGNORECASE)
_PROBLEM_CHARACTERS = 300


def json_in(text: str) -> Any:
    """The JSON value that a text is; a Markdown fence around it is ignored.

    Raises:
        ValueError: the text is something else.
    """
    fenced = _FENCED.fullmatch(text.strip())
    try:
        return json.loads(fenced[1] if fenced else text, parse_constant=_refuse_constant)
    except RecursionError:
        raise ValueError("it is nested too deeply") from None


def output_json(text: str, schema: Mapping[str, Any] | None) -> Any:
    """The JSON value of an output; None where it has no schema, or was cut to what Temporal carries."""
    if schema is None:
        return None
    try:
        return json_in(text)
    except ValueError:
        return None


def _refuse_constant(name: str) -> Any:
    raise ValueError(f"{name} is not JSON")


def schema_problem(schema: Any) -> str | None:
    """Why this cannot be an ``output_schema``; None if it can."""
    if not isinstance(schema, dict):
        return "it is not a JSON object"
    if fault := schema_fault(schema):
        path, why = fault
        place = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in path)
        return f"it is not a JSON Schema: at ${place}: {why}"
    if schema.get("type") != "object":
        return 'its "type" is not "object"'
    if foreign := next((ref for ref in _references(schema) if not ref.startswith("#")), None):
        return f"it refers to {excerpt(foreign, 80)}, which is not within it"
    return None


def schema_fault(schema: dict[str, Any]) -> tuple[list[str | int], str] | None:
    """The path to what makes this no JSON Schema, and why; None if it is one."""
    from jsonschema import SchemaError
    from jsonschema.validators import validator_for

    if not isinstance(schema.get("$schema", ""), str):
        return ["$schema"], "it is not a text"
    try:
        validator_for(schema, default=_latest()).check_schema(schema)
    except SchemaError as error:
        return list(error.absolute_path), _short(error.message)
    except RecursionError:
        return [], "it is nested too deeply"
    return None


def answer_problem(text: str, schema: Mapping[str, Any]) -> str | None:
    """Where and why an answer does not match its schema; None if it does.

    The place is a JSON path: ``$`` is the whole answer, ``$.keywords[2]`` the third of its keywords.
    """
    from jsonschema.exceptions import best_match
    from referencing.exceptions import Unresolvable

    try:
        value = json_in(text)
    except ValueError as error:
        return f"$: it is not JSON: {_short(str(error))}"
    try:
        found = best_match(_validator(schema).iter_errors(value))
    except RecursionError:
        return "$: it cannot be checked: output_schema refers to itself without end, or is nested too deeply"
    except Unresolvable as unresolved:
        missing = excerpt(unresolved.ref, 80)
        return f"$: it cannot be checked: output_schema refers to {missing}, which is not within it"
    return None if found is None else f"{found.json_path}: {_short(found.message)}"


def _latest() -> "type[Validator]":
    from jsonschema import Draft202012Validator

    return Draft202012Validator


def _validator(schema: Mapping[str, Any]) -> "Validator":
    """A validator that fetches nothing from elsewhere."""
    from jsonschema.validators import validator_for
    from referencing import Registry

    kind = validator_for(schema, default=_latest())
    return kind(schema, registry=Registry())


def _short(message: str) -> str:
    return excerpt(" ".join(message.split()), _PROBLEM_CHARACTERS)


def _references(schema: Any) -> list[str]:
    if isinstance(schema, Mapping):
        own = [schema["$ref"]] if isinstance(schema.get("$ref"), str) else []
        return own + [ref for value in schema.values() for ref in _references(value)]
    if isinstance(schema, list):
        return [ref for value in schema for ref in _references(value)]
    return []


def declared_fields(schema: Mapping[str, Any], path: Sequence[str]) -> list[str] | None:
    """The properties that the schema declares at this path, an object's; None if the path leads nowhere."""
    place: Any = schema
    for name in path:
        properties = _resolved(place, schema).get("properties")
        if not isinstance(properties, Mapping) or name not in properties:
            return None
        place = properties[name]
    properties = _resolved(place, schema).get("properties")
    return sorted(properties) if isinstance(properties, Mapping) else []


def _resolved(place: Any, schema: Mapping[str, Any]) -> Mapping[str, Any]:
    """The schema at a place, behind its references within the whole schema."""
    for _ in range(10):
        reference = place.get("$ref") if isinstance(place, Mapping) else None
        if not isinstance(reference, str):
            break
        place = schema
        for part in reference.removeprefix("#").strip("/").split("/"):
            if part:
                place = place.get(part, {}) if isinstance(place, Mapping) else {}
    return place if isinstance(place, Mapping) else {}


def field_text(output: str, path: Sequence[str]) -> str:
    """One field of an output, as an input of another assistant: text as it is, anything else as JSON; ``null`` for
    a field that the output leaves out."""
    value: Any = None
    try:
        value = json_in(output)
    except ValueError:
        return ""
    for name in path:
        value = value.get(name) if isinstance(value, Mapping) else None
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
