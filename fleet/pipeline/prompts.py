"""The two messages that are sent for an assistant, built in one place. Pure.

The order of the user message is fixed: date, topic, CSV, then the outputs of earlier assistants as ``input_keys``
names them. An assistant without ``input_keys`` gets its one text without a heading. An assistant with a template
gets what the template says instead.
"""

import re

from fleet.contracts import CSV_KEY, DATE_KEY, TOPIC_KEY, Assignment
from fleet.pipeline.csv_selection import SelectedRows, select_rows
from fleet.pipeline.inputs import CsvTable, parse_csv
from fleet.pipeline.templates import render_template

#: A CSV of up to this many rows and characters is sent as a whole table, a larger one as a digest.
TABLE_MAX_ROWS = 100
TABLE_MAX_CHARACTERS = 20_000
DIGEST_ROWS = 30
CELL_MAX_CHARACTERS = 200

#: Rough, for estimates before a call: English has about 4 characters per token, Czech about 2.7.
CHARACTERS_PER_TOKEN = 3.2
#: The pieces of a text each of which is at least one token: up to 16 letters of a word, up to four digits, two or
#: more other signs. Letters are those of any script. White space and a single sign may belong to the word behind
#: them. Tokenizers divide a text into words first, and join no two of them.
_OTHER_SIGNS = r"!-/:-@\[-`{-~"
_LETTER = rf"[^\s\d{_OTHER_SIGNS}]"
_PIECE = re.compile(rf"(?:{_LETTER}|['’](?={_LETTER})){{1,16}}|\d{{1,4}}|[{_OTHER_SIGNS}]{{2,}}")


def build_user_message(assignment: Assignment) -> str:
    """The user message of one assistant."""
    if assignment.assistant.user_template is not None:
        return render_template(assignment.assistant.user_template, _values(assignment))
    with_headings = assignment.assistant.input_keys is not None
    parts = []
    if assignment.current_date:
        parts.append(f"Current date: {assignment.current_date}")
    if assignment.topic is not None:
        parts.append(_section("Topic", assignment.topic) if with_headings else assignment.topic)
    if assignment.csv_data:
        parts.append(_section("CSV data", _csv_text(assignment)))
    for output in assignment.outputs:
        text = output.text
        parts.append(_section(f"Output of {output.name} ({output.key})", text) if with_headings else text)
    return "\n\n".join(parts)


def build_system_prompt(assignment: Assignment) -> str:
    """The system prompt of one assistant."""
    assistant = assignment.assistant
    if not assistant.system_template:
        return assistant.system_prompt
    return render_template(assistant.system_prompt, _values(assignment))


def _values(assignment: Assignment) -> dict[str, str]:
    """The inputs of an assistant by name, as its template places them."""
    return {
        TOPIC_KEY: assignment.topic or "",
        DATE_KEY: assignment.current_date or "",
        CSV_KEY: _csv_text(assignment),
    } | {output.key: output.text for output in assignment.outputs}


def _csv_text(assignment: Assignment) -> str:
    """What the assistant reads of the CSV; empty without one."""
    assistant = assignment.assistant
    if not assignment.csv_data:
        return ""
    if assistant.csv is None:
        return render_csv(parse_csv(assignment.csv_data))
    return render_selected(select_rows(assistant.function_key, assistant.csv, parse_csv(assignment.csv_data)))


def _section(heading: str, text: str) -> str:
    return f"## {heading}\n\n{text}"


def render_csv(table: CsvTable) -> str:
    """A CSV as a Markdown table: all of it if it is small, otherwise its size, its columns and its first rows."""
    whole = _markdown(table.columns, table.rows)
    if len(table.rows) <= TABLE_MAX_ROWS and len(whole) <= TABLE_MAX_CHARACTERS:
        return whole
    shown = _rows_within(table, TABLE_MAX_CHARACTERS)
    return (
        f"{len(table.rows)} rows; columns: {', '.join(table.columns)}. "
        f"The first {len(shown)} rows:\n\n{_markdown(table.columns, shown)}"
    )


def render_selected(selected: SelectedRows) -> str:
    """The chosen part of a CSV as a Markdown table, with a line that says what it is a part of. Rows that were
    chosen are all there; of rows that were not, as many as of a CSV without a choice."""
    table, how = selected.table, selected.how
    if selected.all and not _is_small(table):
        table, how = CsvTable(table.columns, _rows_within(table, TABLE_MAX_CHARACTERS)), "the first"
    rows = f"{len(table.rows)} of {selected.total} rows" + (f" ({how})" if how else "")
    columns = f"{len(table.columns)} of {selected.width} columns: {', '.join(map(_cell, table.columns))}"
    return f"{rows}; {columns}.\n\n{_markdown(table.columns, table.rows)}"


def _is_small(table: CsvTable) -> bool:
    return len(table.rows) <= TABLE_MAX_ROWS and len(_markdown(table.columns, table.rows)) <= TABLE_MAX_CHARACTERS


def _rows_within(table: CsvTable, characters: int) -> list[list[str]]:
    """The first rows of a digest, fewer if they are long."""
    shown: list[list[str]] = []
    for row in table.rows[:DIGEST_ROWS]:
        characters -= len(_line(row))
        if characters < 0:
            break
        shown.append(row)
    return shown


def _markdown(columns: list[str], rows: list[list[str]]) -> str:
    return "\n".join([_line(columns), _line(["---"] * len(columns)), *map(_line, rows)])


def _line(cells: list[str]) -> str:
    return f"| {' | '.join(_cell(cell) for cell in cells)} |"


def _cell(text: str) -> str:
    flat = " ".join(text.split()).replace("|", "\\|")
    return flat if len(flat) <= CELL_MAX_CHARACTERS else flat[: CELL_MAX_CHARACTERS - 1] + "…"


def estimate_tokens(text: str) -> int:
    """The estimated number of tokens in a text; at least 1."""
    return max(1, round(len(text) / CHARACTERS_PER_TOKEN))


def min_tokens(text: str) -> int:
    """The tokens that a text has at least: about three quarters of the real number for English, less than half for
    Czech and for numbers. A text that exceeds a limit by this count does so by every model's own."""
    return len(_PIECE.findall(text))
