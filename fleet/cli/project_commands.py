"""``fleet project``: makes, checks, shows and moves projects, which are folders of Dotprompt files.

Each command imports what it needs when it runs: importing everything takes a second of CPU time, even for
``--help``.
"""

import asyncio
import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from fleet.cli.output import Json, print_json
from fleet.errors import InputError, OperationError
from fleet.exit_codes import EXIT_FAILED
from fleet.terminal import write_document, write_line

if TYPE_CHECKING:
    from fleet.cli.project_plan import ProjectPlan
    from fleet.config import Settings
    from fleet.projects.folder import Project

app = typer.Typer(no_args_is_help=True, help="Make, check and show projects: folders of one file per assistant.")

Folder = Annotated[
    Path | None,
    typer.Option("--dir", metavar="DIR", help="The folder of projects; the current folder by default."),
]
ProjectFolder = Annotated[Path, typer.Argument(metavar="DIR", help="A project's folder, or a folder of projects.")]


@app.command()
def new(
    name: Annotated[str, typer.Argument(help="The project's id, which is the name of its folder.")],
    folder: Folder = None,
    model: Annotated[
        str | None, typer.Option(metavar="PROVIDER/MODEL", help="The model of its assistants.")
    ] = None,
) -> None:
    """Make a project of three assistants with comments, which runs as it is."""
    from fleet.pipeline.inputs import clean_inputs
    from fleet.projects.new_project import DEFAULT_MODEL, new_project_files
    from fleet.projects.prompt_file import model_choice
    from fleet.projects.write_prompt import write_files

    clean_inputs("topic", name, "", "", csv_max_bytes=1)
    if name.startswith((".", "-")):
        raise InputError(f"{name!r} cannot be a project's name. Remedy: begin it with a letter or a digit")
    chosen = model or DEFAULT_MODEL
    if model_choice(chosen) is None:
        raise InputError(f"--model {chosen!r} is not a model. Remedy: write PROVIDER/MODEL, e.g. {DEFAULT_MODEL}")
    parent = folder or Path()
    files = write_files(parent / name, new_project_files(parent / name, chosen))
    for file in files:
        write_line(f"made {file}")
    write_line(f"Next: `fleet project check {parent / name}`, `fleet up --detach --projects {parent}`,")
    write_line(f'      `fleet run "My first topic" --project {name}`')


@app.command()
def check(
    folder: ProjectFolder,
    csv: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE", help="A CSV that it would read: its columns are checked, and the estimates include it."
        ),
    ] = None,
    as_json: Json = False,
) -> None:
    """Check a project's files; shows its graph, its critical path, and its estimated tokens and cost. Exit 1 if it
    has a problem, or cannot complete."""
    from fleet.cli.find_fleet import settings_for_embedded
    from fleet.cli.run import read_inputs
    from fleet.cli.show import console_for
    from fleet.cli.show_project import show_estimates, show_graph

    settings = settings_for_embedded()
    csv_text = "" if csv is None else read_inputs("topic", "project", csv, None).csv_text
    plans = [_plan(settings, project, csv_text) for project in _sound_projects(settings, folder)]
    if as_json:
        print_json({"projects": [plan.to_json() for plan in plans]})
    else:
        console = console_for()
        for plan in plans:
            show_graph(console, plan)
            show_estimates(console, plan)
            for warning in plan.warnings:
                console.say(f"warning: {warning}")
            console.say(f"{plan.project_id} {'cannot complete' if plan.never_completes else 'is sound'}.")
    if any(plan.never_completes for plan in plans):
        raise typer.Exit(EXIT_FAILED)


@app.command()
def show(
    project: Annotated[
        str, typer.Argument(help="A project's folder, or the id of a project of the running fleet.")
    ],
    as_json: Json = False,
) -> None:
    """Show a project's graph: what runs when, and what each assistant reads."""
    from fleet.cli.find_fleet import find_fleet, settings_for_embedded
    from fleet.cli.project_plan import plan_of
    from fleet.cli.show import console_for
    from fleet.cli.show_project import show_graph
    from fleet.pipeline.fingerprint import fingerprint_of

    if Path(project).is_dir():
        settings = settings_for_embedded()
        plans = [_plan(settings, found) for found in _sound_projects(settings, Path(project))]
    else:
        settings, _ = find_fleet()
        rows = asyncio.run(_from_backend(settings, project))
        plans = [plan_of(settings, project, fingerprint_of(rows), rows)]
    if as_json:
        print_json({"projects": [plan.to_json() for plan in plans]})
        return
    for plan in plans:
        show_graph(console_for(), plan)


@app.command(name="list")
def list_projects(folder: Folder = None, as_json: Json = False) -> None:
    """List the projects in a folder: assistants, fingerprint, problems."""
    from fleet.cli.find_fleet import settings_for_embedded
    from fleet.projects.folder import projects_in, read_project, refuse_no_projects

    settings = settings_for_embedded()
    parent = folder or settings.projects_dir or Path()
    refuse_no_projects(parent)
    found = [(path.name, *read_project(path, settings.provider)) for path in projects_in(parent)]
    if as_json:
        print_json({"projects": [_listed(*item) for item in found]})
        return
    for name, project, problems in found:
        if project is None:
            write_line(f"{name}: {len(problems)} problem(s), first {problems[0]}")
        else:
            write_line(f"{name}: {len(project.assistants)} assistants, fingerprint {project.fingerprint}")


@app.command(name="import")
def import_project(
    project: Annotated[str, typer.Argument(help="The id of a project that the Backend API has.")],
    folder: Folder = None,
) -> None:
    """Write a project of the Backend API into a folder, one file per assistant."""
    from fleet.cli.find_fleet import find_fleet
    from fleet.projects.folder import read_project
    from fleet.projects.problems import ProjectDamaged
    from fleet.projects.write_prompt import write_project

    settings, _ = find_fleet()
    rows = asyncio.run(_from_backend(settings, project))
    active = [row for row in rows if row.get("active") is not False]
    target = (folder or Path()) / project
    for file in write_project(target, active):
        write_line(f"made {file}")
    if len(active) < len(rows):
        write_line(f"left out {len(rows) - len(active)} inactive assistant(s)")
    _, problems = read_project(target)
    if problems:
        raise ProjectDamaged.by(problems)


@app.command()
def export(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="A project's folder.")],
    out: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Write it here; by default it is printed.")
    ] = None,
) -> None:
    """Write a project's folder as the Backend API returns it: the JSON list of its assistants."""
    from fleet.cli.find_fleet import settings_for_embedded
    from fleet.projects.folder import is_project

    if folder.is_dir() and not is_project(folder):
        raise OperationError(f"{folder} is not a project. Remedy: name one project's folder")
    (project,) = _sound_projects(settings_for_embedded(), folder)
    text = json.dumps(project.assistants, ensure_ascii=False, indent=2)
    if out is None:
        write_document(text)
        return
    try:
        out.write_text(f"{text}\n", "utf-8")
    except OSError as error:
        raise OperationError(f"{out} cannot be written ({error.strerror}). Remedy: choose another --out") from None


def _sound_projects(settings: "Settings", folder: Path) -> "list[Project]":
    """The project in a folder, or those in a folder of projects.

    Raises:
        ProjectDamaged: one of them has problems.
        OperationError: there is none.
    """
    from fleet.projects.folder import is_project, projects_in, read_project, refuse_no_projects
    from fleet.projects.problems import ProjectDamaged

    folder = folder.absolute()
    if not is_project(folder):
        refuse_no_projects(folder)
    paths = [folder] if is_project(folder) else projects_in(folder)
    found = [read_project(path, settings.provider) for path in paths]
    if problems := [problem for _, wrong in found for problem in wrong]:
        raise ProjectDamaged.by(problems)
    return [project for project, _ in found if project is not None]


def _plan(settings: "Settings", project: "Project", csv_text: str = "") -> "ProjectPlan":
    from fleet.cli.project_plan import plan_of

    return plan_of(settings, project.project_id, project.fingerprint, project.assistants, csv_text)


def _listed(name: str, project: "Project | None", problems: list[Any]) -> dict[str, Any]:
    return {
        "project": name,
        "assistants": len(project.assistants) if project else 0,
        "fingerprint": project.fingerprint if project else "",
        "problems": [str(problem) for problem in problems],
    }


async def _from_backend(settings: "Settings", project_id: str) -> list[Any]:
    """A project's assistants as the Backend API returns them, checked."""
    from fleet.execution.backend_client import Backend
    from fleet.execution.load_assistants import load_assistants

    async with Backend.from_settings(settings) as backend:
        await load_assistants(backend, settings, project_id)
        return await backend.assistants(project_id)
