"""How values become Temporal payloads: plain JSON as the SDK writes it, but without escaping letters beyond ASCII.

The SDK writes each such letter as ``\\u00e1``. That makes Czech text about half as large again in a history that
is stored for weeks. Every JSON reader accepts both forms, so other clients see no difference.

Dataclasses are read and written as the SDK does it, at a fraction of the CPU time: the SDK evaluates the
annotations of a class again for every value, and copies every value before it writes it.
"""

from collections.abc import Hashable
from dataclasses import dataclass, fields, is_dataclass, replace
from functools import cache
from types import NoneType, UnionType
from typing import Any, Union, get_args, get_origin, get_type_hints

from temporalio.api.common.v1 import Payload
from temporalio.converter import (
    AdvancedJSONEncoder,
    BinaryNullPayloadConverter,
    CompositePayloadConverter,
    DataConverter,
    DefaultPayloadConverter,
    EncodingPayloadConverter,
    JSONPlainPayloadConverter,
    JSONTypeConverter,
    value_to_type,
)

_PRIMITIVES = frozenset({str, int, float, bool, NoneType})


class _Utf8Encoder(AdvancedJSONEncoder):
    def __init__(self, **options: Any) -> None:
        super().__init__(**(options | {"ensure_ascii": False}))

    def default(self, o: Any) -> Any:
        """A dataclass as a mapping of its fields, whose values are encoded in turn; anything else as the SDK
        does."""
        if is_dataclass(o) and not isinstance(o, type):
            return {name: getattr(o, name) for name in _field_names(type(o))}
        return super().default(o)

    def encode(self, o: Any) -> str:
        """JSON that can be written as UTF-8: half of a surrogate pair, which UTF-8 cannot encode, becomes
        ``?``."""
        return super().encode(o).encode("utf-8", "replace").decode()


@cache
def _field_names(kind: type[Any]) -> list[str]:
    return [field.name for field in fields(kind)]


@dataclass(frozen=True, slots=True)
class _Field:
    """The type of a dataclass's field; a value of one of the ``ready`` classes is taken as it is."""

    hint: Any
    ready: frozenset[type[Any]]


@cache
def _fields_of(kind: Hashable) -> dict[str, _Field]:
    hints = get_type_hints(kind)
    return {name: _Field(hints[name], _ready(hints[name])) for name in _field_names(kind)}


def _ready(hint: Any) -> frozenset[type[Any]]:
    """The classes whose values, as JSON has them, need no conversion to the type."""
    if get_origin(hint) in (UnionType, Union) and NoneType in get_args(hint):
        others = [found for found in get_args(hint) if found is not NoneType]
        return frozenset({NoneType}) | (_ready(others[0]) if len(others) == 1 else frozenset())
    return frozenset({hint}) if hint in _PRIMITIVES else frozenset()


class _Dataclasses(JSONTypeConverter):
    """Reads dataclasses as the SDK does: unknown fields are ignored, missing ones get their defaults."""

    def to_typed_value(self, hint: type, value: Any) -> Any:
        """The dataclass; anything else is left to the SDK."""
        if not (isinstance(hint, type) and is_dataclass(hint) and isinstance(value, dict)):
            return JSONTypeConverter.Unhandled
        known = _fields_of(hint).items()
        return hint(
            **{name: self._field(hint, name, field, value[name]) for name, field in known if name in value}
        )

    def _field(self, kind: type, name: str, field: _Field, value: Any) -> Any:
        if type(value) in field.ready:
            return value
        try:
            return value_to_type(field.hint, value, [self])
        except Exception as error:
            raise TypeError(f"Failed converting field {name} on dataclass {kind}") from error


class _NullConverter(BinaryNullPayloadConverter):
    def from_payload(self, payload: Payload, type_hint: type | None = None) -> Any:
        """None. In place of a dataclass it is refused like any other value of a wrong type, and a signal with it
        is dropped: a handler that expects a message would fail its workflow's task again and again."""
        if isinstance(type_hint, type) and is_dataclass(type_hint):
            raise TypeError(f"null cannot be converted to {type_hint.__name__}")
        return super().from_payload(payload, type_hint)


class Utf8PayloadConverter(CompositePayloadConverter):
    """The SDK's converters with two differences: JSON is written as UTF-8, and null is never a dataclass."""

    def __init__(self) -> None:
        super().__init__(*_converters())


@cache
def _converters() -> list[EncodingPayloadConverter]:
    """The SDK's list, with ours in place of two. Made once: the SDK creates the class above for every payload."""
    utf8 = JSONPlainPayloadConverter(encoder=_Utf8Encoder, custom_type_converters=[_Dataclasses()])
    own = {converter.encoding: converter for converter in (utf8, _NullConverter())}
    standard = DefaultPayloadConverter.default_encoding_payload_converters
    return [own.get(converter.encoding, converter) for converter in standard]


def data_converter() -> DataConverter:
    """The converter of every client and worker of the fleet."""
    return replace(DataConverter.default, payload_converter_class=Utf8PayloadConverter)
