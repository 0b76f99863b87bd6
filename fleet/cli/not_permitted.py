"""What the system denies this user: the fleet's files with the command as their user, any other one by name."""

import os
import pwd
import shlex
import sys
from pathlib import Path

from fleet.errors import FleetError, OperationError


class NotPermitted(OperationError):
    """The system denies this user a file."""

    code = "not_permitted"


def denied(error: PermissionError) -> NotPermitted:
    """The error for what the system has denied this command: by the file, if it names one."""
    if not isinstance(error.filename, str | bytes):
        return NotPermitted(
            f"the system denies this to {_name_of(os.geteuid())} ({error.strerror or error}), and names no file. "
            "Remedy: run this as the fleet's user; `fleet doctor` shows what is wrong on this machine"
        )
    path = Path(os.fsdecode(error.filename))
    if _is_below(path, _state_folder()):
        return not_permitted(path)
    me, (place, owner) = _name_of(os.geteuid()), _nearest(path)
    if owner == me:
        return _own(path, place)
    return NotPermitted(
        f"{path} may not be used by {me} ({error.strerror}; {place} belongs to {owner}). Remedy: name another "
        f"file or folder, or have {owner} give {me} the right to it"
    )


def not_permitted(path: Path) -> NotPermitted:
    """The error for a file of the state folder that this user may not use."""
    me, (place, owner) = _name_of(os.geteuid()), _nearest(path)
    if owner == me:
        return _own(path, place)
    state = os.environ.get("FLEET_STATE_DIR")
    same = ["env", f"FLEET_STATE_DIR={Path(state).absolute()}"] if state else []  # sudo passes no variables on
    command = shlex.join(["sudo", "-u", owner, *same, *sys.argv])
    return NotPermitted(
        f"{path} belongs to {owner}, and {me} may not use it. Remedy: run this as {owner}: `{command}`"
    )


def _own(path: Path, place: Path) -> NotPermitted:
    its = "it" if place == path else place
    remedy = f"correct its rights: `chmod u+rwX {shlex.quote(str(place))}`"
    return NotPermitted(f"{path} may not be used with the rights that {its} has. Remedy: {remedy}")


def _state_folder() -> Path:
    from fleet.cli.find_fleet import settings_for_embedded  # which needs this module
    from fleet.config import DEFAULT_STATE  # which most commands need, but not --help

    try:
        return settings_for_embedded().state_dir
    except (FleetError, OSError):  # the settings are what is denied, or wrong
        return Path(os.environ.get("FLEET_STATE_DIR") or DEFAULT_STATE)


def _is_below(path: Path, folder: Path) -> bool:
    """Whether it is the folder or within it, as it is written or behind its links."""
    return any(Path(real(path)).is_relative_to(real(folder)) for real in (os.path.abspath, os.path.realpath))


def _nearest(path: Path) -> tuple[Path, str]:
    """The file, or the nearest folder above it that this user sees, and whose it is."""
    for place in (path, *path.absolute().parents):
        try:
            return place, _name_of(place.stat().st_uid)
        except OSError:
            continue
    return path, _name_of(0)


def _name_of(uid: int) -> str:
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return f"#{uid}"
