"""What the fleet has on this machine: files and their permissions, disk space, journals, supervisord's
configuration."""

import os
import resource
import shutil
import sqlite3
import stat
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

from fleet.config import Settings
from fleet.control.health.doctor.check import Check
from fleet.control.health.supervisord_lint import lint, providers_without_program
from fleet.control.supervision.supervisord_client import Supervisor
from fleet.control.supervision.supervisord_home import Home
from fleet.errors import FleetError
from fleet.setting_files import setting_files

_MIN_FREE_BYTES = 1_000_000_000
_MIN_FILES = 1024
#: The folder and the file of an installed fleet's settings; commands run in that folder.
_INSTALLED = ("seo-worker", "environment")
_READ_SECONDS = 5.0


def machine_checks(settings: Settings) -> Iterator[Check]:
    """One check for each thing."""
    home = Home.of(settings)
    yield from _rights(home, settings)
    yield from _folders(home, settings)
    yield _open_files(home)
    yield from (_journal(settings, provider) for provider in sorted(settings.providers))
    yield _supervisord_files(home, settings)
    yield from _new_providers(home, settings)


def _rights(home: Home, settings: Settings) -> Iterator[Check]:
    """Check the permissions of folders and files."""
    for path in (home.state, home.socket, home.state / "page", home.state / "page" / "token"):
        mode = _mode(path)
        if mode is None:
            continue
        if mode & 0o077:
            says = f"{path} is open to others ({mode:o})"
            yield Check(f"rights of {path.name}", False, says, f"chmod {600 if path.is_file() else 700} {path}")
        else:
            yield Check(f"rights of {path.name}", True, f"{mode:o}, its owner's alone")
    for path in _secrets(settings):
        mode = _mode(path)
        if mode is None:
            continue
        if mode & 0o026:
            says = f"{path} may be read by everybody, or changed by others than its owner ({mode:o})"
            yield Check(f"rights of {path.name}", False, says, f"chmod 640 {path}")
        else:
            yield Check(f"rights of {path.name}", True, f"{mode:o}")


def _secrets(settings: Settings) -> Iterator[Path]:
    files = (settings.temporal_api_key_file, settings.backend_token_file, settings.backend_client_key_file)
    yield from filter(None, (*files, *(provider.api_key_file for provider in settings.providers.values())))
    here, given = Path.cwd(), setting_files()
    yield from (given.env.absolute(), given.toml.absolute())
    if here.name == _INSTALLED[0]:
        yield here / _INSTALLED[1]


def _mode(path: Path) -> int | None:
    """The permissions of a file or folder; None if it does not exist."""
    try:
        return stat.S_IMODE(path.stat().st_mode)
    except OSError:
        return None


def _folders(home: Home, settings: Settings) -> Iterator[Check]:
    for what, folder in (("state folder", home.state), ("logs", settings.logs)):
        try:
            free = shutil.disk_usage(folder).free
        except OSError as error:
            remedy = "start the fleet once, which makes it; or correct FLEET_STATE_DIR and FLEET_LOG_DIR"
            yield Check(what, False, f"{folder}: {error.strerror}", remedy)
            continue
        if not os.access(folder, os.W_OK | os.X_OK):
            yield Check(what, False, f"{folder} cannot be written", f"give it to this user: chown {folder}")
        elif free < _MIN_FREE_BYTES:
            says = f"{folder} has {free / 1e9:.2f} GB free"
            yield Check(what, False, says, "make room: journals and logs need it")
        else:
            yield Check(what, True, f"{folder}, {free / 1e9:.1f} GB free")


def _open_files(home: Home) -> Check:
    """How many files a process of the fleet may open: supervisord's limit, or this process's if supervisord does
    not run."""
    try:
        most, _ = resource.prlimit(Supervisor(home.socket).pid(), resource.RLIMIT_NOFILE)
    except (FleetError, OSError):
        most, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    ok = most >= _MIN_FILES or most == resource.RLIM_INFINITY
    remedy = "" if ok else f"ulimit -n {_MIN_FILES}, or LimitNOFILE= in the unit"
    return Check("open files", ok, f"{most} allowed", remedy)


def _journal(settings: Settings, provider: str) -> Check:
    """Check a provider's journal; a missing one is created by the provider's first call."""
    what, path = f"journal of {provider}", settings.state_dir.absolute() / "journal" / f"{provider}.db"
    remedy = "no call is sent without it: make room, correct its owner, or move a damaged file away"
    try:
        if not path.exists():
            return Check(what, True, "none yet; the first call makes it")
        with closing(sqlite3.connect(f"{path.as_uri()}?mode=ro", uri=True, timeout=_READ_SECONDS)) as journal:
            ((calls,),) = journal.execute("SELECT count(*) FROM calls")
    except (sqlite3.Error, OSError) as error:
        return Check(what, False, f"{path} cannot be read ({error})", remedy)
    if not os.access(path, os.W_OK) or not os.access(path.parent, os.W_OK):
        return Check(what, False, f"{path} cannot be written", remedy)
    return Check(what, True, f"{calls} calls, {path.stat().st_size / 1e6:.1f} MB")


def _supervisord_files(home: Home, settings: Settings) -> Check:
    try:
        problems = lint(home, settings)
    except (OSError, ValueError) as error:  # unreadable, or text in place of a number
        problems = [str(error)]
    if problems:
        remedy = "restore supervisord.conf from the release; the fleet's start writes programs.d"
        return Check("supervisord.conf", False, "; ".join(problems), remedy)
    return Check("supervisord.conf", True, f"{home.configuration}")


def _new_providers(home: Home, settings: Settings) -> Iterator[Check]:
    """Report providers that no program serves yet; if the fleet was never started here, none has one."""
    if not home.configuration.exists():
        return
    for name in providers_without_program(home, settings):
        says = "it was configured after the fleet was started, so no program serves its queue yet"
        remedy = "end the fleet with `fleet down` and start it again; installed: systemctl restart seo-worker"
        yield Check(f"program of {name}", False, says, remedy)
