"""``fleet doctor``: everything that a fleet on this machine needs, looked at one by one."""

import asyncio
import os
import resource
import shutil
import stat
import time
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import httpx
from temporalio.api.workflowservice.v1 import GetSystemInfoRequest
from temporalio.client import Client
from temporalio.service import RPCError

from fleet.backend import Backend
from fleet.budgets.operate import standing_of
from fleet.budgets.queues import queue_rate
from fleet.config import Settings
from fleet.control.home import Home
from fleet.control.lint import lint
from fleet.errors import FleetError, JournalUnavailable
from fleet.journal import Journal
from fleet.runtime import connect_once

_LEAST_FREE_BYTES = 1_000_000_000
_MOST_SKEW_SECONDS = 5.0
_LEAST_FILES = 1024
_PACKAGES = ("temporalio", "supervisor", "httpx", "openai", "anthropic", "google-genai")
_SECRET_FILES = (".env", "fleet.toml")


@dataclass(frozen=True)
class Check:
    """One line of the doctor's. ``remedy`` is empty where all is well."""

    what: str
    ok: bool
    says: str
    remedy: str = ""


async def examine(settings: Settings) -> list[Check]:
    """Look at everything; what cannot be looked at is a problem of its own, and nothing is raised."""
    home = Home.of(settings)
    found = [_packages(), *_files(home), *_folders(home, settings), _limits(), *_journals(settings)]
    found += [_supervisord(home, settings)]
    servers = await asyncio.gather(_temporal(settings), _backend(settings))
    return found + [check for checks in servers for check in checks]


def _packages() -> Check:
    missing, there = [], []
    for name in _PACKAGES:
        try:
            there.append(f"{name} {version(name)}")
        except PackageNotFoundError:
            missing.append(name)
    if missing and missing != ["google-genai"]:
        return Check("packages", False, f"missing: {', '.join(missing)}", "install requirements/base.txt anew")
    return Check("packages", True, ", ".join(there))


def _files(home: Home) -> Iterator[Check]:
    """Who may read what."""
    for path in (home.state, home.socket):
        if not path.exists():
            continue
        mode = stat.S_IMODE(path.stat().st_mode)
        if mode & 0o077:
            yield Check(
                f"rights of {path.name}", False, f"{path} is open to others ({mode:o})", f"chmod 700 {path}"
            )
        else:
            yield Check(f"rights of {path.name}", True, f"{mode:o}, its owner's alone")
    for name in _SECRET_FILES:
        path = Path(name).absolute()
        if path.exists() and stat.S_IMODE(path.stat().st_mode) & 0o004:
            yield Check(f"rights of {name}", False, f"{path} may be read by everybody", f"chmod 640 {path}")


def _folders(home: Home, settings: Settings) -> Iterator[Check]:
    for what, folder in (("state folder", home.state), ("logs", settings.logs)):
        if not folder.is_dir():
            yield Check(what, False, f"{folder} is not there", "start the fleet once (`fleet up`), which makes it")
        elif not os.access(folder, os.W_OK | os.X_OK):
            yield Check(what, False, f"{folder} cannot be written", f"give it to this user: chown {folder}")
        else:
            free = shutil.disk_usage(folder).free
            remedy = "" if free > _LEAST_FREE_BYTES else "make room; journals and logs need it"
            yield Check(what, free > _LEAST_FREE_BYTES, f"{folder}, {free / 1e9:.1f} GB free", remedy)


def _limits() -> Check:
    most, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    ok = most >= _LEAST_FILES or most == resource.RLIM_INFINITY
    return Check("open files", ok, f"{most} allowed", "" if ok else f"ulimit -n {_LEAST_FILES}, or LimitNOFILE=")


def _journals(settings: Settings) -> Iterator[Check]:
    for provider in sorted(settings.providers):
        try:
            with Journal.of(settings, provider) as journal:
                counts = journal.counts()
        except JournalUnavailable as error:
            yield _from_error(f"journal of {provider}", error)
        else:
            yield Check(f"journal of {provider}", True, f"{sum(counts.by_state.values())} calls")


def _supervisord(home: Home, settings: Settings) -> Check:
    problems = lint(home, settings)
    if problems:
        remedy = "restore supervisord.conf from the release; `fleet up` writes programs.d"
        return Check("supervisord.conf", False, "; ".join(problems), remedy)
    return Check("supervisord.conf", True, f"{home.configuration}")


async def _temporal(settings: Settings) -> list[Check]:
    began = time.monotonic()
    try:
        client = await connect_once(settings)
        took = time.monotonic() - began
        answer = await client.workflow_service.get_system_info(GetSystemInfoRequest())
    except (FleetError, RPCError) as error:
        return [_from_error("Temporal", error)]
    says = f"{settings.temporal_host}, server {answer.server_version}, connected in {took:.2f} s"
    found = [Check("Temporal", True, says), Check("namespace", True, settings.temporal_namespace)]
    for provider in settings.providers.values():
        found += [await _queue(client, queue) for queue in provider.limits]
    return found


async def _queue(client: Client, queue: str) -> Check:
    """Whether a rate that is set for a queue would hold."""
    what = f"queue {queue}"
    try:
        known = await queue_rate(client, queue)
    except RPCError as error:
        return _from_error(what, error)
    standing = await standing_of(client, queue)
    if not known.exact or (standing is not None and not standing.exact):
        says = f"{known.partitions} partition(s); its rate holds approximately"
        remedy = (
            "give it one partition (matching.numTaskqueueReadPartitions, …WritePartitions), let its rate be set"
        )
        return Check(what, False, says, remedy)
    rate = "no rate set yet" if known.rate is None else f"{known.rate:g} a second"
    return Check(
        what, True, f"one partition, {rate}, " + ("budget kept" if standing else "nobody keeps its budget")
    )


async def _backend(settings: Settings) -> list[Check]:
    async with Backend.from_settings(settings) as backend:
        found = [await _tried("Backend API and its database", backend.health, settings.api_base_url)]
        if not found[0].ok:
            return found
        needed = [provider.name for provider in settings.providers.values() if provider.needs_key]
        found += await asyncio.gather(*(_key(backend, name) for name in needed))
    return [*found, await _clock(settings)]


async def _key(backend: Backend, provider: str) -> Check:
    """Whether there is a key; it is never shown."""
    what = f"API key of {provider}"
    try:
        key = await backend.api_key(provider)
    except FleetError as error:
        return _from_error(what, error)
    return Check(what, True, f"there, {len(key)} characters")


async def _clock(settings: Settings) -> Check:
    """This machine's clock against the backend's."""
    try:
        async with httpx.AsyncClient(timeout=5) as client:
            told = (await client.get(f"{settings.api_base_url.rstrip('/')}/health")).headers.get("date")
        skew = time.time() - parsedate_to_datetime(told).timestamp() if told else None
    except (httpx.HTTPError, ValueError, TypeError):
        skew = None
    if skew is None:
        return Check("clock", True, "the backend tells no time to compare it with")
    ok = abs(skew) <= _MOST_SKEW_SECONDS
    remedy = "" if ok else "turn time synchronisation on: timedatectl set-ntp true"
    return Check("clock", ok, f"{skew:+.1f} s from the backend's", remedy)


async def _tried(what: str, act: Callable[[], Awaitable[Any]], says: str) -> Check:
    try:
        await act()
    except FleetError as error:
        return _from_error(what, error)
    return Check(what, True, says)


def _from_error(what: str, error: Exception) -> Check:
    says, _, remedy = str(error).partition(" Remedy: ")
    return Check(what, False, says, remedy or "see the server's own log")
