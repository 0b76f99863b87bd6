"""Checks the projects that a backend serves from a folder: on this machine, and whether others serve the same."""

from collections.abc import Iterator, Mapping

from fleet.config import Settings
from fleet.control.health.doctor.check import Check
from fleet.control.health.status import FleetStatus
from fleet.execution.backend_client import ToldProject


def project_checks(settings: Settings, told: Mapping[str, ToldProject]) -> Iterator[Check]:
    """One check for each project, as the backend tells of them; none where it serves no folder."""
    if settings.projects_dir is not None and not settings.serves_projects:
        says = f"API_BASE_URL is set too and wins: {settings.projects_dir} is not served"
        yield Check("FLEET_PROJECTS_DIR", True, says, "unset API_BASE_URL to serve the folder, or unset this one")
    elif settings.projects_dir is not None and not settings.projects_dir.is_dir():
        says = f"{settings.projects_dir} is not a folder"
        yield Check("FLEET_PROJECTS_DIR", False, says, "make it, or correct FLEET_PROJECTS_DIR")
    check = f"run `fleet project check {settings.projects_dir or 'DIR'}`"
    for project_id, project in told.items():
        what = f"project {project_id}"
        if not project.problems:
            yield Check(what, True, f"fingerprint {project.fingerprint}")
        in_use = f"version {project.fingerprint} stays in use" if project.fingerprint else "it cannot be used"
        for problem in project.problems:
            says, _, remedy = problem.partition(". Remedy: ")
            yield Check(what, False, f"{in_use}: {says}", remedy or check)


def unlike_projects(status: FleetStatus) -> Iterator[Check]:
    """A check for each project of which other machines serve another version, so that a pipeline's content depends
    on the machine that loads it."""
    for line in status.unlike_projects():
        remedy = "copy the folder of projects to all machines, then run `fleet project list` on each"
        yield Check("projects of all machines", False, line, remedy)
