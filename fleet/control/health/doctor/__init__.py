"""``fleet doctor``: everything that a fleet on this machine needs, looked at one by one.

It is called for when something is missing, so nothing has to be there for it: settings that are wrong, a server
that is away, a supervisord that does not run are lines like others, and so is what cannot be looked at for that
reason. It changes nothing.
"""

import asyncio
from collections.abc import Sequence

from fleet.config import Settings
from fleet.control.health.doctor.check import NOT_SET, Check

__all__ = ["NOT_SET", "Check", "examine"]


async def examine(settings: Settings, wrong: Sequence[str] = ()) -> list[Check]:
    """Look at everything; nothing is raised. ``wrong`` is what is wrong with the settings that were given, a line
    each; an address that could not be taken from them is ``NOT_SET``."""
    # Loaded here, since every command knows NOT_SET and few look at everything.
    from fleet.control.health.doctor.host import machine_checks
    from fleet.control.health.doctor.processes import process_checks
    from fleet.control.health.doctor.servers import server_checks
    from fleet.control.health.doctor.settings import environment_checks
    from fleet.control.health.status import status_of

    here = asyncio.to_thread(lambda: [*environment_checks(wrong), *machine_checks(settings)])
    found, status, elsewhere = await asyncio.gather(here, status_of(settings), server_checks(settings))
    return [*found, *await asyncio.to_thread(process_checks, settings, status), *elsewhere]
