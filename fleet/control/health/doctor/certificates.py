"""When the certificates end that this machine's connections need: its own, its authorities', and the servers'."""

import asyncio
import socket
import ssl
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

from temporalio.service import TLSConfig

from fleet.config import Settings
from fleet.control.health.doctor.check import NOT_SET, Check
from fleet.errors import SettingsError
from fleet.process.certificates import days_left, end_of
from fleet.process.temporal_credentials import TemporalCredentials

_SOON_DAYS = 30
_TRY_SECONDS = 5.0
_RENEW_HERE = "renew it, then `fleet roll`"
_RENEW_THERE = "have it renewed on the server; nothing needs to be done here"


async def certificate_checks(settings: Settings) -> list[Check]:
    """One check for each certificate; none where nothing is encrypted. A file that cannot be read is told by the
    check of the connection itself."""
    found = await asyncio.gather(_of_temporal(settings), _of_backend(settings))
    return [check for checks in found for check in checks]


async def _of_temporal(settings: Settings) -> list[Check]:
    try:
        credentials = TemporalCredentials.of(settings)
    except SettingsError:
        return []
    if not credentials.tls or NOT_SET in settings.temporal_host:
        return []
    found = list(_own(credentials))
    host, _, port = settings.temporal_host.rpartition(":")
    name = credentials.tls.domain if isinstance(credentials.tls, TLSConfig) else None
    served = await served_certificate(host.strip("[]"), int(port), name)
    if served is not None:
        found.append(check_of("certificate of Temporal", served, settings.temporal_host, _RENEW_THERE))
    return found


def _own(credentials: TemporalCredentials) -> Iterator[Check]:
    tls = credentials.tls
    if not isinstance(tls, TLSConfig):
        return
    if tls.client_cert:
        where = credentials.client_certificate_file or "the client certificate in the settings"
        yield check_of("client certificate for Temporal", tls.client_cert, where, _RENEW_HERE)
    if tls.server_root_ca_cert:
        where = credentials.server_ca_file or "the authority in the settings"
        yield check_of("authority of Temporal", tls.server_root_ca_cert, where, _RENEW_HERE)


async def _of_backend(settings: Settings) -> list[Check]:
    address = urlsplit(settings.api_base_url)
    if address.scheme != "https" or NOT_SET in settings.api_base_url:
        return []
    found = []
    for what, file in (
        ("client certificate for the backend", settings.backend_client_cert_file),
        ("authority of the backend", settings.backend_ca_file),
    ):
        if file is not None and (certificate := await asyncio.to_thread(_content, file)):
            found.append(check_of(what, certificate, file, _RENEW_HERE))
    served = await served_certificate(address.hostname or "", address.port or 443)
    if served is not None:
        found.append(check_of("certificate of the backend", served, settings.api_base_url, _RENEW_THERE))
    return found


def _content(file: Path) -> bytes:
    try:
        return file.read_bytes()
    except OSError:
        return b""


def check_of(what: str, certificate: bytes, where: Path | str, remedy: str) -> Check:
    """The check of one certificate, in PEM or DER: a problem if it ends within 30 days."""
    try:
        end = end_of(certificate)
    except ValueError:
        return Check(what, False, f"{where} is not a certificate", "replace it with one in PEM")
    left = days_left(end)
    if left < 0:
        return Check(what, False, f"{where} expired on {end:%Y-%m-%d}", remedy)
    says = f"{where} ends on {end:%Y-%m-%d}, in {left:.0f} days"
    return Check(what, left > _SOON_DAYS, says, "" if left > _SOON_DAYS else remedy)


async def served_certificate(host: str, port: int, name: str | None = None) -> bytes | None:
    """The certificate, in DER, that a server shows for that name; None if it does not say. It is not checked
    here: the connections that are used do that."""
    return await asyncio.to_thread(_served_certificate, host, port, name or host)


def _served_certificate(host: str, port: int, name: str) -> bytes | None:
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    context.set_alpn_protocols(["h2", "http/1.1"])
    try:
        with (
            socket.create_connection((host, port), _TRY_SECONDS) as plain,
            context.wrap_socket(plain, server_hostname=name) as encrypted,
        ):
            return encrypted.getpeercert(binary_form=True)
    except OSError:
        return None
