"""OpenAI's errors, and its response formats: text, JSON, and JSON that is bound to a schema.

Source: OpenAI "Structured model outputs", with what strict mode demands of a schema.
"""

import re
from collections.abc import Mapping
from typing import Any

from fleet.devstack.simulator.answer_json import is_schema
from fleet.devstack.simulator.calls import Refusal

_NAME = re.compile(r"[a-zA-Z0-9_-]{1,64}")
_NOT_STRICT = ("allOf", "oneOf", "not", "if", "then", "else", "dependentRequired", "dependentSchemas")


def error(status: int, message: str, kind: str, code: str | None = None, param: str | None = None) -> Refusal:
    """An error in OpenAI's form."""
    return Refusal(status, {"error": {"message": message, "type": kind, "param": param, "code": code}})


def schema_in(api: str, body: Mapping[str, Any], model: str, *, takes_schema: bool) -> dict[str, Any] | None:
    """The schema that the answer is bound to; None for text and for JSON of any form."""
    param = "text.format" if api == "responses" else "response_format"
    text = body.get("text") or {}
    wanted = (text.get("format") if isinstance(text, dict) else text) if api == "responses" else body.get(param)
    if wanted is None:
        return None
    kind = wanted.get("type") if isinstance(wanted, dict) else None
    if kind in ("text", "json_object"):
        return {"type": "object"} if kind == "json_object" else None
    if kind != "json_schema":
        message = f"Invalid value: '{kind}'. Supported values are: 'json_object', 'json_schema', and 'text'."
        raise error(400, message, "invalid_request_error", "invalid_value", f"{param}.type")
    if not takes_schema:
        message = (
            f"Invalid parameter: '{param}' of type 'json_schema' is not supported with this model. Learn more "
            "about supported models at the Structured Outputs guide: "
            "https://platform.openai.com/docs/guides/structured-outputs"
        )
        raise error(400, message, "invalid_request_error", None, param)
    return _named(wanted if api == "responses" else wanted.get("json_schema"), param)


def _named(given: Any, param: str) -> dict[str, Any]:
    named = given if isinstance(given, dict) else {}
    name, schema = named.get("name"), named.get("schema")
    for field, value in (("name", name), ("schema", schema)):
        if value is None:
            message = f"Missing required parameter: '{param}.{field}'."
            raise error(400, message, "invalid_request_error", "missing_required_parameter", f"{param}.{field}")
    if not isinstance(name, str) or not _NAME.fullmatch(name):
        message = f"Invalid '{param}.name': string does not match pattern. Expected '^[a-zA-Z0-9_-]+$'."
        raise error(400, message, "invalid_request_error", "invalid_value", f"{param}.name")
    if not isinstance(schema, dict) or not is_schema(schema) or schema.get("type") != "object":
        raise _invalid(name, f"schema must be a JSON Schema of 'type: \"object\"', got {schema!r:.60}.", param)
    if named.get("strict") is True:
        _check_strict(schema, (), name, param)
    return dict(schema)


def _check_strict(schema: Any, context: tuple[str, ...], name: str, param: str) -> None:
    if not isinstance(schema, Mapping):
        return
    if refused := next((word for word in _NOT_STRICT if word in schema), None):
        raise _invalid(name, f"In context={context!r}, '{refused}' is not permitted.", param)
    if schema.get("type") == "object":
        _check_object(schema, context, name, param)
    for group in ("properties", "$defs", "definitions"):
        for key, part in (schema.get(group) or {}).items():
            _check_strict(part, (*context, group, key), name, param)
    _check_strict(schema.get("items"), (*context, "items"), name, param)
    for place, part in enumerate(schema.get("anyOf") or []):
        _check_strict(part, (*context, "anyOf", str(place)), name, param)


def _check_object(schema: Mapping[str, Any], context: tuple[str, ...], name: str, param: str) -> None:
    if schema.get("additionalProperties") is not False:
        raise _invalid(
            name,
            f"In context={context!r}, 'additionalProperties' is required to be supplied and to be false.",
            param,
        )
    for key in schema.get("properties") or {}:
        if key not in schema.get("required", []):
            raise _invalid(
                name,
                f"In context={context!r}, 'required' is required to be supplied and to be an array including "
                f"every key in properties. Missing '{key}'.",
                param,
            )


def _invalid(name: str, what: str, param: str) -> Refusal:
    message = f"Invalid schema for response_format '{name}': {what}"
    return error(400, message, "invalid_request_error", "invalid_json_schema", f"{param}.schema")
