"""What the benchmarks of several rounds take and print: a JSON object a line."""

import argparse
import json
import os
import platform
from collections.abc import Callable, Mapping
from typing import Any

Say = Callable[[Mapping[str, Any]], None]


def this_machine() -> str:
    """As a summary names the machine."""
    return f"{platform.machine()}, {os.cpu_count()} cores"


def options_of(about: str | None, rounds: int) -> argparse.ArgumentParser:
    """The options ``--rounds`` and ``--json``; ``about`` is the benchmark's docstring."""
    parser = argparse.ArgumentParser(description=(about or "").splitlines()[0])
    parser.add_argument("--rounds", type=int, default=rounds)
    parser.add_argument("--json", action="store_true", help="a JSON object a row; otherwise the summary alone")
    return parser


def printed(*, all_rows: bool) -> Say:
    """Prints summaries (``variant`` or ``axis`` is "summary"), and all other rows too if that is wanted."""

    def say(row: Mapping[str, Any]) -> None:
        if all_rows or "summary" in (row.get("variant"), row.get("axis")):
            print(json.dumps(row), flush=True)

    return say
