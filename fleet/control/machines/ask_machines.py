"""Asks the other machines' control processes for their status. Their answers are untrusted: bounded in size,
checked by type, and made harmless before they are shown."""

import asyncio
import json
import ssl
import time
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import httpx
from loguru import logger

from fleet.config import Settings
from fleet.control.machines.other_machines import OtherMachine, Told
from fleet.errors import FleetError
from fleet.terminal import harmless

_ANSWER_SECONDS = 3.0
_MAX_BYTES = 1_000_000
_MAX_PROCESSES, _MAX_PROBLEMS, _MAX_PROJECTS, _MAX_TEXT = 200, 20, 1000, 300
_MAX_AT_ONCE = 20
_LISTENS_HERE_ALONE = "its control process listens on its own machine alone (FLEET_CONTROL_HOST)"
_HERE = ("localhost", "127.0.0.1", "::1")
_AGE_SECONDS, _FORGOTTEN_SECONDS = 10.0, 60.0


class _Unusable(FleetError):
    """The answer is not that of a fleet's control process."""


async def ask_machines(settings: Settings, machines: Sequence[OtherMachine]) -> list[OtherMachine]:
    """The machines with their answers, or the reasons why there is none; up to 20 are asked in parallel, each for
    three seconds at most.

    The token, if there is one, is sent for a proxy in front of them, but to another machine only over https.
    """
    token = settings.control_token
    bearer = b"" if token is None else b"Bearer " + token.get_secret_value().encode()
    try:
        verify = await asyncio.to_thread(_certificates_for, machines)
    except OSError as error:
        return [
            replace(machine, why_not=f"the certificates cannot be read: {error.strerror}") for machine in machines
        ]
    at_once = asyncio.Semaphore(_MAX_AT_ONCE)
    # Redirects are not followed: they would send the token to another host.
    async with httpx.AsyncClient(trust_env=False, verify=verify) as client:

        async def asked(machine: OtherMachine) -> OtherMachine:
            async with at_once:
                return await _asked(client, machine, bearer)

        return list(await asyncio.gather(*(asked(machine) for machine in machines)))


def _certificates_for(machines: Sequence[OtherMachine]) -> ssl.SSLContext | bool:
    """Certificates are read only if a machine needs them, since reading them takes longer than an answer."""
    secure = any(machine.control_url.startswith("https:") for machine in machines)
    return httpx.create_ssl_context() if secure else False


async def _asked(client: httpx.AsyncClient, machine: OtherMachine, bearer: bytes) -> OtherMachine:
    if not machine.control_url:
        # A machine with an older release reports no address; it is not known where it listens.
        return replace(machine, why_not=_LISTENS_HERE_ALONE if machine.version else "it has told no address")
    try:
        async with asyncio.timeout(_ANSWER_SECONDS):
            told = told_by(await _answer(client, f"{machine.control_url}/status", bearer), machine.name)
    except TimeoutError:
        why = f"no answer within {_ANSWER_SECONDS:.0f} s"
    except (httpx.HTTPError, httpx.InvalidURL, OSError, ValueError) as error:
        why = str(error) or type(error).__name__
    except _Unusable as error:
        why = str(error)
    else:
        return replace(machine, told=told, version=told.version or machine.version)
    return replace(machine, why_not=harmless(f"{machine.control_url}: {why}", _MAX_TEXT))


async def _answer(client: httpx.AsyncClient, address: str, bearer: bytes) -> bytes:
    url, found = httpx.URL(address), bytearray()
    headers = {b"accept-encoding": b"identity"}  # so that the bound applies to the bytes kept in memory
    if bearer and (url.scheme == "https" or url.host in _HERE):
        headers[b"authorization"] = bearer
    async with client.stream("GET", url, headers=headers) as answer:
        if answer.status_code != 200:
            raise _Unusable(f"it answers {answer.status_code}")
        async for part in answer.aiter_raw():
            found += part
            if len(found) > _MAX_BYTES:
                raise _Unusable("its answer is too large")
    return bytes(found)


def told_by(answer: bytes, machine: str) -> Told:
    """What the answer of ``/status`` says about that machine (``HOST+MACHINE``); invalid parts are left out.

    Raises:
        FleetError: it is not the answer of a control process, or it is another machine's.
    """
    try:
        found = json.loads(answer)
    except (ValueError, RecursionError):
        raise _Unusable("its answer is not JSON") from None
    if not isinstance(found, dict) or not isinstance(found.get("processes"), list):
        raise _Unusable("its answer is not a fleet's status")
    if found.get("machine") not in (None, "", machine):  # 0.1.0 does not report its machine
        raise _Unusable(f"another machine answers there: {_text(found['machine'])}")
    processes: dict[str, str] = {}
    ages = []
    for process in found["processes"][:_MAX_PROCESSES]:
        if isinstance(process, dict) and (name := _text(process.get("process"))):
            processes[name] = _text(process.get("state"))
            ages.append(_seconds(process.get("uptime_seconds")))
    problems = found.get("problems")
    return Told(
        _text(found.get("version")),
        max((age for age in ages if age is not None), default=None),
        processes,
        [_text(problem) for problem in problems[:_MAX_PROBLEMS]] if isinstance(problems, list) else [],
        _fingerprints(found.get("backend")),
    )


def _fingerprints(backend: Any) -> dict[str, str]:
    """The fingerprints of the projects that the machine's backend serves from a folder, by id."""
    projects = backend.get("projects") if isinstance(backend, dict) else None
    if not isinstance(projects, dict):
        return {}
    return {
        _text(project_id): _text(told.get("fingerprint"))
        for project_id, told in list(projects.items())[:_MAX_PROJECTS]
        if isinstance(told, dict)
    }


def _text(value: Any) -> str:
    return harmless(value, _MAX_TEXT) if isinstance(value, str) else ""


def _seconds(value: Any) -> int | None:
    number = isinstance(value, int) and not isinstance(value, bool)
    return value if number and 0 <= value < 10**10 else None


class Asking:
    """Asks on behalf of all viewers: every ten seconds at most, and in the background once all machines are
    known."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._asking: asyncio.Task[None] | None = None
        self._known: dict[str, OtherMachine] = {}
        self._at = -_FORGOTTEN_SECONDS

    async def told(self, machines: Sequence[OtherMachine]) -> list[OtherMachine]:
        """The machines as they are now, with their latest answers."""
        if machines and time.monotonic() - self._at > _AGE_SECONDS and (not self._asking or self._asking.done()):
            self._asking = asyncio.create_task(self._ask(machines), name="ask the other machines")
        if self._asking is not None and any(machine.name not in self._known for machine in machines):
            await asyncio.shield(self._asking)
        return [self._with_answer(machine) for machine in machines]

    async def _ask(self, machines: Sequence[OtherMachine]) -> None:
        try:
            self._known = {machine.name: machine for machine in await ask_machines(self._settings, machines)}
        except Exception:  # the viewer still sees everything else
            logger.exception("the other machines cannot be asked")
        self._at = time.monotonic()

    def _with_answer(self, machine: OtherMachine) -> OtherMachine:
        known = self._known.get(machine.name)
        if known is None or time.monotonic() - self._at > _FORGOTTEN_SECONDS:
            return machine
        version = machine.version if known.told is None else known.told.version or machine.version
        return replace(machine, told=known.told, why_not=known.why_not, version=version)
