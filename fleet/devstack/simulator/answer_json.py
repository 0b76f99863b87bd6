"""Writes JSON that matches a JSON Schema, as a model does that is bound to one. Its texts say that a simulator
wrote them."""

from collections.abc import Mapping
from typing import Any

_DEEPEST = 6
_FORMATS = {
    "date": "2026-01-31",
    "date-time": "2026-01-31T12:00:00Z",
    "time": "12:00:00Z",
    "duration": "P1D",
    "email": "simulator@example.com",
    "hostname": "example.com",
    "uri": "https://example.com/simulator",
    "ipv4": "192.0.2.1",
    "ipv6": "2001:db8::1",
    "uuid": "00000000-0000-4000-8000-000000000000",
}


def is_schema(schema: Any) -> bool:
    """Whether this is a JSON Schema."""
    from jsonschema import Draft202012Validator, SchemaError  # only structured outputs need it

    try:
        Draft202012Validator.check_schema(schema)
    except SchemaError:
        return False
    return isinstance(schema, Mapping)


def matching_value(schema: Mapping[str, Any], text: str) -> Any:
    """A value that matches the schema: every property, two items, ``text`` for each free text. A ``pattern`` is
    not followed."""
    return _value(schema, schema, text, 0)


def _value(schema: Any, whole: Mapping[str, Any], text: str, depth: int) -> Any:
    if depth > 10 * _DEEPEST:  # it demands itself without end, and nothing matches it
        return None
    place = _resolved(schema, whole)
    if "const" in place:
        return place["const"]
    if place.get("enum"):
        return place["enum"][0]
    for choice in ("anyOf", "oneOf"):
        if place.get(choice):
            return _value(
                _simplest(place[choice]) if depth > _DEEPEST else place[choice][0], whole, text, depth + 1
            )
    kinds = place.get("type")
    kind = kinds[0] if isinstance(kinds, list) else kinds
    if kind == "object" or "properties" in place:
        return _object(place, whole, text, depth)
    if kind == "array":
        return _array(place, whole, text, depth)
    return _scalar(kind, place, text)


def _resolved(schema: Any, whole: Mapping[str, Any]) -> dict[str, Any]:
    """The schema behind its references within the whole, with what ``allOf`` adds."""
    place = dict(schema) if isinstance(schema, Mapping) else {}
    for _ in range(_DEEPEST):
        reference = place.pop("$ref", None)
        if not isinstance(reference, str):
            break
        found: Any = whole
        for part in reference.removeprefix("#").strip("/").split("/"):
            found = found.get(part, {}) if part and isinstance(found, Mapping) else found
        place = dict(found) | place if isinstance(found, Mapping) else place
    for part in place.pop("allOf", None) or []:
        added = _resolved(part, whole)
        properties = place.get("properties", {}) | added.get("properties", {})
        required = [*place.get("required", []), *added.get("required", [])]
        place |= added
        place |= ({"properties": properties} if properties else {}) | ({"required": required} if required else {})
    return place


def _simplest(choices: list[Any]) -> Any:
    """Where schemas contain themselves: the choice that ends it, usually null."""
    return min(choices, key=lambda choice: ("$ref" in str(choice), len(str(choice))))


def _object(place: Mapping[str, Any], whole: Mapping[str, Any], text: str, depth: int) -> dict[str, Any]:
    required = place.get("required", [])
    properties = place.get("properties", {})
    wanted = {name: part for name, part in properties.items() if depth < _DEEPEST or name in required}
    made = {name: _value(part, whole, text, depth + 1) for name, part in wanted.items()}
    return made | {name: text for name in required if name not in made}


def _array(place: Mapping[str, Any], whole: Mapping[str, Any], text: str, depth: int) -> list[Any]:
    count = max(place.get("minItems", 0), min(2, place.get("maxItems", 2)) if depth < _DEEPEST else 0)
    items = [_value(place.get("items", {}), whole, text, depth + 1) for _ in range(count)]
    if place.get("uniqueItems") and all(isinstance(item, str) for item in items):
        return [f"{item} {number}" if number else item for number, item in enumerate(items)]
    return items


def _scalar(kind: Any, place: Mapping[str, Any], text: str) -> Any:
    if kind in ("integer", "number"):
        return _number(place, whole=kind == "integer")
    if kind == "boolean":
        return True
    if kind == "null":
        return None
    made = _FORMATS.get(place.get("format", ""), text)
    made = made.ljust(place.get("minLength", 0), ".")
    return made[: place["maxLength"]] if "maxLength" in place else made


def _number(place: Mapping[str, Any], *, whole: bool) -> Any:
    step = place.get("multipleOf", 1 if whole else 0.5)
    lowest = place.get("minimum", place.get("exclusiveMinimum"))
    highest = place.get("maximum", place.get("exclusiveMaximum"))
    if lowest is None and highest is None:
        return step
    if lowest is None:
        made = highest // step * step
        return made - step if made == place.get("exclusiveMaximum") else made
    made = -(-lowest // step) * step
    return made + step if made == place.get("exclusiveMinimum") else made
