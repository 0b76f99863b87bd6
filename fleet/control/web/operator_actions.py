"""What the page's operator may do: the same as with the ``fleet`` command, for requests with the token."""

import asyncio
import sys

from loguru import logger

from fleet.budgets.limits_and_pauses import pause, resume
from fleet.config import Settings
from fleet.control.health.observer import Observer
from fleet.control.supervision.machine_processes import Machine
from fleet.control.supervision.supervisord_home import Home
from fleet.control.web.orders import Pause, Resume, Roll, Scale
from fleet.errors import OperationError
from fleet.redaction import excerpt

_MAX_WHY = 200


async def act(settings: Settings, observer: Observer, order: Pause | Resume | Scale | Roll) -> str:
    """Carry out the page's order, and wait until it is done; returns the message for the operator.

    Raises:
        OperationError, SettingsError: it cannot be carried out.
    """
    logger.warning("🕹 OPERATED FROM THE PAGE: {}", order.model_dump(exclude_none=True))
    match order:
        case Pause() | Resume():
            return await _shut_or_open(settings, observer, order)
        case Scale():
            return await _command(settings, "scale", order.program, str(order.count))
        case Roll():
            return await _command(settings, "roll", *([order.program] if order.program is not None else []))


async def _shut_or_open(settings: Settings, observer: Observer, order: Pause | Resume) -> str:
    provider = settings.provider(order.provider)
    client = await observer.client()
    if client is None:
        raise OperationError("Temporal is away. Remedy: see `fleet status`")
    for queue in provider.limits:
        if isinstance(order, Pause):
            await pause(client, queue, excerpt(order.why or "paused from the page", _MAX_WHY))
        else:
            await resume(client, queue)
    done = "paused" if isinstance(order, Pause) else "dispatched again"
    return f"calls of {provider.name} are {done}, on all machines"


async def _command(settings: Settings, *arguments: str) -> str:
    """Run ``fleet`` in a process of its own, since it may renew this one meanwhile."""
    machine = Machine(Home.of(settings), lambda text: None)
    known = await asyncio.to_thread(machine.programs)
    if len(arguments) > 1 and arguments[1] not in known:
        raise OperationError(f"there is no program {arguments[1]!r}. Remedy: name one of {', '.join(known)}")
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-P",
        "-m",
        "fleet.cli",
        *arguments,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
        start_new_session=True,
    )
    said, _ = await process.communicate()
    text = said.decode("utf-8", "replace").strip()
    if process.returncode:
        raise OperationError(
            text.rpartition("fleet: ")[2] or f"fleet {arguments[0]} ended with {process.returncode}"
        )
    return f"fleet {' '.join(arguments)}: done"
