"""What the page's operator may do: the same as with the ``fleet`` command, for requests with the token."""

import asyncio
import sys
from typing import Any

from loguru import logger

from fleet.budgets.limits_and_pauses import pause, resume
from fleet.config import Settings
from fleet.control.health.observer import Observer
from fleet.control.supervision.machine_processes import Machine
from fleet.control.supervision.supervisord_home import Home
from fleet.errors import InputError, OperationError
from fleet.redaction import excerpt

ACTIONS = ("pause", "resume", "scale", "roll")
_MAX_WHY = 200


async def act(settings: Settings, observer: Observer, order: Any) -> str:
    """Carry out the page's order, and wait until it is done; returns the message for the operator.

    Raises:
        InputError: the order is not valid.
        OperationError, SettingsError: it cannot be carried out.
    """
    if not isinstance(order, dict) or order.get("action") not in ACTIONS:
        raise InputError(f"unknown action. Remedy: send one of {', '.join(ACTIONS)}")
    logger.warning("🕹 OPERATED FROM THE PAGE: {}", {name: order[name] for name in sorted(order)})
    match order["action"]:
        case "pause" | "resume" as action:
            return await _shut_or_open(settings, observer, action, order)
        case "scale":
            count = order.get("count")
            if not isinstance(count, int) or isinstance(count, bool):
                raise InputError("scale takes a count of processes. Remedy: send a whole number")
            return await _command(settings, "scale", _name(order, "program"), str(count))
        case _:
            programs = [_name(order, "program")] if order.get("program") is not None else []
            return await _command(settings, "roll", *programs)


def _name(order: dict[str, Any], key: str) -> str:
    """A name that a command cannot take for an option."""
    value = order.get(key)
    if not isinstance(value, str) or not value or value.startswith("-"):
        raise InputError(f"the order names no {key}. Remedy: send its name")
    return value


async def _shut_or_open(settings: Settings, observer: Observer, action: str, order: dict[str, Any]) -> str:
    provider = settings.provider(_name(order, "provider"))
    client = await observer.client()
    if client is None:
        raise OperationError("Temporal is away. Remedy: see `fleet status`")
    why = excerpt(str(order.get("why") or "paused from the page"), _MAX_WHY)
    for queue in provider.limits:
        await (pause(client, queue, why) if action == "pause" else resume(client, queue))
    return f"calls of {provider.name} are {'paused' if action == 'pause' else 'dispatched again'}, on all machines"


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
