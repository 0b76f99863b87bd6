"""Finds names and phrases for which the project has a term of the field's: ``python scripts/check_words.py``.

The terms are in docs/glossary.md, the renamed names in docs/decisions/0023. What crosses Temporal, lies on disk or
stands in JSON keeps its name, so ``WIRE`` allows it.
"""

import re
import subprocess
import sys
import tokenize
from collections.abc import Iterator
from pathlib import Path

#: Python names, as a whole, and what to write.
NAMES = {
    r"Meaning|meanings": "FailureKind, failure_kind",
    r"Pulse\w*|pulses?": "Liveness, LivenessRecord",
    r"Measures|measures": "Metrics, metrics",
    r"\w*Standings?|standings?": "BudgetStatus, budget_status",
    r"Word": "Directive",
    r"Ticket|ticket": "ResumeHandle, resume_handle",
    r"Hearing|hearing": "ReportIntake",
    r"Trail|trail": "History, history",
    r"Sight|sight|Sightings|sightings": "Snapshot, LastSeen",
    r"happens_within": "wait_for_event",
    r"fitting": "fit_payload_limit",
    r"\w+_for_ever": "run_…",
    r"_*(most|least|MOST|LEAST)_\w+": "max_…, min_…",
}
_ANY_NAME = re.compile("|".join(NAMES))
#: Names that others read: fields in JSON, on disk or over Temporal.
WIRE = {"least_queued", "most_reserve", "most_usd", "pulse", "pulse_age_seconds"}
#: What people read, in documents, docstrings, comments, messages and on the page.
PHRASES = {
    r"\bhand(s|ed|ing)? out\b": "dispatch",
    r"\bfor ever\b": "without end, until cancelled",
    r"\bnobody keeps\b": "the budget workflow is not running",
    r"\bthe operator's hand\b": "the operator",
    r"\bstands at two\b": "is used by two",
    r"\bin a circle\b|\bform a circle\b": "cycle",
}
#: Dated records, and what others have written.
EXEMPT = ("CHANGELOG.md", "docs/decisions/", "docs/images/", "tests/workflow/histories/", "scripts/check_words.py")
_TEXT = (".py", ".md", ".js", ".html", ".sh", ".yml", ".yaml", ".toml", ".conf", ".json")


def files() -> Iterator[Path]:
    """The tracked files that people read."""
    listed = subprocess.run(["git", "ls-files"], capture_output=True, text=True, check=True).stdout.split()
    return (Path(name) for name in listed if name.endswith(_TEXT) and not name.startswith(EXEMPT))


def names_in(path: Path) -> Iterator[str]:
    """A line for each name in a Python file that has a better one."""
    with path.open("rb") as file:
        for token in tokenize.tokenize(file.readline):
            if token.type != tokenize.NAME or token.string in WIRE or not _ANY_NAME.fullmatch(token.string):
                continue
            for pattern, better in NAMES.items():
                if re.fullmatch(pattern, token.string):
                    yield f"{path}:{token.start[0]}: {token.string}: write {better}"


def phrases_in(path: Path) -> Iterator[str]:
    """A line for each phrase that has a term of the field's."""
    for number, line in enumerate(path.read_text("utf-8").splitlines(), 1):
        for pattern, better in PHRASES.items():
            if found := re.search(pattern, line, re.IGNORECASE):
                yield f"{path}:{number}: {found.group()}: write {better}"


def main() -> int:
    """Print what was found; the exit status is 1 if anything was."""
    found = []
    for path in files():
        if path.suffix == ".py":
            found += names_in(path)
        found += phrases_in(path)
    sys.stdout.writelines(f"{line}\n" for line in found)
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
