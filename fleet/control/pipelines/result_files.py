"""A pipeline's outputs as a file: Markdown, JSON, or HTML in which every output is text and never a page."""

import json
import re
from collections.abc import Mapping
from enum import StrEnum
from html import escape
from pathlib import Path
from typing import Any

from fleet.errors import OperationError
from fleet.process.atomic_file import write_atomically

Json = Mapping[str, Any]
_NAME_MAX_BYTES = 150


class Format(StrEnum):
    """The form of a result file; its value is the file's suffix."""

    MD = "md"
    JSON = "json"
    HTML = "html"


def write_result(detail: Json, form: Format, folder: Path) -> Path:
    """Write one pipeline, in the form of ``fleet show --json``, to ``<folder>/<workflow id>.<form>``.

    Raises:
        OperationError: the folder cannot be written to.
    """
    return _write(folder / f"{file_name(detail['workflow_id'])}.{form.value}", rendered(detail, form))


def write_index(folder: Path, text: str) -> Path:
    """Write the index of many results, ``<folder>/index.csv``.

    Raises:
        OperationError: the folder cannot be written to.
    """
    return _write(folder / "index.csv", text)


def _write(path: Path, text: str) -> Path:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(path, text)
    except (FileExistsError, NotADirectoryError):
        raise OperationError(f"{path.parent} is not a folder. Remedy: name a folder with --out") from None
    except OSError as error:
        raise OperationError(
            f"{path} cannot be written ({error.strerror or error}). Remedy: name another folder with --out"
        ) from None
    return path


def file_name(workflow_id: str) -> str:
    """A workflow id as a file's name; any client may have chosen the id."""
    harmless = re.sub(r"[^A-Za-z0-9._-]+", "-", workflow_id).lstrip(".-")
    return harmless[:_NAME_MAX_BYTES] or "pipeline"


def rendered(detail: Json, form: Format) -> str:
    """The text of a result file."""
    match form:
        case Format.MD:
            return _markdown(detail)
        case Format.HTML:
            return _html(detail)
        case Format.JSON:
            return json.dumps(detail, ensure_ascii=False, indent=2) + "\n"


def _about(detail: Json) -> str:
    said = f"{detail['workflow_id']}, project {detail['project_id']}: {detail['status']}"
    return f"{said}: {detail['error']['message']}" if detail["error"] else said


def _origin(stage: Json) -> str:
    return f"{stage['provider']}/{stage['model']}" + (", simulated" if stage["simulated"] else "")


def _markdown(detail: Json) -> str:
    parts = [f"# {_line(detail['topic'])}", _line(_about(detail))]
    for stage in _answered(detail):
        parts += [f"## {_line(stage['name'])}", f"({_line(_origin(stage))})", stage["output"]]
    return _encodable("\n\n".join(parts) + "\n")


def _html(detail: Json) -> str:
    """Every text from outside is escaped and stands in a ``pre``; the policy forbids scripts and all requests."""
    parts = [f"<h1>{escape(detail['topic'])}</h1>", f"<p>{escape(_about(detail))}</p>"]
    for stage in _answered(detail):
        parts.append(f"<h2>{escape(stage['name'])}</h2><p>{escape(_origin(stage))}</p>")
        parts.append(f"<pre>{escape(stage['output'])}</pre>")
    return _encodable(
        "<!doctype html>\n"
        '<html><head><meta charset="utf-8">\n'
        '<meta http-equiv="content-security-policy" '
        "content=\"default-src 'none'; style-src 'unsafe-inline'\">\n"
        f"<title>{escape(detail['topic'])}</title>\n"
        "<style>body{font-family:sans-serif;max-width:50rem;margin:2rem auto;padding:0 1rem}"
        "pre{white-space:pre-wrap;overflow-wrap:anywhere;font-family:inherit}</style></head>\n"
        f"<body>{chr(10).join(parts)}</body></html>\n"
    )


def _answered(detail: Json) -> list[Json]:
    return [stage for stage in detail["stages"] if stage["state"] == "done"]


def _line(text: str) -> str:
    return " ".join(text.split())


def _encodable(text: str) -> str:
    """Without lone surrogates, which no file can hold."""
    return text.encode("utf-8", "replace").decode("utf-8")
