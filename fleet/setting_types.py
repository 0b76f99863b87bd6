"""Types of settings: addresses, files and names, with what is wrong with a value said in its error."""

import re
from ipaddress import ip_address
from pathlib import Path
from typing import Annotated, Any
from urllib.parse import SplitResult, urlsplit

from pydantic import AfterValidator, BeforeValidator, Field
from pydantic_settings import NoDecode

from fleet.redaction import excerpt


def shown_value(value: object) -> str:
    """A value for a message: shortened, and without what stands before an @, which may be a password."""
    _, at, after = str(value).rpartition("@")
    return f"(not shown)@{excerpt(after, 80)}" if at else excerpt(after, 80)


def _has_usable_port(parts: SplitResult) -> bool:
    try:
        return parts.port != 0
    except ValueError:
        return False


def _http_url(value: str) -> str:
    # urlsplit leaves out line breaks, and the client that gets the address does not.
    if not value.isprintable() or " " in value:
        raise ValueError("contains a space, a line break or another invisible character. Remedy: remove it")
    parts = urlsplit(value)
    _refuse_user_info(parts.netloc)
    if parts.scheme not in ("http", "https") or not parts.netloc or not _has_usable_port(parts):
        raise ValueError("is not an http(s) address. Remedy: write one such as http://localhost:8000")
    return value.rstrip("/")


def _refuse_user_info(value: str) -> None:
    if "@" in value:
        raise ValueError(
            "no user name and password may stand in an address. Remedy: remove what stands before the @, change "
            "that password, and use the settings for credentials (docs/security.md)"
        )


def is_open_to_readers(address: str) -> bool:
    """Whether what goes to an address leaves this machine unencrypted."""
    parts = urlsplit(address)
    return parts.scheme == "http" and not is_loopback(parts.hostname or "")


def is_loopback(host: str) -> bool:
    """Whether a host name or an address is this machine's own."""
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost" or host.endswith(".localhost")


def host_and_port(value: str) -> str:
    _refuse_user_info(value)
    host, colon, port = value.rpartition(":")
    usable = re.fullmatch("[0-9]{1,5}", port) and 0 < int(port) < 65_536
    if not (colon and host and usable and value.isprintable() and " " not in value):
        raise ValueError("must be host:port, such as localhost:7233")
    return value


def upper(value: Any) -> Any:
    return value.upper() if isinstance(value, str) else value


def none_if_empty(value: Any) -> Any:
    return None if value == "" else value


def _split(value: Any) -> Any:
    return tuple(filter(None, re.split(r"[,\s]+", value))) if isinstance(value, str) else value


Seconds = Annotated[float, Field(gt=0, le=86_400)]
OptionalFile = Annotated[Path | None, BeforeValidator(none_if_empty)]


def _host_names(value: tuple[str, ...]) -> tuple[str, ...]:
    for name in value:
        if not re.fullmatch(r"[A-Za-z0-9_]([A-Za-z0-9._-]{0,253}[A-Za-z0-9_.])?", name):
            raise ValueError(f"{shown_value(name)} is not a host name. Remedy: write it without scheme and port")
    return value


Names = Annotated[tuple[str, ...], NoDecode, BeforeValidator(_split)]
HostNames = Annotated[Names, AfterValidator(_host_names)]
HttpUrl = Annotated[str, AfterValidator(_http_url)]
HostAndPort = Annotated[str, AfterValidator(host_and_port)]
