"""The settings files ``.env`` and ``fleet.toml``: which ones are read, and which ones may set everything.

They are those of the working directory, unless ``fleet --config`` or the variable ``FLEET_CONFIG`` names a file in
place of one of them, or a folder in place of both. A command may be called in any folder, such as a clone of
something else; so a file there that nobody named is foreign and may set only what is harmless: times, counts and
limits, not where calls, keys and texts go or who reads them. A file in the fleet's own checkout is not foreign,
nor one in a folder that root has made for other users, such as an installation's.
"""

import os
import shlex
import stat
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

from fleet.errors import SettingsError

CONFIG_VARIABLE = "FLEET_CONFIG"
ENV_FILE, TOML_FILE = ".env", "fleet.toml"
_HOME = Path(__file__).resolve().parents[1]


@dataclass(frozen=True)
class SettingFiles:
    """The two files, which need not exist; ``foreign`` are those that may set only what is harmless."""

    env: Path
    toml: Path
    foreign: frozenset[Path]


def setting_files() -> SettingFiles:
    """The files that are read.

    Raises:
        SettingsError: a file is named that does not exist.
    """
    env, toml, unnamed = Path(ENV_FILE), Path(TOML_FILE), {Path(ENV_FILE), Path(TOML_FILE)}
    if name := os.environ.get(CONFIG_VARIABLE):
        named = Path(name)
        if not named.exists():
            raise SettingsError(
                f"{named}: there is no such settings file or folder. Remedy: correct --config or {CONFIG_VARIABLE}"
            )
        if named.is_dir():
            env, toml, unnamed = named / ENV_FILE, named / TOML_FILE, set()
        elif _kind_of(named) == TOML_FILE:
            toml, unnamed = named, {env}
        else:
            env, unnamed = named, {toml}
    return SettingFiles(env, toml, frozenset(file for file in unnamed if file.is_file() and not _is_own(file)))


def refusal(file: Path, variables: Collection[str]) -> SettingsError:
    """The error for a foreign file that sets these variables, which it may not."""
    path = file.absolute()
    refused = (
        f"{path} may not set {', '.join(sorted(variables))}: it is not in the fleet's own folder and was not "
        "named, so it may set only times, counts and limits"
    )
    if named := os.environ.get(CONFIG_VARIABLE):  # naming this file too would put the other one out of use
        return SettingsError(
            f"{refused}; --config or {CONFIG_VARIABLE} names {named} in place of {_kind_of(Path(named))} alone. "
            "Remedy: to read both, name a folder that has them: fleet --config FOLDER ...; to read only the named "
            "one, call the command in another folder; or set that in the environment"
        )
    return SettingsError(
        f"{refused}. Remedy: if it is yours, name it: fleet --config {shlex.quote(str(path))} ..., or "
        f"{CONFIG_VARIABLE}; or set that in the environment"
    )


def _kind_of(named: Path) -> str:
    """The settings file that a named file replaces."""
    return TOML_FILE if named.suffix == ".toml" else ENV_FILE


def _is_own(file: Path) -> bool:
    """Whether a file in the working directory is the fleet's own, or of root for this user."""
    folder = Path.cwd()
    return folder == _HOME or (os.geteuid() != 0 and _is_roots(folder) and _is_roots(file))


def _is_roots(path: Path) -> bool:
    """Whether nobody but root can change it."""
    found = path.stat()
    return found.st_uid == 0 and not found.st_mode & (stat.S_IWGRP | stat.S_IWOTH)
