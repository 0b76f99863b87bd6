"""The environment of supervisord and of the programs under it."""

from collections.abc import Mapping

from fleet.config import Settings
from fleet.devstack.backend.keys import key_variables
from fleet.process.child_environment import fleet_environment


def supervised_environment(environment: Mapping[str, str], settings: Settings) -> dict[str, str]:
    """What they get of a command's environment: settings, what every program needs, and what the settings name.
    Where one of the programs is the backend that gives out the keys of providers, these too."""
    further = {*settings.sdk_variables, *settings.keep_variables}
    if settings.serves_projects:
        further |= {variable for provider in settings.providers for variable in key_variables(provider)}
    return fleet_environment(environment, further)
