"""Which columns and rows of the CSV an assistant reads, and what a selection is refused for."""

import random
from typing import Any

import pytest

from fleet.contracts import Assignment, Assistant, CsvSelection
from fleet.errors import AssistantDamaged, InputError
from fleet.pipeline.assistants import parse_assistants
from fleet.pipeline.csv_selection import SelectionError, refuse_selections, select_rows, selection_of
from fleet.pipeline.inputs import csv_text_of, parse_csv
from fleet.pipeline.prompts import build_user_message

CSV = "keyword,volume,note\nkávovar,1200,a\nmlýnek,300,b\npákový kávovar,,c\nkonvice,4500,d\nfiltr,90,e\n"


def message(csv: str, selection: dict[str, Any] | None, template: str | None = None) -> str:
    chosen = None if selection is None else selection_of(selection)
    assistant = Assistant(
        "draft", "Draft", 1, "openai", "gpt-4o", "Write.", input_keys=["csv"], user_template=template, csv=chosen
    )
    return build_user_message(Assignment(assistant, None, None, csv_text_of(csv, 1_000_000), []))


def column(selection: dict[str, Any], csv: str = CSV, place: int = 0) -> list[str]:
    return [row[place] for row in select_rows("draft", selection_of(selection), parse_csv(csv)).table.rows]


def test_the_message_says_how_many_rows_and_columns_of_how_many() -> None:
    said = message(CSV, {"columns": ["volume", "keyword"], "rows": {"top": 2, "by": "volume"}})
    assert said == (
        "## CSV data\n\n2 of 5 rows (those with the largest volume, largest first); 2 of 3 columns: volume, "
        "keyword.\n\n| volume | keyword |\n| --- | --- |\n| 4500 | konvice |\n| 1200 | kávovar |"
    )
    assert message(CSV, {"rows": {"first": 1}}, "{{csv}}") == (
        "1 of 5 rows (the first); 3 of 3 columns: keyword, volume, note."
        "\n\n| keyword | volume | note |\n| --- | --- | --- |\n| kávovar | 1200 | a |"
    )


def test_columns_alone_leave_all_rows_or_the_first_of_a_large_csv() -> None:
    assert message(CSV, {"columns": ["keyword"]}).startswith(
        "## CSV data\n\n5 of 5 rows; 1 of 3 columns: keyword."
    )
    large = "keyword,volume\n" + "".join(f"word {number},{number}\n" for number in range(5000))
    said = message(large, {"columns": ["keyword"]})
    assert said.startswith("## CSV data\n\n30 of 5000 rows (the first); 1 of 2 columns: keyword.")
    assert "| word 29 |" in said and "word 30" not in said


def test_rows_that_are_chosen_are_all_there() -> None:
    large = "keyword,volume\n" + "".join(f"word {number},{number}\n" for number in range(5000))
    said = message(large, {"rows": {"first": 3000}})
    assert said.startswith("## CSV data\n\n3000 of 5000 rows") and said.count("\n| word ") == 3000
    assert column({"rows": {"first": 9999}}, large) == [f"word {number}" for number in range(5000)]


def test_a_sample_is_the_same_every_time_and_another_for_another_seed() -> None:
    large = "n\n" + "".join(f"{number}\n" for number in range(1000))
    drawn = column({"rows": {"sample": 5, "seed": 7}}, large)
    assert drawn == ["130", "422", "548", "645", "745"], "of any release and any version of Python"
    assert drawn == column({"rows": {"sample": 5, "seed": 7}}, large)
    assert drawn != column({"rows": {"sample": 5}}, large) == column({"rows": {"sample": 5, "seed": 0}}, large)
    assert column({"rows": {"sample": 2000}}, large) == [str(number) for number in range(1000)]


@pytest.mark.parametrize(
    "csv",
    [
        '\ufeffkeyword;volume\r\n"a;\nb";1\r\nc;20\r\n',
        'keyword\tvolume\n"a;\nb"\t1\nc\t20\n',
        'keyword,volume\n"a;\nb",1\n\nc,20\n',
    ],
)
def test_it_is_read_as_every_csv_is(csv: str) -> None:
    assert "| volume |\n| --- |\n| 20 |\n| 1 |" in message(
        csv, {"columns": ["volume"], "rows": {"top": 5, "by": "volume"}}
    )
    assert "| a; b |" in message(csv, {"columns": ["keyword"]})


@pytest.mark.parametrize(
    ("numbers", "ranked"),
    [
        (["2", "10", "-3"], ["10", "2", "-3"]),
        (["0,5", "1,25", "12"], ["12", "1,25", "0,5"]),
        (["1,200", "900", "12,000"], ["12,000", "1,200", "900"]),
        (["1.234.567,8", "99", "1.5"], ["1.234.567,8", "99", "1.5"]),
        (["1,234.5", "1300", "2"], ["1300", "1,234.5", "2"]),
        (["1 200", "1\u00a0300", "900"], ["1\u00a0300", "1 200", "900"]),
        (["12 %", "7%", "100 %"], ["100 %", "12 %", "7%"]),
        (["1e3", "999", "1.5e3"], ["1.5e3", "1e3", "999"]),
        (["n/a", "5", "-", "", "7"], ["7", "5"]),
        (["3", "3", "3"], ["3", "3", "3"]),
    ],
)
def test_numbers_are_ordered_as_people_write_them(numbers: list[str], ranked: list[str]) -> None:
    csv = "name;volume\n" + "".join(f'x;"{number}"\n' for number in numbers)
    assert column({"rows": {"top": 9, "by": "volume"}}, csv, 1) == ranked


REFUSED_BY_THE_CSV = [
    (
        {"columns": ["keyword", "volum"]},
        "has no column 'volum', the nearest is 'volume'; it has keyword, volume, note. Remedy: correct fleet.csv",
    ),
    ({"columns": ["Keyword"]}, "has no column 'Keyword', the nearest is 'keyword'"),
    ({"columns": ["price"]}, "has no column 'price'; it has keyword"),
    ({"rows": {"top": 3, "by": "volumes"}}, "has no column 'volumes', the nearest is 'volume'"),
    (
        {"rows": {"top": 3, "by": "note"}},
        "the rows with the largest 'note' cannot be chosen, since row 1 has 'a' there",
    ),
]


@pytest.mark.parametrize(("selection", "said"), REFUSED_BY_THE_CSV)
def test_what_the_csv_lacks_is_said_with_the_assistant_and_a_remedy(selection: dict[str, Any], said: str) -> None:
    with pytest.raises(InputError) as caught:
        message(CSV, selection)
    assert str(caught.value).startswith("assistant draft: the ") and said in str(caught.value)
    assert ". Remedy: " in str(caught.value) and not caught.value.retryable


def test_a_pipeline_looks_at_the_rows_of_a_small_csv_and_at_the_header_of_a_large_one() -> None:
    by_note = [Assistant("a", "A", 1, "o", "m", "s", input_keys=["csv"], csv=CsvSelection(top=1, by="note"))]
    refuse_selections(by_note, CSV, in_full=False)
    refuse_selections(by_note, "", in_full=True)
    with pytest.raises(InputError, match="cannot be chosen"):
        refuse_selections(by_note, CSV, in_full=True)
    with pytest.raises(InputError, match="has no column 'note'; it has n"):
        refuse_selections(by_note, "n\n1\n", in_full=False)


BROKEN: list[tuple[Any, str]] = [
    ([], "is not an object"),
    ({}, "is not an object"),
    ({"columns": None}, "chooses nothing"),
    ({"cols": ["a"]}, "has 'cols'"),
    ({"columns": []}, "columns is []"),
    ({"columns": "a"}, "columns is 'a'"),
    ({"columns": ["a", 1]}, "columns is ['a', 1]"),
    ({"columns": ["a", " "]}, "columns is ['a', ' ']"),
    ({"columns": ["\ud800"]}, "columns is "),
    ({"columns": ["a", "a "]}, "columns names 'a' twice"),
    ({"rows": 5}, "rows is 5"),
    ({"rows": {}}, "rows is {}"),
    ({"rows": {"first": 1, "top": 2}}, "rows is {'first': 1, 'top': 2}"),
    ({"rows": {"first": 0}}, "rows.first is 0"),
    ({"rows": {"first": True}}, "rows.first is True"),
    ({"rows": {"first": 1.5}}, "rows.first is 1.5"),
    ({"rows": {"first": 1, "by": "a"}}, "rows has 'by'"),
    ({"rows": {"top": 5}}, "rows has top without by"),
    ({"rows": {"top": 5, "by": 3}}, "rows has top without by"),
    ({"rows": {"sample": 5, "seed": -1}}, "rows.seed is -1"),
    ({"rows": {"sample": 5, "seed": "x"}}, "rows.seed is 'x'"),
]


@pytest.mark.parametrize(("value", "said"), BROKEN)
def test_a_selection_that_cannot_be_used_says_why(value: Any, said: str) -> None:
    with pytest.raises(SelectionError) as caught:
        selection_of(value)
    assert caught.value.says.startswith(said) and caught.value.remedy


@pytest.mark.parametrize("seed", range(200))
def test_whatever_a_backend_sends_is_a_selection_or_refused(seed: int) -> None:
    chance = random.Random(seed)
    parts: list[Any] = [
        None,
        True,
        3,
        -1,
        10**30,
        2.5,
        "a",
        "",
        [],
        ["a"],
        ["a", None],
        {"first": 2},
        {"top": 2, "by": "a"},
    ]
    names = ["columns", "rows", "first", 7, "x"]
    value: Any = {chance.choice(names): chance.choice(parts) for _ in range(chance.randint(0, 3))}
    try:
        selection_of(value)
    except SelectionError as error:
        assert error.says and error.remedy


ROW: dict[str, Any] = {
    "functionKey": "brief",
    "name": "Brief",
    "order": 1,
    "model_provider": "openai",
    "model": "gpt-4o",
    "system_prompt": "Write.",
    "input_keys": ["csv"],
}


def parsed(**changes: Any) -> Assistant:
    (assistant,) = parse_assistants(
        [ROW | changes], "p", default_temperature=0.7, default_max_tokens=None, provider_name=str
    )
    return assistant


def test_the_backend_may_send_a_selection_and_its_worker_must_know_it() -> None:
    assistant = parsed(csv={"columns": ["a"], "rows": {"sample": 5, "seed": 2}})
    assert assistant.csv == CsvSelection(columns=["a"], sample=5, seed=2) and assistant.needs == ["csv"]
    assert parsed().csv is None and parsed(csv=None).needs == []


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"csv": "all"}, "assistant brief: csv is not an object. Remedy: name columns, rows, or both"),
        (
            {"csv": {"rows": {"first": 2}}, "input_keys": ["topic"]},
            "which it does not read. Remedy: add csv to input_keys",
        ),
    ],
)
def test_a_selection_of_the_backend_is_checked_when_it_is_loaded(changes: dict[str, Any], said: str) -> None:
    with pytest.raises(AssistantDamaged) as caught:
        parsed(**changes)
    assert said in str(caught.value)
