"""What is wrong with a project's files, each thing with its place and its remedy."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

from fleet.errors import FleetError


@dataclass(frozen=True)
class Problem:
    """One thing that is wrong. ``file`` is relative to the folder of projects; ``line`` counts from 1, and is 0
    where the problem is not in one line."""

    file: str
    line: int
    says: str
    remedy: str

    def __str__(self) -> str:
        place = f"{self.file}:{self.line}" if self.line else self.file
        return f"{place}: {self.says}. Remedy: {self.remedy}"


class ProjectDamaged(FleetError):
    """The files of a project cannot be used."""

    code = "project_damaged"

    @classmethod
    def by(cls, problems: Sequence[Problem]) -> Self:
        """The error for these problems, one line each."""
        return cls("\n".join(map(str, problems)))
