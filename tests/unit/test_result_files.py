"""Files of results: outputs come from models, and a file of theirs must stay text."""

import json
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from fleet.control.pipelines.result_files import Format, file_name, rendered, write_result
from fleet.errors import OperationError

HOSTILE = '</pre><script>alert(1)</script><img src=x onerror=alert(2)> & "quoted" \ud800'
DETAIL: dict[str, Any] = {
    "workflow_id": "p-1",
    "project_id": "<b>project</b>",
    "topic": "<script>topic</script>",
    "status": "failed",
    "error": {"code": "x", "message": "<i>refused</i>"},
    "stages": [
        {
            "name": "<u>Writer</u>",
            "provider": "openai",
            "model": "m",
            "state": "done",
            "simulated": True,
            "output": HOSTILE,
        },
        {
            "name": "Later",
            "provider": "openai",
            "model": "m",
            "state": "waiting",
            "simulated": False,
            "output": "",
        },
    ],
}


class Tags(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.names: set[str] = set()
        self.text = ""

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.names.add(tag)

    def handle_data(self, data: str) -> None:
        self.text += data


def test_in_html_every_text_from_outside_is_text() -> None:
    page = Tags()
    page.feed(rendered(DETAIL, Format.HTML))
    assert page.names == {"html", "head", "meta", "title", "style", "body", "h1", "h2", "p", "pre"}
    assert "<script>alert(1)</script>" in page.text and "<u>Writer</u>" in page.text


def test_markdown_has_each_output_under_its_assistant() -> None:
    text = rendered(DETAIL, Format.MD)
    assert text.startswith("# <script>topic</script>\n\np-1, project <b>project</b>: failed: <i>refused</i>\n")
    assert "## <u>Writer</u>\n\n(openai/m, simulated)\n\n</pre><script>" in text and "Later" not in text


def test_json_is_the_object_of_the_command() -> None:
    assert json.loads(rendered(DETAIL, Format.JSON)) == DETAIL


@pytest.mark.parametrize(
    ("workflow_id", "name"),
    [
        ("seo-1", "seo-1"),
        ("../../etc/passwd", "etc-passwd"),
        (".hidden", "hidden"),
        ("a b/č", "a-b-"),
        ("/", "pipeline"),
    ],
)
def test_a_foreign_workflow_id_cannot_leave_the_folder(workflow_id: str, name: str) -> None:
    assert file_name(workflow_id) == name


def test_a_folder_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(OperationError, match=r"file is not a folder\. Remedy: name a folder with --out"):
        write_result(DETAIL, Format.MD, tmp_path / "file")
    with pytest.raises(OperationError, match=r"cannot be written .* Remedy: name another folder with --out"):
        write_result(DETAIL, Format.MD, Path("/proc/nowhere"))
