"""Reads a report of pip-audit: ``python scripts/read_audit.py LOCK REPORT``.

Exit status: 0 no weakness is known, 1 there are some, 2 the lock was not checked, or only in part.
"""

import json
import sys
from pathlib import Path
from typing import Any

_REMEDY = "Remedy: run it where pypi.org can be reached"


def read(lock: str, report: str) -> tuple[int, list[str]]:
    """The exit status for a report's text, and the lines that say why."""
    try:
        found: list[dict[str, Any]] = json.loads(report)["dependencies"]
    except (ValueError, KeyError, TypeError):
        return 2, [f"{lock}: not checked. {_REMEDY}"]
    skipped = [entry["name"] for entry in found if "skip_reason" in entry]
    if skipped or not found:
        return 2, [f"{lock}: not checked: {', '.join(skipped) or 'all packages'}. {_REMEDY}"]
    weak = [_line(lock, entry, flaw) for entry in found for flaw in entry["vulns"]]
    return (1 if weak else 0), weak or [f"{lock}: no weakness is known of {len(found)} packages"]


def _line(lock: str, entry: dict[str, Any], flaw: dict[str, Any]) -> str:
    fixed = " or ".join(flaw["fix_versions"])
    remedy = (
        f"use {fixed} (scripts/lock.sh)" if fixed else "there is no corrected release; see whether it concerns you"
    )
    return f"{lock}: {entry['name']} {entry['version']} has {flaw['id']}. Remedy: {remedy}"


def main() -> int:
    """Print the lines of one report."""
    lock, report = sys.argv[1:]
    status, lines = read(lock, Path(report).read_text("utf-8"))
    sys.stdout.writelines(f"{line}\n" for line in lines)
    return status


if __name__ == "__main__":
    sys.exit(main())
