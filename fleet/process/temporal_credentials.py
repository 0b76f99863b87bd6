"""What a client proves itself to Temporal with, and how it knows the server."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from temporalio.service import TLSConfig

from fleet.config import Settings
from fleet.errors import SettingsError
from fleet.process.secret_files import read_secret
from fleet.redaction import protect
from fleet.temporal_profile import load_profile

if TYPE_CHECKING:
    from temporalio.envconfig import ClientConfigProfile, ClientConfigTLS, DataSource

_KEY_FILE = "FLEET_TEMPORAL_API_KEY_FILE"


@dataclass(frozen=True)
class TemporalCredentials:
    """``tls`` is False for a connection in plain text, True for TLS with the system's authorities. The files are
    where its certificates came from, None where they are no files."""

    tls: bool | TLSConfig = field(default=False, repr=False)
    api_key: str | None = field(default=None, repr=False)
    metadata: Mapping[str, str] = field(default_factory=dict, repr=False)
    client_certificate_file: Path | None = None
    server_ca_file: Path | None = None

    @classmethod
    def of(cls, settings: Settings) -> "TemporalCredentials":
        """Those of the settings, with files as they are now; none for an embedded Temporal.

        Raises:
            SettingsError: a file cannot be read or used, or Temporal's own configuration is wrong.
        """
        if not settings.temporal_config:
            return cls()
        values = load_profile().values
        key_file = settings.temporal_api_key_file
        if key_file is not None:
            key = read_secret(_KEY_FILE, key_file)
        else:
            key = ((values.api_key if values is not None else None) or "").strip()
            protect(key)
        if values is None:
            return cls(tls=bool(key), api_key=key or None)
        tls = values.tls
        return cls(
            tls=bool(key) if tls is None else _read(tls),
            api_key=key or None,
            metadata=_metadata(values),
            client_certificate_file=_file(tls.client_cert) if tls is not None else None,
            server_ca_file=_file(tls.server_root_ca_cert) if tls is not None else None,
        )

    def arguments(self) -> dict[str, Any]:
        """Those of ``Client.connect``."""
        return {"tls": self.tls, "api_key": self.api_key, "rpc_metadata": self.metadata}


def _read(tls: "ClientConfigTLS") -> bool | TLSConfig:
    try:
        read = tls.to_connect_tls_config()
    except OSError as error:
        raise SettingsError(
            f"Temporal's TLS: {error.filename} cannot be read ({error.strerror}). Remedy: correct its path in "
            "TEMPORAL_TLS_* or temporal.toml, or let the fleet's user read it"
        ) from None
    if isinstance(read, TLSConfig) and bool(read.client_cert) != bool(read.client_private_key):
        there, lacking = ("CERT", "KEY") if read.client_cert else ("KEY", "CERT")
        raise SettingsError(
            f"TEMPORAL_TLS_CLIENT_{there}_PATH is set without TEMPORAL_TLS_CLIENT_{lacking}_PATH. Remedy: set "
            "both, or neither"
        )
    return read


def _metadata(values: "ClientConfigProfile") -> Mapping[str, str]:
    for name, value in values.grpc_meta.items():
        if name.lower() == "authorization":
            protect(value)
    return dict(values.grpc_meta)


def _file(source: "DataSource | None") -> Path | None:
    return source if isinstance(source, Path) else None
