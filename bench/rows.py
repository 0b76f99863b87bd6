"""What the benchmarks print: a JSON object a line."""

import json
import os
import platform
from collections.abc import Callable, Mapping
from typing import Any

Say = Callable[[Mapping[str, Any]], None]


def this_machine() -> str:
    """As a summary names the machine."""
    return f"{platform.machine()}, {os.cpu_count()} cores"


def printed(*, all_rows: bool) -> Say:
    """Prints summaries (``variant`` or ``axis`` is "summary"), and all other rows too if that is wanted."""

    def say(row: Mapping[str, Any]) -> None:
        if all_rows or "summary" in (row.get("variant"), row.get("axis")):
            print(json.dumps(row), flush=True)

    return say
