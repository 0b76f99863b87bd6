"""The configuration that Temporal's own tools read: ``TEMPORAL_*`` and ``temporal.toml``.

What connects the ``temporal`` command connects the fleet. The variables may stand in ``.env`` too, as all of the
fleet's can. Source: docs.temporal.io/develop/environment-configuration.
"""

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from dotenv import dotenv_values

from fleet.errors import SettingsError
from fleet.setting_files import refusal, setting_files

if TYPE_CHECKING:
    from temporalio.envconfig import ClientConfigProfile

_PREFIX = "TEMPORAL_"
#: Settings of the fleet, which it has always had; the profile is asked only where they are not set.
_OF_THE_FLEET = ("TEMPORAL_HOST", "TEMPORAL_NAMESPACE")


@dataclass(frozen=True)
class TemporalProfile:
    """One profile. Texts are empty where nothing is configured. The rest is in ``values``, None where nothing is
    configured at all; it contains secrets, and reads its files when it is asked for the arguments of a client."""

    address: str = ""
    namespace: str = ""
    values: "ClientConfigProfile | None" = field(default=None, repr=False)


def load_profile() -> TemporalProfile:
    """The profile that ``TEMPORAL_PROFILE`` names, with the variables laid over it.

    Raises:
        SettingsError: the file or a variable is wrong, or there is no such profile.
    """
    variables = _variables()
    file = _file(variables)
    if not _is_configured(variables, file):
        return TemporalProfile()
    if "TEMPORAL_CONFIG_FILE" in variables and not file.is_file():
        raise SettingsError(f"TEMPORAL_CONFIG_FILE={file}: there is no such file. Remedy: correct or unset it")
    # Temporal's SDK takes a third of a second to import, and some processes do not use it.
    from temporalio.envconfig import ClientConfigProfile

    try:
        values = ClientConfigProfile.load(override_env_vars=variables)
    except Exception as error:  # the bridge's ConfigError has no public name
        raise SettingsError(
            f"Temporal's configuration cannot be read: {_without_quotes(error)}. Remedy: correct {file} or the "
            "TEMPORAL_ variables; or set FLEET_TEMPORAL_CONFIG=false to do without them"
        ) from None
    return TemporalProfile(values.address or "", values.namespace or "", values)


def _variables() -> dict[str, str]:
    """Temporal's variables; an empty one counts as not set.

    Raises:
        SettingsError: the settings file cannot be read, or is foreign and sets some.
    """
    files = setting_files()
    try:
        in_file = dotenv_values(files.env) if files.env.is_file() else {}
    except (OSError, ValueError) as error:
        raise SettingsError(f"{files.env} cannot be read: {error}. Remedy: correct it or its rights") from None
    told = {name for name, value in in_file.items() if name.startswith(_PREFIX) and value}
    if files.env in files.foreign:
        if strange := told - os.environ.keys() - {*_OF_THE_FLEET}:
            raise refusal(files.env, strange)
        in_file = {}
    found = {**in_file, **os.environ}
    return {name: value for name, value in found.items() if name.startswith(_PREFIX) and value}


def _file(variables: Mapping[str, str]) -> Path:
    if named := variables.get("TEMPORAL_CONFIG_FILE"):
        return Path(named)
    folder = os.environ.get("XDG_CONFIG_HOME") or Path.home() / ".config"
    return Path(folder, "temporalio", "temporal.toml")


def _is_configured(variables: Mapping[str, str], file: Path) -> bool:
    return bool(variables.keys() - set(_OF_THE_FLEET)) or file.is_file()


def _without_quotes(error: Exception) -> str:
    """The error in one line, without the line of the file that it quotes: that may contain a key."""
    return " ".join(line.strip() for line in str(error).splitlines() if line.strip() and "|" not in line)
