"""Which columns and rows of the pipeline's CSV an assistant reads: how that is written, checked and carried out.
Pure, since the workflow uses it too.

As the Backend API's contract and a project's folder have it, both parts optional:
``{"columns": ["keyword", "volume"], "rows": {"first": 100}}``; rows may also be ``{"top": 50, "by": "volume"}``,
the rows with the largest numbers in that column, or ``{"sample": 200, "seed": 7}``, a random choice that is always
the same for the same seed and number of rows.
"""

import random
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from fleet.contracts import Assistant, CsvSelection
from fleet.errors import InputError
from fleet.near_names import nearest
from fleet.pipeline.inputs import CsvTable, csv_columns, parse_csv
from fleet.redaction import excerpt

ROWS_MAX = 1_000_000
_WAYS = ("first", "top", "sample")
_FORM = "{first: 100}, {top: 50, by: COLUMN} or {sample: 200, seed: 7}"
#: What stands for a missing number.
_NOTHING = frozenset({"", "-", "–", "—", "n/a", "na", "null", "none"})
_SPACES = re.compile(r"[\s'’]")
_NUMBER = re.compile(r"[+-]?(?:\d+(?:[.,]\d+)*|[.,]\d+)(?:[eE][+-]?\d+)?%?")
_THOUSANDS = re.compile(r"[+-]?[1-9]\d{0,2}(?:,\d{3})+")


class SelectionError(ValueError):
    """A selection cannot be used. ``path`` leads to the place within it."""

    def __init__(self, path: tuple[str | int, ...], says: str, remedy: str) -> None:
        super().__init__(says)
        self.path, self.says, self.remedy = path, says, remedy


@dataclass(frozen=True)
class SelectedRows:
    """The chosen part of a CSV of ``total`` rows and ``width`` columns; ``how`` says which rows they are. ``all``:
    the rows were not chosen from."""

    table: CsvTable
    total: int
    width: int
    how: str
    all: bool


def selection_of(value: Any) -> CsvSelection:
    """The selection that is written like this.

    Raises:
        SelectionError: it cannot be used.
    """
    if not isinstance(value, Mapping) or not value:
        raise SelectionError((), "is not an object", f"name columns, rows, or both; rows as {_FORM}")
    if unknown := [name for name in value if name not in ("columns", "rows")]:
        raise SelectionError((str(unknown[0]),), f"has {unknown[0]!r:.60}", "name columns, rows, or both")
    columns, rows = value.get("columns"), value.get("rows")
    if columns is None and rows is None:
        raise SelectionError((), "chooses nothing", f"name columns, rows, or both; rows as {_FORM}")
    chosen = {} if rows is None else _rows(rows)
    return CsvSelection(columns=None if columns is None else _columns(columns), **chosen)


def _columns(value: Any) -> list[str]:
    names = [name.strip() for name in value if isinstance(name, str)] if isinstance(value, list) else []
    if not names or not all(names) or len(names) != len(value) or not all(map(_is_text, names)):
        raise SelectionError(("columns",), f"columns is {value!r:.60}", "list the names of columns")
    if twice := next((name for name in names if names.count(name) > 1), None):
        raise SelectionError(("columns",), f"columns names {twice!r:.60} twice", "name each column once")
    return names


def _rows(value: Any) -> dict[str, Any]:
    names = list(value) if isinstance(value, Mapping) else []
    ways = [name for name in names if name in _WAYS]
    if len(ways) != 1:
        raise SelectionError(("rows",), f"rows is {value!r:.60}", f"write it as {_FORM}")
    (way,) = ways
    known = {"first": ("first",), "top": ("top", "by"), "sample": ("sample", "seed")}[way]
    if unknown := [name for name in names if name not in known]:
        raise SelectionError(("rows", str(unknown[0])), f"rows has {unknown[0]!r:.60}", f"write it as {_FORM}")
    found = {way: _whole(value[way], ("rows", way), 1)}
    if way == "top":
        by = value.get("by")
        if not isinstance(by, str) or not by.strip() or not _is_text(by):
            raise SelectionError(("rows", "top"), "rows has top without by", "name the column of numbers in by")
        return found | {"by": by.strip()}
    if value.get("seed") is not None:
        return found | {"seed": _whole(value["seed"], ("rows", "seed"), 0)}
    return found


def _is_text(name: str) -> bool:
    return not re.search("[\ud800-\udfff]", name)  # JSON and YAML can write half of a surrogate pair


def _whole(value: Any, path: tuple[str, str], least: int) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or not least <= value <= ROWS_MAX:
        remedy = f"set it to a whole number from {least} to {ROWS_MAX:,}"
        raise SelectionError(path, f"{'.'.join(path)} is {value!r:.60}", remedy)
    return value


def refuse_selections(assistants: Sequence[Assistant], csv_text: str, *, in_full: bool) -> None:
    """Raise InputError for an assistant whose selection this CSV cannot satisfy. Unless ``in_full``, only the
    header is looked at; the rows of a large CSV take up to a second. Without a CSV nothing is refused."""
    choosing = {each.function_key: each.csv for each in assistants if each.csv is not None and csv_text}
    if not choosing:
        return
    table = parse_csv(csv_text) if in_full else CsvTable(csv_columns(csv_text), [])
    for function_key, selection in choosing.items():
        select_rows(function_key, selection, table)


def _refuse_missing(function_key: str, selection: CsvSelection, columns: Sequence[str]) -> None:
    for name in [*(selection.columns or []), *([selection.by] if selection.by is not None else [])]:
        if name not in columns:
            raise InputError(
                f"assistant {function_key}: the CSV has no column {name!r}{_nearest(name, columns)}; it has "
                f"{excerpt(', '.join(columns), 300)}. Remedy: correct fleet.csv of the assistant's file (from a "
                "Backend API: its csv), or send a CSV with that column"
            )


def _nearest(name: str, columns: Sequence[str]) -> str:
    by_lower = {column.lower(): column for column in reversed(columns)}
    near = nearest(name.lower(), by_lower)
    return f", the nearest is {by_lower[near]!r}" if near else ""


def select_rows(function_key: str, selection: CsvSelection, table: CsvTable) -> SelectedRows:
    """The part of a CSV that an assistant reads.

    Raises:
        InputError: the CSV lacks a column that is named, or that to sort by is not one of numbers.
    """
    _refuse_missing(function_key, selection, table.columns)
    numbers, how = _chosen(function_key, selection, table)
    places = [table.columns.index(name) for name in selection.columns or table.columns]
    if selection.columns is None:  # as they are, also where two have the same name
        places = list(range(len(table.columns)))
    rows = [[table.rows[number][place] for place in places] for number in numbers]
    names = [table.columns[place] for place in places]
    return SelectedRows(CsvTable(names, rows), len(table.rows), len(table.columns), how, not how)


def _chosen(function_key: str, selection: CsvSelection, table: CsvTable) -> tuple[list[int], str]:
    """The positions of the chosen rows, and which these are."""
    count = len(table.rows)
    if selection.first is not None:
        return list(range(min(selection.first, count))), "the first"
    if selection.sample is not None:
        # random() alone is promised to stay the same for a seed in all versions of Python.
        chance = random.Random(selection.seed)
        drawn = sorted((chance.random(), number) for number in range(count))[: selection.sample]
        return sorted(number for _, number in drawn), "a random sample, in the order of the CSV"
    if selection.top is not None and selection.by is not None:
        values = _numbers(function_key, selection.by, table)
        known = [number for number in range(count) if values[number] is not None]
        ranked = sorted(known, key=lambda number: -(values[number] or 0.0))
        return ranked[: selection.top], f"those with the largest {selection.by}, largest first"
    return list(range(count)), ""


def _numbers(function_key: str, column: str, table: CsvTable) -> list[float | None]:
    """The numbers in a column; None where there is none.

    A comma is a decimal comma, unless all commas in the column divide groups of three digits. Where a value has
    commas and dots, the last of them is the decimal mark.
    """
    place = table.columns.index(column)
    texts = [_SPACES.sub("", row[place]) for row in table.rows]
    with_comma = [text for text in texts if "," in text and "." not in text]
    thousands = all(_THOUSANDS.fullmatch(text.rstrip("%")) for text in with_comma)
    found: list[float | None] = []
    for number, text in enumerate(texts, start=1):
        if text.lower() in _NOTHING:
            found.append(None)
        elif _NUMBER.fullmatch(text):
            found.append(_number(text.rstrip("%"), thousands=thousands))
        else:
            shown = excerpt(table.rows[number - 1][place], 40)
            raise InputError(
                f"assistant {function_key}: the rows with the largest {column!r} cannot be chosen, since row "
                f"{number} has {shown!r} there, which is not a number. Remedy: name a column of numbers in by, or "
                "correct the CSV"
            )
    return found


def _number(text: str, *, thousands: bool) -> float:
    mark = max(text.rfind(","), text.rfind("."))
    decimal = mark >= 0 and text.count(text[mark]) == 1 and not (thousands and "," in text and "." not in text)
    whole = re.sub("[.,]", "", text[:mark] if decimal else text)
    return float(f"{whole}.{text[mark + 1 :]}" if decimal else whole)
