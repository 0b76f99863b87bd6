"""Writes a project's folder from assistants as the Backend API's contract has them."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from fleet.errors import OperationError
from fleet.pipeline.templates import escaped
from fleet.projects.prompt_file import KEY, OPTION_KEYS, SUFFIX


def write_project(folder: Path, assistants: list[Mapping[str, Any]]) -> list[Path]:
    """Write one file per assistant into a folder that does not exist yet, or is empty; returns the files.

    Raises:
        OperationError: the folder has files already, or cannot be written.
    """
    width = max((len(str(abs(row["order"]))) for row in assistants), default=1)
    return write_files(folder, {file_name(row, max(width, 2)): prompt_text(row) for row in assistants})


def write_files(folder: Path, texts: Mapping[str, str]) -> list[Path]:
    """Write these files, by name, into a folder that does not exist yet, or is empty.

    Raises:
        OperationError: the folder has files already, or cannot be written.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        if any(folder.iterdir()):
            raise OperationError(f"{folder} is not empty. Remedy: remove it, or choose another name or --dir")
        for name, text in texts.items():
            (folder / name).write_text(text, "utf-8")
    except OSError as error:
        raise OperationError(
            f"{folder} cannot be written ({error.strerror}). Remedy: choose another folder with --dir"
        ) from None
    return [folder / name for name in texts]


def file_name(row: Mapping[str, Any], width: int) -> str:
    """The name of an assistant's file: its order, then its functionKey."""
    if not KEY.fullmatch(row["functionKey"]):
        raise OperationError(
            f"functionKey {row['functionKey']!r:.60} cannot be a file's name. Remedy: rename it in the backend to "
            "letters, digits, - and _"
        )
    number = f"{row['order']:0{width}d}-" if row["order"] >= 0 else ""
    return f"{number}{row['functionKey']}{SUFFIX}"


def prompt_text(row: Mapping[str, Any]) -> str:
    """The Dotprompt file of an assistant."""
    front: dict[str, Any] = {"model": f"{row['model_provider']}/{row['model']}", "name": row["name"]}
    options = {"temperature": "temperature", "top_p": "topP", "max_tokens": "maxOutputTokens"} | {
        field: key.removeprefix("config.") for field, key in OPTION_KEYS.items()
    }
    config = {name: row[field] for field, name in options.items() if row.get(field) is not None}
    schema = row.get("output_schema")
    output = {} if schema is None else {"output": {"format": "json", "schema": schema}}
    lines = [_yaml(front), _yaml({"config": config}) if config else "", _yaml(output) if output else "", _own(row)]
    return f"---\n{''.join(lines)}---\n{_body(row)}\n"


def _own(row: Mapping[str, Any]) -> str:
    own: dict[str, Any] = {}
    if row["order"] < 0:
        own["fleet.order"] = row["order"]
    if row.get("active") is False:
        own["fleet.active"] = False
    if row.get("input_keys") is not None:
        own["fleet.inputs"] = list(row["input_keys"])
    if row.get("csv") is not None:
        own["fleet.csv"] = row["csv"]
    if row.get("fallback"):
        own["fleet.fallback"] = [f"{choice['model_provider']}/{choice['model']}" for choice in row["fallback"]]
    if row.get("on_ambiguous"):
        own["fleet.on_ambiguous"] = row["on_ambiguous"]
    return "".join(_yaml({name: value}, flow=isinstance(value, list | dict)) for name, value in own.items())


def _yaml(values: Mapping[str, Any], *, flow: bool | None = False) -> str:
    """The values as YAML; ``flow`` writes a list in brackets."""
    style = None if flow else False
    text: str = yaml.safe_dump(
        dict(values), allow_unicode=True, sort_keys=False, width=10_000, default_flow_style=style
    )
    return text


def _body(row: Mapping[str, Any]) -> str:
    system = row["system_prompt"] if row.get("system_template") else escaped(row["system_prompt"])
    if row.get("user_template") is None:
        return str(system)
    return f'{system}\n\n{{{{role "user"}}}}\n{row["user_template"]}'
