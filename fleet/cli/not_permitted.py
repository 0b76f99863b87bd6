"""Files that belong to another user: whose they are, and the command as that user."""

import os
import pwd
import shlex
import sys
from pathlib import Path

from fleet.errors import OperationError


class NotPermitted(OperationError):
    """The system denies this user a file."""

    code = "not_permitted"


def not_permitted(path: Path) -> NotPermitted:
    """The error for a file that this user may not use."""
    me, owner = _name_of(os.geteuid()), _owner_of(path)
    if owner == me:
        remedy = f"correct its rights: `chmod u+rwX {shlex.quote(str(path))}`"
        return NotPermitted(f"{path} may not be used with the rights that it has. Remedy: {remedy}")
    state = os.environ.get("FLEET_STATE_DIR")
    same = ["env", f"FLEET_STATE_DIR={Path(state).absolute()}"] if state else []  # sudo passes no variables on
    command = shlex.join(["sudo", "-u", owner, *same, *sys.argv])
    return NotPermitted(
        f"{path} belongs to {owner}, and {me} may not use it. Remedy: run this as {owner}: `{command}`"
    )


def _owner_of(path: Path) -> str:
    """The owner of a file, or of the nearest folder above it that this user sees."""
    for place in (path, *path.absolute().parents):
        try:
            return _name_of(place.stat().st_uid)
        except OSError:
            continue
    return _name_of(0)


def _name_of(uid: int) -> str:
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return f"#{uid}"
