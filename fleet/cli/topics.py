"""A file of topics, and the workflow ids of its pipelines.

An id follows from the project, the file's name and the topic, so a repeated command finds the pipelines of the
command before it and starts none twice, also after rows were added, removed or moved. A topic that stands in the
file twice has two pipelines. Neither the date nor the CSV is a part of the id.
"""

import hashlib
import re
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

from fleet.contracts import CSV_MAX_BYTES
from fleet.errors import InputError
from fleet.pipeline.inputs import CsvTable, parse_csv, validate_inputs

COLUMN = "topic"
_DIGITS = 12
_PART_CHARACTERS = 40


@dataclass(frozen=True)
class Row:
    """One topic, the number of its row from 1, and the workflow id of its pipeline."""

    number: int
    topic: str
    workflow_id: str


def read_topics(path: Path, project: str, column: str | None = None) -> list[Row]:
    """The rows of a topics file: of a ``.csv`` file that column (``topic`` where none is named), of any other file
    its lines. Empty ones are left out.

    Raises:
        InputError: the file cannot be read, has no such column or no topic, or a topic cannot be used.
    """
    topics = _topics(path, column)
    if not topics:
        raise InputError(f"the topics file {path} has no topic. Remedy: write one topic on each line")
    rows, seen = list[Row](), Counter[str]()
    for number, text in topics:
        try:
            topic = validate_inputs(text, project, "", "", csv_max_bytes=CSV_MAX_BYTES).topic
        except InputError as error:
            raise InputError(f"row {number} of {path}: {error}") from None
        seen[topic] += 1
        rows.append(Row(number, topic, _workflow_id(project, path, topic, seen[topic])))
    return rows


def _topics(path: Path, column: str | None) -> list[tuple[int, str]]:
    text = _text(path)
    if path.suffix.lower() == ".csv":
        texts = _column(path, text, column or COLUMN)
    elif column is None:
        texts = text.split("\n")
    else:
        raise InputError(
            f"{path} is not a .csv file, so it has no columns. Remedy: leave --column out, or rename it"
        )
    return [(number, topic.strip()) for number, topic in enumerate(texts, start=1) if topic.strip()]


def _text(path: Path) -> str:
    try:
        return path.read_text("utf-8-sig").replace("\r\n", "\n").replace("\r", "\n")
    except OSError as error:
        raise InputError(
            f"the topics file {path} cannot be read ({error.strerror}). Remedy: check --topics"
        ) from None
    except UnicodeDecodeError:
        raise InputError(f"the topics file {path} is not UTF-8. Remedy: save it as UTF-8") from None


def _column(path: Path, text: str, column: str) -> list[str]:
    try:
        table: CsvTable = parse_csv(text)
    except InputError as error:
        raise InputError(str(error).replace("csv_data", f"the topics file {path}", 1)) from None
    if column not in table.columns:
        columns = ", ".join(table.columns)
        raise InputError(f"{path} has no column {column!r}. Remedy: name one with --column: {columns}")
    place = table.columns.index(column)
    return [row[place] for row in table.rows]


def _workflow_id(project: str, path: Path, topic: str, occurrence: int) -> str:
    parts = "\x1f".join((project, path.name, topic, str(occurrence)))
    digest = hashlib.sha256(parts.encode("utf-8", "surrogatepass")).hexdigest()[:_DIGITS]
    return f"{_plain(project)}-{_plain(path.stem)}-{digest}"


def _plain(text: str) -> str:
    return re.sub(r"[^A-Za-z0-9._-]+", "-", text)[:_PART_CHARACTERS]
