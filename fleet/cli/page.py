"""``fleet page``: a one-time link that logs a browser in to the page of this machine's control process."""

import httpx

from fleet.config import Settings
from fleet.control.web.credentials import PageCredentials
from fleet.errors import OperationError

_ANSWER_SECONDS = 5.0


def page_link(settings: Settings) -> str:
    """A link that works once, within a quarter of an hour, on this machine or through a tunnel to it; the page's
    plain address if reading needs no login.

    Raises:
        OperationError: the control process does not listen on loopback, or the state folder cannot be written.
    """
    if not settings.page_is_reachable:
        raise OperationError(
            f"the page only answers requests from its own machine, and the control process listens on "
            f"{settings.control_host} alone. Remedy: set FLEET_CONTROL_HOST to 127.0.0.1, or to 0.0.0.0 behind a "
            "firewall"
        )
    if settings.control_open_reads:
        return f"{settings.page_address}/"
    credentials = PageCredentials.of(settings)
    try:
        return f"{settings.page_address}/login?code={credentials.links.issue()}"
    except OSError as error:
        raise OperationError(
            f"no link can be kept in {credentials.folder} ({error.strerror}). Remedy: run this as the fleet's "
            "user and with its FLEET_STATE_DIR"
        ) from None


def refuse_no_page(settings: Settings) -> None:
    """Raise OperationError if no control process answers where the page should be."""
    address = settings.page_address
    try:
        httpx.head(f"{address}/login", timeout=_ANSWER_SECONDS, trust_env=False, verify=False)
    except httpx.HTTPError as error:
        raise OperationError(
            f"the control process at {address} does not answer ({error or type(error).__name__}). "
            "Remedy: start the fleet, or see `supervisorctl status`"
        ) from None
