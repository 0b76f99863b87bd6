"""Prints the table of settings that docs/deployment.md has: ``python scripts/settings_table.py``."""

import sys
from pathlib import Path

from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

from fleet.config import PROJECT_ROOT, Settings


def shown(default: object) -> str:
    """A default as an operator would write it."""
    if default is PydanticUndefined:
        return "required"
    if default is None:
        return "unset"
    if isinstance(default, Path):
        return f"`{default.relative_to(PROJECT_ROOT)}`"
    if isinstance(default, float) and default.is_integer():
        return f"`{int(default)}`"
    return f"`{default}`"


def variable(name: str, field: FieldInfo) -> str:
    """The environment variable of a setting."""
    alias = field.validation_alias
    return alias if isinstance(alias, str) else f"FLEET_{name.upper()}"


def table() -> str:
    """The table, as Markdown."""
    rows = ["| variable | default | |", "|---|---|---|"]
    for name, field in Settings.model_fields.items():
        if name == "providers":
            continue
        text = " ".join((field.description or "").split()).replace("|", "\\|")
        rows.append(f"| `{variable(name, field)}` | {shown(field.default)} | {text} |")
    return "\n".join(rows) + "\n"


if __name__ == "__main__":
    sys.stdout.write(table())
