"""``fleet doctor``: checks one by one everything that a fleet on this machine needs.

It is run when something is missing, so it requires nothing: wrong settings, an unreachable server or a supervisord
that does not run are lines like any other, and so is a check that cannot be made for that reason. It changes
nothing.
"""

import asyncio
from collections.abc import Sequence

from fleet.config import Settings
from fleet.control.health.doctor.check import NOT_SET, Check

__all__ = ["NOT_SET", "Check", "examine"]


async def examine(settings: Settings, wrong: Sequence[str] = ()) -> list[Check]:
    """Make all checks; nothing is raised. ``wrong`` lists what is wrong with the given settings, one line each; an
    address that the settings do not have is ``NOT_SET``."""
    # Imported here, since every command imports NOT_SET and few make all checks.
    from fleet.control.health.doctor.host import machine_checks
    from fleet.control.health.doctor.processes import process_checks
    from fleet.control.health.doctor.servers import server_checks
    from fleet.control.health.doctor.settings import environment_checks
    from fleet.control.health.status import status_of

    here = asyncio.to_thread(lambda: [*environment_checks(wrong, settings.warnings), *machine_checks(settings)])
    found, status, elsewhere = await asyncio.gather(here, status_of(settings), server_checks(settings))
    return [*found, *await asyncio.to_thread(process_checks, settings, status), *elsewhere]
