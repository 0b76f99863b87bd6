"""The projects of a folder as they are served: a changed file holds for the next pipeline, and while a project has
a problem, its last good version stays in use."""

import json
import threading
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from loguru import logger

from fleet.process.atomic_file import write_atomically
from fleet.projects.folder import Project, projects_in, read_project
from fleet.projects.problems import Problem
from fleet.projects.prompt_file import SUFFIX

_Signature = tuple[tuple[str, int, int, int], ...]


@dataclass(frozen=True)
class Served:
    """What is served of a project: its last good version, None if there was none; and what is wrong with its files
    now."""

    project: Project | None
    problems: list[Problem] = field(default_factory=list)

    def to_json(self) -> dict[str, Any]:
        """As ``GET /health`` tells it."""
        fingerprint = self.project.fingerprint if self.project else ""
        return {"fingerprint": fingerprint, "problems": [str(problem) for problem in self.problems]}


class ServedProjects:
    """The projects in ``folder``; safe to use from many threads. Last good versions are stored in ``kept``, so
    that they survive a restart; None: only in memory."""

    def __init__(self, folder: Path, kept: Path | None = None) -> None:
        self._folder = folder
        self._kept = kept
        self._known: dict[str, tuple[_Signature, Served]] = {}
        self._lock = threading.Lock()

    def project(self, project_id: str) -> Served | None:
        """The project as it is served now; None if there is no such folder."""
        with self._lock:
            paths = {path.name: path for path in projects_in(self._folder)}
            return self._current(paths[project_id]) if project_id in paths else None

    def all(self) -> dict[str, Served]:
        """Every project as it is served now, by id."""
        with self._lock:
            return {path.name: self._current(path) for path in projects_in(self._folder)}

    def _current(self, folder: Path) -> Served:
        signature = _signature(folder)
        known = self._known.get(folder.name)
        if known is not None and known[0] == signature:
            return known[1]
        before = known[1].project if known is not None else self._stored(folder.name)
        project, problems = read_project(folder)
        served = Served(project or before, problems)
        self._known[folder.name] = signature, served
        self._tell(folder.name, served, project)
        return served

    def _tell(self, project_id: str, served: Served, read: Project | None) -> None:
        if read is not None:
            logger.info("project {} is served with fingerprint {}", project_id, read.fingerprint)
            self._store(read)
            return
        in_use = (
            f"its version {served.project.fingerprint} stays in use" if served.project else "it cannot be used"
        )
        for problem in served.problems:
            logger.error("❌ PROJECT BROKEN: {}, {}: {}", project_id, in_use, problem)

    def _store(self, project: Project) -> None:
        if self._kept is None:
            return
        try:
            self._kept.mkdir(mode=0o700, parents=True, exist_ok=True)
            write_atomically(self._kept / f"{project.project_id}.json", json.dumps(asdict(project)))
        except OSError as error:
            logger.error("the version of project {} could not be stored: {}", project.project_id, error)

    def _stored(self, project_id: str) -> Project | None:
        if self._kept is None:
            return None
        try:
            found: Mapping[str, Any] = json.loads((self._kept / f"{project_id}.json").read_text("utf-8"))
            return Project(project_id, list(found["assistants"]))
        except FileNotFoundError:
            return None
        except (OSError, ValueError, TypeError, KeyError) as error:
            logger.error("the stored version of project {} cannot be read: {}", project_id, error)
            return None


def _signature(folder: Path) -> _Signature:
    """What changes when a file is changed, added or removed."""
    found = []
    for path in sorted(folder.glob(f"*{SUFFIX}")):
        try:
            stat = path.stat()
        except OSError:  # removed meanwhile, or a link to nothing
            found.append((path.name, 0, 0, 0))
            continue
        found.append((path.name, stat.st_mtime_ns, stat.st_size, stat.st_ino))
    return tuple(found)
