"""``fleet doctor``: checks one by one everything that a fleet on this machine needs.

It is run when something is missing, so it requires nothing: wrong settings, an unreachable server or a supervisord
that does not run are lines like any other, and so is a check that cannot be made for that reason. It changes
nothing.
"""

import asyncio
from collections.abc import Sequence
from dataclasses import replace

from fleet.config import Settings
from fleet.control.health.doctor.check import NOT_SET, Check

__all__ = ["NOT_SET", "Check", "examine"]


async def examine(settings: Settings, wrong: Sequence[str] = ()) -> list[Check]:
    """Make all checks; nothing is raised. ``wrong`` lists what is wrong with the given settings, one line each; an
    address that the settings do not have is ``NOT_SET``."""
    # Imported here, since every command imports NOT_SET and few make all checks.
    from fleet.control.health.doctor.control import control_checks
    from fleet.control.health.doctor.exposures import exposure_checks
    from fleet.control.health.doctor.host import machine_checks
    from fleet.control.health.doctor.processes import process_checks
    from fleet.control.health.doctor.projects import unlike_projects
    from fleet.control.health.doctor.servers import BACKEND, server_checks
    from fleet.control.health.doctor.settings import environment_checks
    from fleet.control.health.status import status_of

    here = asyncio.to_thread(
        lambda: [
            *environment_checks(wrong, settings.warnings),
            *exposure_checks(settings),
            *machine_checks(settings),
        ]
    )
    found, status, elsewhere, control = await asyncio.gather(
        here, status_of(settings, others_too=True), server_checks(settings), control_checks(settings)
    )
    ours = await asyncio.to_thread(process_checks, settings, status)
    checks = [*found, *ours, *control, *elsewhere, *unlike_projects(status)]
    away = {check.what for check in checks if not check.ok} >= {"supervisord", "Temporal", BACKEND}
    return fleet_down(checks, settings) if away else checks


#: What fails only because no fleet has been started.
_WITHOUT_FLEET = ("supervisord", "Temporal", "state folder", "logs", "supervisord.conf", "clock", "control")


def fleet_down(checks: Sequence[Check], settings: Settings) -> list[Check]:
    """The checks where supervisord, Temporal and the backend are all away: one cause, named first."""
    state = settings.state_dir.absolute()
    cause = Check(
        "fleet",
        False,
        f"no fleet is up in {state}: neither supervisord nor Temporal nor the backend answers",
        "start one with `fleet up --detach`; or set FLEET_STATE_DIR to the state folder of one that runs; or set "
        "TEMPORAL_HOST and API_BASE_URL to reach one elsewhere",
    )
    return [cause, *(replace(check, because="fleet") if _follows(check) else check for check in checks)]


def _follows(check: Check) -> bool:
    if check.ok:
        return False
    unset = check.what == "environment" and check.says.startswith("API_BASE_URL není nastavena")
    return bool(check.because) or unset or check.what in _WITHOUT_FLEET or check.what.startswith("Backend API")
