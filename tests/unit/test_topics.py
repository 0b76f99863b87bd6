"""A file of topics: what is read of it, and that the ids of its pipelines stay the same."""

from pathlib import Path

import pytest

from fleet.cli.topics import Row, read_topics
from fleet.errors import InputError


def rows(path: Path, text: str, column: str | None = None) -> list[Row]:
    path.write_text(text, "utf-8")
    return read_topics(path, "seo-demo", column)


def test_a_text_file_has_a_topic_on_each_line(tmp_path: Path) -> None:
    found = rows(tmp_path / "týden 5.txt", "Kávovar\r\n\n  Mlýnek, ruční\n")
    assert [(row.number, row.topic) for row in found] == [(1, "Kávovar"), (3, "Mlýnek, ruční")]
    assert all(row.workflow_id.startswith("seo-demo-t-den-5-") for row in found)


def test_a_csv_file_has_its_topics_in_a_column(tmp_path: Path) -> None:
    text = "id;topic;nadpis\n1;Kávovar;A\n2;Mlýnek;B\n"
    assert [row.topic for row in rows(tmp_path / "a.csv", text)] == ["Kávovar", "Mlýnek"]
    assert [row.topic for row in rows(tmp_path / "a.csv", text, "nadpis")] == ["A", "B"]


def test_ids_stay_when_rows_are_added_removed_or_moved(tmp_path: Path) -> None:
    before = {row.topic: row.workflow_id for row in rows(tmp_path / "a.txt", "Kávovar\nMlýnek\nFiltr\n")}
    after = {row.topic: row.workflow_id for row in rows(tmp_path / "a.txt", "Filtr\nNový\nKávovar\n")}
    assert after["Kávovar"] == before["Kávovar"] and after["Filtr"] == before["Filtr"]
    other = {row.topic: row.workflow_id for row in rows(tmp_path / "b.txt", "Kávovar\n")}
    assert other["Kávovar"] != before["Kávovar"], "another file is another batch"


def test_a_topic_that_stands_there_twice_has_two_pipelines(tmp_path: Path) -> None:
    assert len({row.workflow_id for row in rows(tmp_path / "a.txt", "Kávovar\nKávovar\n")}) == 2


WRONG = [
    ("a.csv", "nadpis\nA\n", None, r"has no column 'topic'\. Remedy: .*--column: nadpis"),
    ("a.csv", 'topic\n"A\n', None, r"the topics file .*a\.csv cannot be read"),
    ("a.txt", "\n\n", None, "has no topic"),
    ("a.txt", "A\n", "topic", r"is not a \.csv file"),
    ("a.txt", "A\n" + "x" * 100_000, None, r"row 2 of .*a\.txt: topic has 100000 characters"),
]


@pytest.mark.parametrize(("name", "text", "column", "said"), WRONG)
def test_a_file_that_cannot_be_used_is_named(
    tmp_path: Path, name: str, text: str, column: str | None, said: str
) -> None:
    with pytest.raises(InputError, match=said):
        rows(tmp_path / name, text, column)
    with pytest.raises(InputError, match=r"missing\.txt cannot be read"):
        read_topics(tmp_path / "missing.txt", "seo-demo")
