"""The one way in which every process and command connects to Temporal.

Certificates and keys are read at each connection, so a worker that waits for Temporal uses renewed ones.
"""

import asyncio
import re

from loguru import logger
from temporalio.api.workflowservice.v1 import DescribeNamespaceRequest
from temporalio.client import Client
from temporalio.service import RPCError, RPCStatusCode

from fleet.config import Settings
from fleet.errors import SettingsError, TemporalUnavailable
from fleet.process.data_converter import data_converter
from fleet.process.lifecycle import wait_for_event
from fleet.process.machine_id import identity_on, known_id
from fleet.process.temporal_credentials import TemporalCredentials
from fleet.process.temporal_refusals import explained
from fleet.redaction import excerpt, redact

_CONNECT_SECONDS = 10.0
_FIRST_WAIT_SECONDS, _LONGEST_WAIT_SECONDS = 1.0, 10.0


async def connect_once(settings: Settings, *, identity: str | None = None, timeout_seconds: float = 5.0) -> Client:
    """Connect to Temporal and check that the namespace exists.

    Raises:
        TemporalUnavailable: it cannot be reached in time, refuses this client, or has no such namespace; or a file
            that the connection needs cannot be used.
    """
    address, namespace = settings.temporal_host, settings.temporal_namespace
    identity = identity or identity_on(known_id(settings.state_dir), "fleet")
    try:
        credentials = TemporalCredentials.of(settings)
    except SettingsError as error:
        says, _, remedy = str(error).partition(". Remedy: ")
        raise _failed(address, says, remedy) from None
    try:
        async with asyncio.timeout(timeout_seconds):
            client = await Client.connect(
                address,
                namespace=namespace,
                identity=identity,
                data_converter=data_converter(),
                **credentials.arguments(),
            )
            await client.workflow_service.describe_namespace(DescribeNamespaceRequest(namespace=namespace))
    except RPCError as error:
        if error.status is RPCStatusCode.NOT_FOUND:
            raise TemporalUnavailable(
                f"Temporal at {address} has no namespace {namespace!r}. Remedy: create it with `temporal "
                f"operator namespace create -n {namespace}`, or set TEMPORAL_NAMESPACE"
            ) from None
        raise _refused(address, f"{error.status.name}: {error}", credentials) from None
    except (RuntimeError, ValueError, TimeoutError, OSError) as error:
        raise _refused(address, str(error) or type(error).__name__, credentials) from None
    return client


def _refused(address: str, said: str, credentials: TemporalCredentials) -> TemporalUnavailable:
    if known := explained(said, credentials):
        return _failed(address, *known)
    # The SDK quotes a chain of Rust errors that contains the operating system's message.
    plain = re.search(r'message: "([^"]+)"', said)
    said = plain.group(1) if plain else excerpt(" ".join(said.split()), 160)
    return _failed(address, said, "see that the server runs there (`fleet status`), or set TEMPORAL_HOST")


def _failed(address: str, said: str, remedy: str) -> TemporalUnavailable:
    return TemporalUnavailable(redact(f"Temporal server connection failed: {address} ({said}). Remedy: {remedy}"))


async def connect_patiently(settings: Settings, *, identity: str, stop: asyncio.Event) -> Client | None:
    """Connect to Temporal, trying until it responds; None if ``stop`` was set first."""
    wait = _FIRST_WAIT_SECONDS
    while not stop.is_set():
        try:
            return await connect_once(settings, identity=identity, timeout_seconds=_CONNECT_SECONDS)
        except TemporalUnavailable as error:
            logger.warning("{}; trying again in {:.0f} s", error, wait)
        if await wait_for_event(stop, wait):
            break
        wait = min(wait * 2, _LONGEST_WAIT_SECONDS)
    return None
