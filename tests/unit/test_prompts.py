"""What an assistant is sent."""

from fleet.contracts import Assignment, Assistant, NamedText
from fleet.pipeline.inputs import CsvTable
from fleet.pipeline.prompts import build_user_message, render_csv


def assistant(input_keys: list[str] | None) -> Assistant:
    return Assistant("draft", "Draft", 2, "openai", "gpt-4o", "Write.", input_keys=input_keys)


def test_the_classic_message_is_the_date_and_the_text_before() -> None:
    assignment = Assignment(assistant(None), None, "2025-01-31", None, [NamedText("brief", "Brief", "The brief.")])
    assert build_user_message(assignment) == "Current date: 2025-01-31\n\nThe brief."


def test_declared_inputs_come_in_a_fixed_order_under_headings() -> None:
    outputs = [NamedText("research", "Research", "Facts."), NamedText("brief", "Brief", "Plan.")]
    assignment = Assignment(assistant(["research", "brief"]), "Kávovar", "2025-01-31", "a,b\n1,2\n", outputs)
    assert build_user_message(assignment).split("\n\n") == [
        "Current date: 2025-01-31",
        "## Topic",
        "Kávovar",
        "## CSV data",
        "| a | b |\n| --- | --- |\n| 1 | 2 |",
        "## Output of Research (research)",
        "Facts.",
        "## Output of Brief (brief)",
        "Plan.",
    ]


def test_a_large_csv_becomes_a_digest_with_its_size_and_columns() -> None:
    table = CsvTable(["keyword", "volume"], [[f"word {number}", str(number)] for number in range(5000)])
    text = render_csv(table)
    assert text.startswith("5000 rows; columns: keyword, volume. The first 30 rows:")
    assert "word 29" in text and "word 30" not in text and len(text) < 20_000


def test_a_cell_cannot_break_its_table() -> None:
    text = render_csv(CsvTable(["a"], [["x|y\nz"]]))
    assert len(text.splitlines()) == 3 and "x\\|y" in text
