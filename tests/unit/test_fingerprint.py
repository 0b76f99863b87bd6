"""The fingerprint of a project follows all that its pipelines depend on."""

from collections.abc import Iterator, Mapping
from typing import Any

from fleet.pipeline.assistants import parse_assistants
from fleet.pipeline.fingerprint import FIELDS, fingerprint_of

ROW = {
    "functionKey": "brief",
    "name": "Brief",
    "order": 1,
    "model_provider": "openai",
    "model": "gpt-4o",
    "system_prompt": "Write.",
}


class Recorded(Mapping[str, Any]):
    """An assistant of the backend's list that records which of its fields are read."""

    def __init__(self, row: Mapping[str, Any]) -> None:
        self._row = row
        self.read: set[str] = set()

    def __getitem__(self, name: str) -> Any:
        self.read.add(name)
        return self._row[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._row)

    def __len__(self) -> int:
        return len(self._row)


def test_its_fields_are_those_that_are_read_of_an_assistant() -> None:
    row = Recorded(ROW)
    parse_assistants(
        [row], "project", default_temperature=0.7, default_max_tokens=None, provider_name=lambda name: name
    )
    assert row.read == set(FIELDS)


def test_another_schema_is_another_project() -> None:
    schema = {"type": "object", "properties": {"title": {"type": "string"}}}
    assert fingerprint_of([ROW]) != fingerprint_of([ROW | {"output_schema": schema}])


def test_another_choice_of_rows_is_another_project() -> None:
    csv = {"rows": {"first": 5}}
    assert len({fingerprint_of([ROW | more]) for more in ({}, {"csv": csv}, {"csv": {"rows": {"first": 6}}})}) == 3
