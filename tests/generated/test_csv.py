"""Any four arguments of a pipeline make inputs whose CSV can be sent, or are refused by one line."""

import base64
from typing import Any

from hypothesis import strategies as st

from fleet.errors import InputError
from fleet.pipeline.inputs import PipelineInputs, parse_csv, validate_inputs
from fleet.pipeline.prompts import TABLE_MAX_CHARACTERS, render_csv
from tests.generated.inputs import TEXTS, VALUES, check_each

MAX_BYTES = 20_000
CELLS = TEXTS | st.sampled_from(
    ["a", '"', '""', "1,5", "=cmd|'/C calc'!A0", "a\nb", "\ufeff", "\u200b", "x" * 2_000]
)
DELIMITERS = st.sampled_from([",", ";", "\t", "|", ", ", "::"])
ENDS = st.sampled_from(["\n", "\r\n", "\r", "\n\n", "\x0b", "\x85", "\u2028"])
CODECS = st.sampled_from(["utf-8", "utf-8-sig", "cp1250", "utf-16", "latin-1"])


@st.composite
def tables(draw: st.DrawFn) -> str:
    """The text of a table, more or less: rows may differ in length, and quotes need not end."""
    delimiter, end = draw(DELIMITERS), draw(ENDS)
    rows = draw(st.lists(st.lists(CELLS, max_size=4), max_size=4))
    if draw(st.booleans()):
        rows = [[f'"{cell}"' for cell in row] for row in rows]
    return end.join(delimiter.join(row) for row in rows)


@st.composite
def csv_data(draw: st.DrawFn) -> Any:
    text = draw(tables())
    match draw(st.integers(0, 5)):
        case 0:
            return draw(VALUES)
        case 1 | 2:
            encoded = base64.b64encode(text.encode(draw(CODECS), "replace")).decode()
            return encoded[: draw(st.integers(0, len(encoded)))] if draw(st.booleans()) else encoded
        case 3:
            return text * draw(st.integers(1, 40))
    return text


DATES = st.sampled_from(["", "2026-01-31", "2026-02-30", "31.1.2026", "٢٠٢٦-٠١-٣١", "2026-1-1", "9999-12-31"])


def mostly(good: Any, others: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    return st.integers(0, 2).flatmap(lambda number: st.just(good) if number else others)


ARGUMENTS = st.tuples(
    mostly("Coffee", TEXTS | VALUES),
    mostly("demo", TEXTS | VALUES | st.sampled_from(["..", "a/b", "x" * 201, "%2e"])),
    csv_data(),
    mostly("2026-01-31", DATES | VALUES),
)
MOSTLY_CSV = st.tuples(st.just("Coffee"), st.just("demo"), csv_data(), st.just("2026-01-31"))


def check(arguments: tuple[Any, Any, Any, Any]) -> bool:
    """Whether the arguments are used."""
    try:
        inputs = validate_inputs(*arguments, csv_max_bytes=MAX_BYTES)
    except InputError as error:
        assert len(error.message.splitlines()) == 1 and "Remedy: " in error.message, error.message
        return False
    see(inputs)
    return True


def see(inputs: PipelineInputs) -> None:
    """The text of each can be sent, and all rows have as many values as the table has columns."""
    for text in (inputs.topic, inputs.project_id, inputs.csv_text, inputs.current_date):
        text.encode()
    if inputs.csv_text:
        table = parse_csv(inputs.csv_text)
        assert all(len(row) == len(table.columns) for row in table.rows)
        assert len(render_csv(table)) <= 3 * TABLE_MAX_CHARACTERS + MAX_BYTES


def test_any_csv_is_sent_or_refused_by_one_line() -> None:
    check_each("CSV", MOSTLY_CSV, check, min_share=0.1)


def test_any_arguments_are_used_or_refused_by_one_line() -> None:
    check_each("pipeline arguments", ARGUMENTS, check, min_share=0.1)
