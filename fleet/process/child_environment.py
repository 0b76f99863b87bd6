"""Which variables of a command's environment the processes that it starts get.

A shell has much that is none of the fleet's affair: credentials for other services, code to be loaded
(``LD_PRELOAD``, ``PYTHONPATH``), git's configuration. A process that was taken over could read it, and an SDK
could act on it. So a list says what is passed on; ``FLEET_KEEP_VARIABLES`` and ``FLEET_SDK_VARIABLES`` add to it.
"""

import re
from collections.abc import Collection, Mapping

#: The machine: where programs, homes, time zones, temporary files and trusted certificates are. NO_PROXY can only
#: take a proxy away. CREDENTIALS_DIRECTORY is systemd's.
_OF_THE_MACHINE = re.compile(
    r"PATH|HOME|USER|LOGNAME|LANG|LANGUAGE|LC_[A-Z]+|TZ|TZDIR|TMPDIR|SSL_CERT_FILE|SSL_CERT_DIR|NO_PROXY|no_proxy"
    r"|CREDENTIALS_DIRECTORY"
)
#: Settings, which are read without regard to case, and the place of a temporal.toml.
_OF_THE_FLEET = re.compile(r"FLEET_.+|TEMPORAL_.+|API_BASE_URL|LOG_LEVEL|XDG_CONFIG_HOME", re.IGNORECASE)


def machine_environment(environment: Mapping[str, str], further: Collection[str] = ()) -> dict[str, str]:
    """What any program on this machine needs, and the variables named in ``further``."""
    return {
        name: value for name, value in environment.items() if _OF_THE_MACHINE.fullmatch(name) or name in further
    }


def fleet_environment(environment: Mapping[str, str], further: Collection[str] = ()) -> dict[str, str]:
    """What the fleet's own processes need: :func:`machine_environment` and the settings."""
    settings = {name: value for name, value in environment.items() if _OF_THE_FLEET.fullmatch(name)}
    return machine_environment(environment, further) | settings
