"""Checks the control process's own address: who answers there, who can reach it, and who may read the page."""

import httpx

from fleet.config import Settings
from fleet.control.health.doctor.check import Check
from fleet.process.machine_id import known_id, process_on
from fleet.redaction import excerpt

_ANSWER_SECONDS = 10.0
_MAX_TEXT = 200


async def control_checks(settings: Settings) -> list[Check]:
    """Check that this machine's control process answers at its address, and tell who else can ask it."""
    return [await _control(settings), _page(settings)]


async def _control(settings: Settings) -> Check:
    what, address = "control", settings.page_address
    remedy = f"see `supervisorctl status`, then control_00.log in {settings.logs}"
    try:
        # Without a token, as it may be another program that answers.
        async with httpx.AsyncClient(trust_env=False, verify=False, timeout=_ANSWER_SECONDS) as client:
            told = (await client.get(f"{address}/status")).json()
        machine = told["machine"]
    except httpx.HTTPError as error:
        return Check(what, False, f"{address} does not answer ({error or type(error).__name__})", remedy)
    except (ValueError, TypeError, KeyError):
        machine = "another program"
    own = process_on(known_id(settings.state_dir), "")[1:]
    if machine != own:
        says = f"at {address} answers {excerpt(str(machine), _MAX_TEXT)}, and not this fleet ({own})"
        return Check(what, False, says, "free the port, or set FLEET_CONTROL_PORT to another one and start again")
    return _reachable(settings)


def _reachable(settings: Settings) -> Check:
    """Whether other machines can reach it; that is wanted where they are monitored, and worth a notice."""
    if settings.control_is_local:
        return Check("control", True, f"{settings.page_address}, for this machine alone")
    says = f"it listens on {settings.control_host}:{settings.control_port}: who reaches that from another machine "
    says += "reads states, counts and metrics"
    remedy = "let a firewall admit the fleet's machines and monitors alone; or set FLEET_CONTROL_HOST=127.0.0.1"
    if not settings.page_is_reachable:
        says += "; the page refuses every request, since this is not a loopback address"
        remedy += ", or 0.0.0.0 for the page too"
    return Check("control", True, says, remedy)


def _page(settings: Settings) -> Check:
    if settings.control_open_reads:
        says = "insecure on a machine with several users: FLEET_CONTROL_OPEN_READS lets every user and program of "
        says += "this machine read inputs, outputs and errors"
        return Check("page", True, says, "unset it; `fleet page` prints a link that logs you in")
    operated = "it only shows" if settings.control_token is None else "FLEET_CONTROL_TOKEN operates"
    return Check("page", True, f"is read after a login alone (`fleet page`); {operated}")
