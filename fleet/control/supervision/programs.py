"""``<state>/programs.d``: how many processes each program has, and the programs of added providers.

Only the fleet writes to that folder; ``supervisord.conf`` includes it and never changes. A file has one section,
which is merged into the section of the same name. ``numprocs`` is stored only here: an existing value is kept,
since that many processes are running.
"""

import configparser
from pathlib import Path

from fleet.config import Settings
from fleet.control.supervision.supervisord_home import CONFIGURATION, Home
from fleet.errors import OperationError
from fleet.process.atomic_file import write_atomically

TRACKED_PROGRAMS = ("pipeline", "assistants", "openai", "anthropic", "gemini", "control")
#: The program that serves FLEET_PROJECTS_DIR; there is none where the Backend API is another one.
BACKEND = "backend"
_HEADER = "; Written by fleet. Changes made by hand are lost.\n"
_MODEL = "program:openai"


def programs_of(settings: Settings) -> list[str]:
    """Every program that the settings require."""
    tracked = [name for name in TRACKED_PROGRAMS if name not in settings.disabled_providers]
    own = [BACKEND] if settings.serves_projects else []
    return [*tracked, *(provider.name for provider in settings.added_providers), *own]


def write_programs(home: Home, settings: Settings) -> None:
    """Update the folder from the settings: one file per program, none for a removed provider.

    A disabled provider that ``supervisord.conf`` has a program for gets ``numprocs=0``, since that file never
    changes: supervisord then has the group, without a process.

    Raises:
        OperationError: a file of the folder cannot be read.
    """
    added = {provider.name: f"workers.llm {provider.name}" for provider in settings.added_providers}
    if settings.serves_projects:
        added[BACKEND] = "workers.backend"
    for name in programs_of(settings):
        path = home.programs / f"{name}.conf"
        section = {"numprocs": str(processes_of(path, name) or 1)}  # 0 is of a time when it was disabled
        if name in added:
            section = _added_program(home, added[name]) | section
        _write(path, name, section)
    empty = [name for name in TRACKED_PROGRAMS if name in settings.disabled_providers]
    for name in empty:
        _write(home.programs / f"{name}.conf", name, {"numprocs": "0"})
    for path in home.programs.glob("*.conf"):
        if path.stem not in [*programs_of(settings), *empty] and path.read_text("utf-8").startswith(_HEADER):
            path.unlink()


def processes_of(path: Path, program: str) -> int:
    """``numprocs`` in a program's file; 1 if there is no file yet.

    Raises:
        OperationError: the file cannot be read.
    """
    parser = configparser.RawConfigParser(inline_comment_prefixes=(" ;",))
    try:
        parser.read(path, "utf-8")
        return parser.getint(f"program:{program}", "numprocs", fallback=1)
    except (configparser.Error, ValueError, UnicodeDecodeError) as error:
        reason = str(error).splitlines()[0]
        raise OperationError(
            f"{path} cannot be read ({reason}). Remedy: remove it; the next `fleet up` writes it again"
        ) from None


def program_section(home: Home, program: str) -> dict[str, str]:
    """A program's whole section as supervisord reads it, with its folder expanded.

    Raises:
        OperationError: no file has it.
    """
    parser = configparser.RawConfigParser(inline_comment_prefixes=(" ;",))
    parser.read([home.configuration, home.programs / f"{program}.conf"], "utf-8")
    name = f"program:{program}"
    if not parser.has_section(name):
        raise OperationError(
            f"no file has [{name}]. Remedy: `fleet down`, then `fleet up`, which writes {home.programs}"
        )
    return {key: value.replace("%(here)s", str(home.folder)) for key, value in parser.items(name)}


def write_count(home: Home, program: str, count: int) -> None:
    """Set the number of processes that supervisord starts at its next start."""
    path = home.programs / f"{program}.conf"
    parser = configparser.RawConfigParser(inline_comment_prefixes=(" ;",))
    parser.read(path, "utf-8")
    name = f"program:{program}"
    section = dict(parser.items(name)) if parser.has_section(name) else {}
    _write(path, program, section | {"numprocs": str(count)})


def _added_program(home: Home, module: str) -> dict[str, str]:
    """The whole section of a program that runs this module, made from that of a provider in the tracked file."""
    parser = configparser.RawConfigParser()
    parser.read(home.configuration, "utf-8")
    if not parser.has_section(_MODEL):
        raise OperationError(
            f"{home.folder / CONFIGURATION} has no [{_MODEL}]. Remedy: restore it from the release"
        )
    # In an included file %(here)s is that file's own folder.
    section = {key: value.replace("%(here)s", str(home.folder)) for key, value in parser.items(_MODEL)}
    return section | {"command": section["command"].replace("workers.llm openai", module)}


def _write(path: Path, program: str, section: dict[str, str]) -> None:
    lines = [_HEADER, f"[program:{program}]\n", *(f"{key}={value}\n" for key, value in section.items())]
    write_atomically(path, "".join(lines))
