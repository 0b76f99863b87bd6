"""The pipeline's own arguments, checked before anything is paid. Pure: it runs inside the workflow.

Control and bidirectional characters are refused, not stripped: the text that is sent to a provider must be the
text that a person sees, and silently changing a user's input hides where it came from.
"""

import base64
import binascii
import csv
import io
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import date
from typing import Any

from fleet.errors import InputError
from fleet.pipeline.csv_content import decoded, is_plausible, kind_of, kind_of_text
from fleet.redaction import excerpt

TOPIC_MAX_CHARACTERS = 10_000
PROJECT_ID_MAX_CHARACTERS = 200
COLUMNS_MAX = 200
_DELIMITERS = ",;\t|"
_SHORTEST_BASE64 = 16
_SHORTEST_BASE64_LINE = 60

_BLANK_LINES = re.compile(r"\n\s+")
_CONTROL = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f]")
_BIDI = re.compile("[\u202a-\u202e\u2066-\u2069]")
_SURROGATE = re.compile("[\ud800-\udfff]")
_PROJECT_ID = re.compile(r"[^\s/\\?#%\x00-\x1f\x7f]+")
_BASE64 = re.compile(r"[A-Za-z0-9+/\s_-]++={0,2}")
# csv's own limit for one field is 131,072 characters. It is global to the process, and workflows run in many
# threads, so it is set once, above any CSV that is accepted.
csv.field_size_limit(2**31 - 1)


@dataclass(frozen=True)
class PipelineInputs:
    """The checked arguments. ``csv_text`` is CSV in text form, ``current_date`` YYYY-MM-DD; both may be empty."""

    topic: str
    project_id: str
    csv_text: str
    current_date: str


@dataclass(frozen=True)
class CsvTable:
    """A CSV table; each row has as many values as the header has columns."""

    columns: list[str]
    rows: list[list[str]]


def validate_inputs(
    topic: Any, project_id: Any, csv_data: Any, current_date: Any, *, csv_max_bytes: int
) -> PipelineInputs:
    """Check a pipeline's four arguments, including the rows of the CSV.

    Raises:
        InputError: one of them cannot be used; the message names it and the remedy.
    """
    inputs = clean_inputs(topic, project_id, csv_data, current_date, csv_max_bytes=csv_max_bytes)
    refuse_no_csv(csv_data)
    if inputs.csv_text:
        parse_csv(inputs.csv_text)
    return inputs


def clean_inputs(
    topic: Any, project_id: Any, csv_data: Any, current_date: Any, *, csv_max_bytes: int
) -> PipelineInputs:
    """Check a pipeline's four arguments, except the rows of the CSV, which can take a second to read.

    Raises:
        InputError: one of them cannot be used; the message names it and the remedy.
    """
    return PipelineInputs(
        topic=_topic(topic),
        project_id=_project_id(project_id),
        csv_text=csv_text_of(csv_data, csv_max_bytes),
        current_date=_current_date(current_date),
    )


def refuse_surplus(count: int) -> None:
    """Raise InputError if there are more than the four arguments."""
    if count:
        raise InputError(
            f"the pipeline takes four arguments and got {4 + count}. Remedy: pass topic, project_id, csv_data and "
            "current_date, in this order"
        )


def _text(name: str, value: Any) -> str:
    """``value`` if it is text that can be sent and shown; otherwise InputError."""
    if not isinstance(value, str):
        kind = "nothing" if value is None else f"a JSON {type(value).__name__}"
        raise InputError(f"{name} must be a string and is {kind}. Remedy: pass {name} as JSON text")
    for pattern, what in (
        (_SURROGATE, "half of a surrogate pair"),
        (_CONTROL, "a control character"),
        (_BIDI, "a bidirectional control character"),
    ):
        if found := pattern.search(value):
            point = f"U+{ord(found.group()):04X}"
            raise InputError(
                f"{name} contains {what} ({point} at position {found.start()}). Remedy: remove it from the text"
            )
    return value


def _topic(value: Any) -> str:
    topic = _text("topic", value).strip()
    if not topic:
        raise InputError("topic is empty. Remedy: say what the pipeline is to be about")
    if len(topic) > TOPIC_MAX_CHARACTERS:
        raise InputError(
            f"topic has {len(topic)} characters, at most {TOPIC_MAX_CHARACTERS} are allowed. Remedy: shorten "
            "it, or put the material into the CSV"
        )
    return topic


def _project_id(value: Any) -> str:
    project_id = _text("project_id", value)
    usable = _PROJECT_ID.fullmatch(project_id) and project_id.strip(".")
    if not usable or len(project_id) > PROJECT_ID_MAX_CHARACTERS:
        shown = excerpt(project_id, 60)
        raise InputError(
            f"project_id {shown!r} cannot be used. Remedy: pass the id of a project: up to "
            f"{PROJECT_ID_MAX_CHARACTERS} characters, without spaces, slashes, ?, # and %, and not only dots"
        )
    return project_id


def _current_date(value: Any) -> str:
    if value is None:
        return ""
    text = _text("current_date", value).strip()
    if not text:
        return ""
    try:
        # fromisoformat also accepts 20250131 and 2025-W05; a pipeline's date has one form only.
        if len(text) != len("2025-01-31") or date.fromisoformat(text).isoformat() != text:
            raise ValueError(text)
    except ValueError:
        raise InputError(
            f"current_date {excerpt(text, 40)!r} is not a valid date. Remedy: write it as YYYY-MM-DD, e.g. "
            "2025-01-31, or leave it empty"
        ) from None
    return text


def csv_text_of(value: Any, csv_max_bytes: int) -> str:
    """CSV text from CSV text, base64 of it (UTF-8 or cp1250), or nothing; line ends become ``\\n``.

    Raises:
        InputError: it is neither, is too large, or contains characters that cannot be used.
    """
    if value is None or value == "":
        return ""
    if isinstance(value, str) and len(value) > 2 * csv_max_bytes:  # as base64 it would be too large as well
        _refuse_large(len(value), csv_max_bytes)
    if isinstance(value, str) and _CONTROL.search(value) and (kind := kind_of_text(value)):
        raise _not_csv(f"is {kind} that was read as something else")
    text = _text("csv_data", value)
    if _looks_like_base64(text):
        text = _text("csv_data", _decoded(_base64_bytes(text))[0])
    text = text.removeprefix("\ufeff").replace("\r\n", "\n").replace("\r", "\n")
    _refuse_large(len(text.encode()), csv_max_bytes)
    return text if text.strip() else ""


def refuse_no_csv(csv_data: Any) -> None:
    """Raise InputError for a text that can be read as CSV but surely is none: one that looks like base64 and
    does not decode to a CSV, and a PDF. ``csv_data`` is such that :func:`csv_text_of` takes it."""
    if not isinstance(csv_data, str):
        return
    if kind := kind_of_text(csv_data):
        raise _not_csv(f"is {kind}")
    if not _looks_like_base64(csv_data):
        return
    text, encoding = _decoded(_base64_bytes(csv_data))
    if encoding == "cp1250" and not is_plausible(text):
        raise _not_csv(
            f"has {len(csv_data):,} letters and digits and no row of values, and is base64 of nothing that is a "
            "CSV"
        )


def csv_warnings(csv_data: Any, csv_text: str) -> list[str]:
    """What a pipeline's user should know of a CSV that is taken although it says little: it is blank, has no rows,
    or was decoded wrongly. ``csv_text`` is what :func:`csv_text_of` made of ``csv_data``."""
    if not csv_text:
        blank = isinstance(csv_data, str) and csv_data != ""
        return ["csv_data has only white space, and counts as not given"] if blank else []
    if not has_rows(csv_text):
        return ["csv_data has a header and no rows: send a CSV with rows, or none"]
    if lost := csv_text.count("\ufffd"):
        return [
            f"csv_data has {lost:,} characters that were lost when it was decoded (U+FFFD): send it as UTF-8, or "
            "as base64 of its bytes"
        ]
    return []


def has_rows(csv_text: str) -> bool:
    """Whether CSV text that can be read has a row below its header; a look at the beginning tells."""
    # However many blank lines follow: this runs inside the workflow.
    rows = _numbered_rows(_BLANK_LINES.sub("\n", csv_text), _delimiter(csv_text))
    return next(rows, None) is not None and next(rows, None) is not None


def _refuse_large(size: int, limit: int) -> None:
    if size > limit:
        raise InputError(
            f"csv_data has {size:,} bytes, at most {limit:,} are allowed. Remedy: send fewer rows or columns"
        )


def _looks_like_base64(text: str) -> bool:
    """Whether it is one run of base64 letters, or lines of equal length as mail programs break it.

    A column of plain words uses the same letters, but its lines differ in length.
    """
    if len(text) < _SHORTEST_BASE64 or not _BASE64.fullmatch(text.rstrip()):
        return False
    *full, last = text.split()
    lengths = {len(line) for line in full}
    return not full or (len(lengths) == 1 and min(lengths) >= _SHORTEST_BASE64_LINE and len(last) <= min(lengths))


def _base64_bytes(text: str) -> bytes:
    compact = "".join(text.split()).translate(str.maketrans("-_", "+/"))
    try:
        return base64.b64decode(compact, validate=True)
    except (binascii.Error, ValueError):
        raise _not_csv(
            "looks like base64 but is not (its length or padding is wrong), and it has no row of values"
        ) from None


def _decoded(raw: bytes) -> tuple[str, str]:
    """The text of a CSV, and the encoding that it is in."""
    if found := decoded(raw, lambda text: _CONTROL.search(text) is None):
        return found
    kind = kind_of(raw)
    raise _not_csv(f"is base64 of {f'{kind}, and ' if kind else ''}something that is not text in UTF-8 or cp1250")


def csv_file_text(raw: bytes) -> str:
    """The text of a CSV file.

    Raises:
        InputError: the file is empty or no text; the message begins with what it is.
    """
    remedy = "save or export it as CSV, in UTF-8"
    if not raw.removeprefix(b"\xef\xbb\xbf").strip():
        raise InputError("is empty. Remedy: name a file with a header and rows, or leave --csv out")
    if kind := kind_of(raw):
        raise InputError(f"is {kind}, not a CSV. Remedy: {remedy}")
    found = decoded(raw, lambda text: True)
    if found is None or (found[1] == "cp1250" and (_CONTROL.search(found[0]) or not is_plausible(found[0]))):
        raise InputError(f"is not text in UTF-8 or cp1250. Remedy: {remedy}")
    return found[0]


def _not_csv(what: str) -> InputError:
    return InputError(f"csv_data {what}. Remedy: send CSV text, or base64 of a CSV in UTF-8 or cp1250")


def parse_csv(text: str) -> CsvTable:
    """Read CSV text whose delimiter is ``,`` ``;`` tab or ``|``, whichever occurs most often in the header line.

    Raises:
        InputError: no header, a quote that never ends, or a row with another number of columns.
    """
    delimiter = _delimiter(text)
    try:
        numbered = list(_numbered_rows(text, delimiter))
    except csv.Error as error:
        raise InputError(f"csv_data cannot be read: {error}. Remedy: check its quotes") from None
    if not numbered:
        raise InputError("csv_data has no header line. Remedy: begin it with the names of its columns")
    (_, columns), *rows = numbered
    columns = [name.strip() for name in columns]
    if len(columns) > COLUMNS_MAX:
        raise InputError(
            f"csv_data has {len(columns)} columns, at most {COLUMNS_MAX} are allowed. Remedy: drop some"
        )
    for line, row in rows:
        if len(row) != len(columns):
            raise InputError(
                f"csv_data line {line} has {len(row)} columns, the header has {len(columns)}. Remedy: correct "
                f"that line; a value with {delimiter!r} in it must stand in quotes"
            )
    return CsvTable(columns, [row for _, row in rows])


def csv_columns(text: str) -> list[str]:
    """The names of the columns of CSV text, without a look at its rows; empty if it has none."""
    try:
        _, columns = next(_numbered_rows(text, _delimiter(text)), (0, []))
    except csv.Error:  # which parse_csv reports
        return []
    return [name.strip() for name in columns]


def _delimiter(text: str) -> str:
    header_line = text.lstrip("\n").split("\n", 1)[0]
    count: Callable[[str], int] = header_line.count
    return max(_DELIMITERS, key=count)


def _numbered_rows(text: str, delimiter: str) -> Iterator[tuple[int, list[str]]]:
    """The rows that are not blank, each with the number of the line that it ends on."""
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
    return ((reader.line_num, row) for row in reader if any(cell.strip() for cell in row))
