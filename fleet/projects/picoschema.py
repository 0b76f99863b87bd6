"""Picoschema, the short form in which Dotprompt writes schemas, as JSON Schema.

Source: google.github.io/dotprompt/reference/picoschema, and ``picoschema.ts`` of google/dotprompt. A schema that
is JSON Schema already stays as it is. Named schemas are not supported: a prompt file refers to nothing outside it.
"""

import re
from collections.abc import Mapping
from typing import Any

from fleet.projects.front_matter import Path

SCALARS = ("string", "number", "integer", "boolean", "null", "any")
_WILDCARD = "(*)"
_PROPERTY = re.compile(r"(?P<name>[^()?]+)(?P<optional>\?)?(?:\((?P<kind>\w+)(?:,\s*(?P<says>.*))?\))?", re.DOTALL)
_KINDS = "array, object or enum"


class PicoschemaError(ValueError):
    """A schema cannot be read. ``path`` leads to the place."""

    def __init__(self, path: Path, says: str, remedy: str) -> None:
        super().__init__(says)
        self.path, self.says, self.remedy = path, says, remedy


def json_schema_of(schema: Any) -> dict[str, Any]:
    """The JSON Schema of an object, from itself or from Picoschema.

    Raises:
        PicoschemaError: it describes no object, or is not Picoschema.
    """
    if not isinstance(schema, Mapping) or not schema:
        remedy = "write the properties of an object, such as `title: string`"
        raise PicoschemaError((), f"it is {schema!r:.60}, which describes no object", remedy)
    if is_json_schema(schema):
        return {**schema, "type": schema.get("type", "object")}
    return _object(schema, ())


def is_json_schema(schema: Mapping[Any, Any]) -> bool:
    """Whether a schema is JSON Schema already, by the rule of Dotprompt: its ``type`` is one of JSON Schema's, or
    it has ``properties``. So a property that is called ``type`` needs a description, or another word."""
    return schema.get("type") in ("object", "array", *SCALARS) or isinstance(schema.get("properties"), Mapping)


def _object(properties: Mapping[Any, Any], path: Path) -> dict[str, Any]:
    schema: dict[str, Any] = {"type": "object", "properties": {}, "additionalProperties": False}
    required = []
    for key, value in properties.items():
        here = (*path, str(key))
        if key == _WILDCARD:
            schema["additionalProperties"] = _any(value, here)
            continue
        found = _PROPERTY.fullmatch(str(key))
        if found is None:
            raise PicoschemaError(here, f"{str(key)!r:.60} is not a property", "write NAME, NAME? or NAME(array)")
        name = found["name"].strip()
        if name in schema["properties"]:
            raise PicoschemaError(here, f"{name} is described twice", "remove one of them")
        schema["properties"][name] = _property(found, value, here)
        if not found["optional"]:
            required.append(name)
    return schema | ({"required": required} if required else {})


def _property(found: re.Match[str], value: Any, path: Path) -> dict[str, Any]:
    optional = found["optional"] is not None
    match found["kind"]:
        case None:
            schema = _any(value, path)
        case "array":
            schema = {"type": "array", "items": _any(value, path)}
        case "object" if isinstance(value, Mapping):
            schema = _object(value, path)
        case "enum" if isinstance(value, list) and value:
            choices = [*value, None] if optional and None not in value else list(value)
            schema = {"enum": choices}
        case "object" | "enum":
            wanted = (
                "properties below it" if found["kind"] == "object" else "a list of values, such as [DRAFT, DONE]"
            )
            raise PicoschemaError(path, f"it is {value!r:.60}", f"write {wanted}")
        case kind:
            raise PicoschemaError(path, f"{kind!r} in parentheses is not known", f"use {_KINDS}")
    if optional and isinstance(schema.get("type"), str):
        schema["type"] = [schema["type"], "null"]
    says = " ".join((found["says"] or "").split())
    return schema | ({"description": says} if says else {})


def _any(value: Any, path: Path) -> dict[str, Any]:
    if isinstance(value, Mapping):
        return _object(value, path)
    if value is None:
        value = "null"  # as YAML reads it
    if not isinstance(value, str):
        raise PicoschemaError(path, f"it is {value!r:.60}", f"write one of {', '.join(SCALARS)}, or properties")
    kind, _, says = (part.strip() for part in value.partition(","))
    if kind not in SCALARS:
        raise PicoschemaError(path, f"{kind!r:.60} is not a type", f"use one of {', '.join(SCALARS)}")
    return ({} if kind == "any" else {"type": kind}) | ({"description": says} if says else {})
