"""How values become Temporal payloads: plain JSON as the SDK writes it, but without escaping letters beyond ASCII.

The SDK writes each such letter as ``\\u00e1``. That makes Czech text about half as large again in a history that
is stored for weeks. Every JSON reader accepts both forms, so other clients see no difference.
"""

from dataclasses import replace
from typing import Any

from temporalio.converter import (
    AdvancedJSONEncoder,
    CompositePayloadConverter,
    DataConverter,
    DefaultPayloadConverter,
    JSONPlainPayloadConverter,
)


class _Utf8Encoder(AdvancedJSONEncoder):
    def __init__(self, **options: Any) -> None:
        super().__init__(**(options | {"ensure_ascii": False}))

    def encode(self, o: Any) -> str:
        """JSON that can be written as UTF-8: half of a surrogate pair, which UTF-8 cannot encode, becomes
        ``?``."""
        return super().encode(o).encode("utf-8", "replace").decode()


class Utf8PayloadConverter(CompositePayloadConverter):
    """The SDK's converters, except that the one for plain JSON writes UTF-8."""

    def __init__(self) -> None:
        utf8 = JSONPlainPayloadConverter(encoder=_Utf8Encoder)
        standard = DefaultPayloadConverter.default_encoding_payload_converters
        super().__init__(*(utf8 if converter.encoding == utf8.encoding else converter for converter in standard))


def data_converter() -> DataConverter:
    """The converter of every client and worker of the fleet."""
    return replace(DataConverter.default, payload_converter_class=Utf8PayloadConverter)
