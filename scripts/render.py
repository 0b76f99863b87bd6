"""Writes every rendered file in place: ``python -m scripts.render [--check]``.

With ``--check`` nothing is written; the exit status is 1 if a file is stale, which is named with the remedy.
"""

import json
import sys
from pathlib import Path

from fleet.config import PROJECT_ROOT
from fleet.control.web.openapi import description
from scripts import render_rules, settings_table

DESCRIPTION = PROJECT_ROOT / "docs" / "control-openapi.json"


def described() -> str:
    """The OpenAPI description of the control process."""
    return f"{json.dumps(description(), indent=1)}\n"


def rendered() -> dict[Path, str]:
    """The text that each rendered file should have."""
    return {
        render_rules.SHIPPED: render_rules.rendered(),
        DESCRIPTION: described(),
        **settings_table.guides(),
    }


def main(arguments: list[str]) -> int:
    """Write what is stale, or name it; the exit status."""
    stale = {
        path: text for path, text in rendered().items() if not path.exists() or path.read_text("utf-8") != text
    }
    if arguments == ["--check"]:
        for path in stale:
            print(f"{path.relative_to(PROJECT_ROOT)} is stale. Remedy: scripts/render.sh", file=sys.stderr)  # noqa: T201
        return int(bool(stale))
    for path, text in stale.items():
        path.write_text(text, "utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
