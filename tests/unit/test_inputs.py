"""A pipeline's own arguments: what is taken, and what is refused with which words."""

import base64
import csv
import time
from collections.abc import Callable
from contextlib import suppress
from importlib.resources import files
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fleet.cli.run import read_inputs
from fleet.contracts import CSV_MAX_BYTES
from fleet.errors import InputError
from fleet.pipeline.inputs import (
    CsvTable,
    PipelineInputs,
    csv_file_text,
    csv_text_of,
    csv_warnings,
    parse_csv,
    validate_inputs,
)

CZECH = "klíčové slovo;hledanost\nžluťoučký kůň;100\n"


def check(
    topic: Any = "Kávovar", project_id: Any = "seo-demo", csv_data: Any = "", current_date: Any = ""
) -> PipelineInputs:
    return validate_inputs(topic, project_id, csv_data, current_date, csv_max_bytes=CSV_MAX_BYTES)


def table_of(csv_data: str) -> CsvTable:
    return parse_csv(csv_text_of(csv_data, CSV_MAX_BYTES))


def encoded(text: str, encoding: str) -> str:
    return base64.b64encode(text.encode(encoding)).decode()


def test_the_four_arguments_come_out_clean() -> None:
    inputs = check(" Jak vybrat kávovar ", "seo-demo", "\ufeffa,b\r\n1,2\r\n", "2025-01-31")
    assert inputs == PipelineInputs("Jak vybrat kávovar", "seo-demo", "a,b\n1,2\n", "2025-01-31")


def test_csv_and_date_may_be_left_out() -> None:
    assert check(csv_data=None, current_date=None) == check()


@pytest.mark.parametrize(
    "csv_data",
    [
        CZECH,
        "\ufeff" + CZECH,
        CZECH.replace("\n", "\r\n"),
        CZECH.replace("\n", "\r"),
        encoded(CZECH, "utf-8"),
        encoded(CZECH, "utf-8-sig"),
        encoded(CZECH, "cp1250"),
        base64.encodebytes((CZECH * 9).encode()).decode(),
    ],
)
def test_one_table_comes_out_of_every_form_of_a_csv(csv_data: str) -> None:
    table = table_of(csv_data)
    assert table.columns == ["klíčové slovo", "hledanost"]
    assert table.rows[0] == ["žluťoučký kůň", "100"]


def test_quoted_values_hold_delimiters_line_breaks_and_quotes() -> None:
    table = table_of('a,b\n"1,5","two\nlines ""quoted"""\n')
    assert table.rows == [["1,5", 'two\nlines "quoted"']]


def test_the_sample_csv_is_read_whole() -> None:
    table = table_of(files("fleet.devstack.sample").joinpath("keywords.csv").read_text("utf-8"))
    assert len(table.rows) == 200 and table.columns[0] == "klíčové slovo"


def test_one_column_of_long_words_is_not_taken_for_base64() -> None:
    assert table_of("keyword\nespressomachine\ncoffeegrinders\n").rows[0] == ["espressomachine"]


PNG = b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR\0\0\1\0\0\0\1\0\x08\6\0\0\0"


REFUSED = [
    ({"topic": ""}, "topic is empty"),
    ({"topic": "  \n "}, "topic is empty"),
    ({"topic": None}, "topic must be a string and is nothing"),
    ({"topic": 7}, "topic must be a string and is a JSON int"),
    ({"topic": {"a": 1}}, "topic must be a string"),
    ({"topic": "a\x00b"}, "U+0000 at position 1"),
    ({"topic": "a\ud800"}, "half of a surrogate pair"),
    ({"topic": "a\u202eb"}, "bidirectional"),
    ({"topic": "x" * 10_001}, "at most 10000"),
    ({"project_id": ""}, "project_id ''"),
    ({"project_id": ".."}, "project_id '..'"),
    ({"project_id": "../etc/passwd"}, "project_id"),
    ({"project_id": "a/b"}, "project_id 'a/b'"),
    ({"project_id": "a b"}, "project_id"),
    ({"project_id": "a%2Fb"}, "project_id"),
    ({"project_id": "x" * 201}, "200 characters"),
    ({"project_id": ["seo-demo"]}, "project_id must be a string"),
    ({"csv_data": "a,b\n1\n"}, "line 2 has 1 columns"),
    ({"csv_data": "a,b\n1,2,3\n"}, "line 2 has 3 columns"),
    ({"csv_data": 'a,b\n"1,2\n'}, "cannot be read"),
    ({"csv_data": 'a,b\n"1"x,2\n'}, "cannot be read"),
    ({"csv_data": "a,b\n1,\x00\n"}, "control character"),
    ({"csv_data": "a,b\n1,\u2066x\n"}, "bidirectional"),
    ({"csv_data": "a,b\n1,\udc00\n"}, "surrogate"),
    ({"csv_data": ["a"]}, "csv_data must be a string"),
    ({"csv_data": ",".join("abcdefghij" * 21) + "\n"}, "at most 200"),
    ({"csv_data": "QUJD" * 5 + "A"}, "looks like base64 but is not"),
    ({"csv_data": base64.b64encode(bytes(range(256))).decode()}, "base64 of something that is not text"),
    ({"csv_data": "a" * 5000}, "has 5,000 letters and digits and no row of values"),
    ({"csv_data": "abcd" * 5000}, "base64 of something that is not text"),
    ({"csv_data": encoded("ключевое слово;объём\nкофемашина;100\n", "cp1251")}, "base64 of nothing that is a CSV"),
    ({"csv_data": base64.b64encode(PNG).decode()}, "is base64 of a PNG image, and something that is not text"),
    (
        {"csv_data": base64.b64encode(b"PK\x03\x04\x14\0\6\0\x08\0\0\0").decode()},
        "base64 of a ZIP archive, such as",
    ),
    ({"csv_data": encoded("\ufeff" + CZECH, "utf-16-le")}, "is base64 of UTF-16 or UTF-32 text"),
    ({"csv_data": encoded(CZECH, "utf-16-le")}, "is base64 of UTF-16 text"),
    ({"csv_data": CZECH.encode("utf-16-le").decode("latin-1")}, "is UTF-16 text that was read as something else"),
    ({"csv_data": PNG.decode("latin-1")}, "is a PNG image that was read as something else"),
    ({"csv_data": PNG.decode("utf-8", "replace").replace("\ufffd", "?")}, "is a PNG image that was read"),
    ({"csv_data": "%PDF-1.4\n1 0 obj\n"}, "is a PDF"),
    ({"csv_data": "a\n" + "x" * CSV_MAX_BYTES}, "at most 1,000,000"),
    ({"csv_data": encoded("a;b\n" + "x;y\n" * 260_000, "utf-8")}, "at most 1,000,000"),
    ({"current_date": "31.1.2025"}, "is not a valid date"),
    ({"current_date": "2025-02-30"}, "is not a valid date"),
    ({"current_date": "20250131"}, "is not a valid date"),
    ({"current_date": 20250131}, "current_date must be a string"),
]


@pytest.mark.parametrize(("arguments", "said"), REFUSED, ids=range(len(REFUSED)))
def test_what_cannot_be_used_is_refused_by_name_with_a_remedy(arguments: dict[str, Any], said: str) -> None:
    with pytest.raises(InputError) as caught:
        check(**arguments)
    assert said in str(caught.value) and "Remedy:" in str(caught.value)
    assert next(iter(arguments)) in str(caught.value)


FILES: list[tuple[bytes, str]] = [
    (b"", "is empty"),
    (b"\xef\xbb\xbf \r\n", "is empty"),
    (PNG, "is a PNG image, not a CSV"),
    (b"\xff\xd8\xff\xe0\0\x10JFIF", "is a JPEG image, not a CSV"),
    (b"RIFF\x24\0\0\0WEBPVP8 ", "is a WebP image, not a CSV"),
    (b"PK\x03\x04\x14\0", "is a ZIP archive, such as an Excel workbook (.xlsx), not a CSV"),
    (b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1", "is an old Excel workbook (.xls), not a CSV"),
    (b"%PDF-1.7\n%", "is a PDF, not a CSV"),
    (CZECH.encode("utf-16"), "is UTF-16 or UTF-32 text, not a CSV"),
    (CZECH.encode("utf-16-be"), "is UTF-16 text, not a CSV"),
    ("ключевое слово;объём\nкофемашина;100\n".encode("cp1251"), "is not text in UTF-8 or cp1250"),
    (bytes(range(128, 256)), "is not text in UTF-8 or cp1250"),
]


@pytest.mark.parametrize(("raw", "said"), FILES, ids=[said for _, said in FILES])
def test_a_file_that_is_not_a_csv_is_refused_by_what_it_is(raw: bytes, said: str) -> None:
    with pytest.raises(InputError) as caught:
        csv_file_text(raw)
    assert str(caught.value).startswith(f"{said}. Remedy: ")


@pytest.mark.parametrize("beginning", ["", "x", "xx"])
def test_a_csv_file_that_is_too_large_is_refused_by_its_size(tmp_path: Path, beginning: str) -> None:
    """Wherever the bytes that are read end: within a character, too."""
    file = tmp_path / "large.csv"
    file.write_text(beginning + "列;値\n" + "日本語テキスト;1\n" * 200_000, "utf-8")
    with pytest.raises(InputError) as caught:
        read_inputs("t", "p", file, None)
    assert "large.csv has more than 2,000,000 bytes, at most 1,000,000" in str(caught.value)
    assert "Remedy: use fewer rows or columns" in str(caught.value)


def test_a_large_file_of_another_kind_is_refused_by_what_it_is(tmp_path: Path) -> None:
    file = tmp_path / "large.csv"
    file.write_bytes(PNG + bytes(2 * CSV_MAX_BYTES))
    with pytest.raises(InputError, match="is a PNG image, not a CSV"):
        read_inputs("t", "p", file, None)


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "cp1250"])
def test_a_csv_file_is_read_in_each_encoding(encoding: str) -> None:
    assert csv_file_text(CZECH.encode(encoding)) == CZECH


@pytest.mark.parametrize(
    ("csv_data", "warned"),
    [
        ("", ""),
        (None, ""),
        (CZECH, ""),
        ("a,b\n\n1,2", ""),
        (" \n", "csv_data has only white space, and counts as not given"),
        ("a,b\n\n", "csv_data has a header and no rows: send a CSV with rows, or none"),
        ("a,b" + "\n" * 10_000 + " 1,2", ""),
        ('a,b\n"\n\n 1",2', ""),
        ("a\tb\n\t\n", "csv_data has a header and no rows: send a CSV with rows, or none"),
        ('"a\nb",c', "csv_data has a header and no rows: send a CSV with rows, or none"),
        (encoded("klíčové slovo;hledanost", "cp1250"), "csv_data has a header and no rows"),
        ("k\ufffdvovar\nml\ufffdnek\n", "csv_data has 2 characters that were lost when it was decoded (U+FFFD)"),
    ],
)
def test_a_csv_that_says_little_is_taken_with_a_warning(csv_data: Any, warned: str) -> None:
    warnings = csv_warnings(csv_data, check(csv_data=csv_data).csv_text)
    assert [warning[: len(warned)] for warning in warnings] == ([warned] if warned else [])


def test_a_field_may_be_as_long_as_the_csv_beside_others_that_are_read() -> None:
    """csv's limit of a field is the whole process's, and pipelines are read in many threads."""
    limit, long = csv.field_size_limit(), "x" * 500_000
    assert table_of("a,b\n1,2\n").rows == [["1", "2"]]
    assert csv.field_size_limit() == limit
    assert table_of(f"a,b\n1,{long}\n").rows == [["1", long]]


HALF = CSV_MAX_BYTES // 20
HOSTILE: dict[str, Callable[[int], str]] = {
    "a word, many empty lines, a row": lambda size: "keyword" + "\n" * size + "a,b",
    "a word, many spaces, a sign": lambda size: "keyword" + " " * size + "!",
    "padding in the middle": lambda size: "QUJD" * (size // 4) + "=" * 3,
    "base64": lambda size: encoded("a;b\n" + "x;y\n" * (size // 6), "utf-8"),
    "base64 in lines": lambda size: base64.encodebytes(b"a;b\n" + b"x;y\n" * (size // 6)).decode(),
    "one long field": lambda size: "a,b\n1," + "x" * size,
    "empty lines": lambda size: "a,b" + "\n" * size,
    "quotes": lambda size: "a,b\n" + '"",1\n' * (size // 5),
    "a quote that never ends": lambda size: 'a,b\n"' + '""' * (size // 2),
    "delimiters": lambda size: "," * size,
    "rows": lambda size: "a;b\n" + "x;y\n" * (size // 4),
}


@pytest.mark.parametrize("kind", HOSTILE)
def test_a_csv_of_twice_the_size_takes_about_twice_the_time(kind: str) -> None:
    """Whatever it is: it runs inside the workflow, and a worker that it holds up is killed."""

    def cpu_seconds(csv_data: str) -> float:
        began = time.thread_time()
        with suppress(InputError):
            table_of(csv_data)
        return time.thread_time() - began

    half, whole = HOSTILE[kind](HALF), HOSTILE[kind](2 * HALF)
    # One pair of ten is enough: other load slows some down, and nothing speeds up what takes too long. Below a few
    # milliseconds the clock's steps show.
    assert any(cpu_seconds(whole) <= 2.5 * cpu_seconds(half) + 0.02 for _ in range(10))


@settings(max_examples=25, deadline=None)
@given(st.sampled_from(["topic", "project_id", "csv_data", "current_date"]), st.text(min_size=1, max_size=12))
def test_whatever_is_repeated_in_an_argument_its_check_takes_time_as_its_size_does(name: str, part: str) -> None:
    def cpu_seconds(times: int) -> float:
        arguments: dict[str, Any] = {"topic": "t", "project_id": "p", name: part * times}
        began = time.thread_time()
        with suppress(InputError):
            check(**arguments)
        return time.thread_time() - began

    half = HALF // len(part)
    assert min(cpu_seconds(2 * half) for _ in range(2)) <= 2.5 * min(cpu_seconds(half) for _ in range(2)) + 0.02


json_values = st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.lists(st.text())


@given(st.tuples(json_values, json_values, json_values, json_values))
def test_whatever_comes_is_taken_or_refused_and_nothing_else(arguments: tuple[Any, ...]) -> None:
    try:
        inputs = validate_inputs(*arguments, csv_max_bytes=CSV_MAX_BYTES)
    except InputError as error:
        assert str(error).encode()
    else:
        assert inputs.topic and inputs.project_id
        assert "".join(vars(inputs).values()).encode()


@given(st.text())
def test_any_text_as_csv_is_a_table_with_even_rows_or_refused(text: str) -> None:
    try:
        table = table_of(text)
    except InputError:
        return
    assert all(len(row) == len(table.columns) for row in table.rows)
