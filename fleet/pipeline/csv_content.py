"""What is not a CSV although it may be read as text: another kind of file, or another encoding. Pure."""

import re
from collections.abc import Callable

#: How other kinds of files begin. A question mark stands for a byte that was lost where bytes were read as text.
_KINDS = (
    (re.compile(rb"[\x89?]PNG\r?\n\x1a"), "a PNG image"),
    (re.compile(rb"\xff\xd8\xff"), "a JPEG image"),
    (re.compile(rb"GIF8[79]a"), "a GIF image"),
    (re.compile(rb"RIFF.{4}WEBP", re.DOTALL), "a WebP image"),
    (re.compile(rb"PK\x03\x04|PK\x05\x06"), "a ZIP archive, such as an Excel workbook (.xlsx)"),
    (re.compile(rb"\xd0\xcf\x11\xe0"), "an old Excel workbook (.xls)"),
    (re.compile(rb"\x1f\x8b"), "a gzip archive"),
    (re.compile(rb"%PDF-"), "a PDF"),
    (re.compile(rb"\xff\xfe|\xfe\xff|\x00\x00\xfe\xff"), "UTF-16 or UTF-32 text"),
)
_BEGINNING_BYTES = 16
# Text in UTF-16 has a zero byte for every letter of English.
_ZERO_SHARE = 0.2
# In Czech 15 % of the letters, in Polish less.
_FOREIGN_SHARE = 0.35
_DIVIDES = re.compile(r"[\r\n,;\t|]")


def kind_of(raw: bytes) -> str | None:
    """The kind of file that these bytes are, if it is a known one that is not a CSV."""
    for beginning, kind in _KINDS:
        if beginning.match(raw[:_BEGINNING_BYTES]):
            return kind
    return "UTF-16 text" if raw.count(b"\0") > _ZERO_SHARE * len(raw) else None


def kind_of_text(text: str) -> str | None:
    """The same of bytes that were read as text."""
    kind = kind_of(text[:_BEGINNING_BYTES].encode("latin-1", "replace"))
    return "UTF-16 text" if kind is None and text.count("\0") > _ZERO_SHARE * len(text) else kind


def decoded(raw: bytes, usable: Callable[[str], bool]) -> tuple[str, str] | None:
    """The text in UTF-8 or cp1250 and which of the two it is in; None if it is in neither, or not ``usable``."""
    for encoding in ("utf-8-sig", "cp1250"):
        try:
            text = raw.decode(encoding)
        except UnicodeDecodeError:
            continue
        return (text, encoding) if usable(text) else None
    return None


def is_plausible(text: str) -> bool:
    """Whether text in cp1250, as which almost any bytes can be read, may be a CSV: it has something that divides
    values or lines, and is for the most part ASCII."""
    foreign = sum(1 for letter in text if ord(letter) > 127)
    return bool(_DIVIDES.search(text)) and foreign <= _FOREIGN_SHARE * len(text)
