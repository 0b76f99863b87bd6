"""How the fleet proves itself to the Backend API, and how it knows the backend: token, authority, certificate."""

import re
import ssl
from dataclasses import dataclass, field
from pathlib import Path
from typing import Self

import httpx
from pydantic import SecretStr

from fleet.config import Settings
from fleet.errors import SettingsError
from fleet.process.certificates import days_left, end_of
from fleet.process.secret_files import read_secret

_TOKEN_FILE = "FLEET_BACKEND_TOKEN_FILE"
_CLIENT_CERTIFICATE = re.compile(r"alert (certificate (required|expired)|bad certificate|unknown ca)", re.I)
# Servers of TLS 1.3 refuse a client after the handshake, some of them without a word.
_HUNG_UP = "Server disconnected without sending a response"
# What nginx answers to a client without a usable certificate.
_REJECTED = (400, 495, 496)


@dataclass(frozen=True)
class BackendCredentials:
    """``token`` is sent with each request; ``token_file`` wins over it and is read each time, so that a new token
    is taken up at once. The other files are read when a client is created."""

    token: SecretStr | None = None
    token_file: Path | None = None
    ca_file: Path | None = None
    client_cert_file: Path | None = None
    client_key_file: Path | None = field(default=None, repr=False)

    @classmethod
    def of(cls, settings: Settings) -> Self:
        """Those of the settings."""
        return cls(
            settings.backend_token,
            settings.backend_token_file,
            settings.backend_ca_file,
            settings.backend_client_cert_file,
            settings.backend_client_key_file,
        )

    @property
    def has_token(self) -> bool:
        """Whether requests bear a token."""
        return self.token is not None or self.token_file is not None

    def headers(self) -> dict[str, str]:
        """The headers of the next request.

        Raises:
            SettingsError: the file of the token cannot be used.
        """
        if self.token_file is not None:
            return {"Authorization": f"Bearer {read_secret(_TOKEN_FILE, self.token_file)}"}
        return {} if self.token is None else {"Authorization": f"Bearer {self.token.get_secret_value()}"}

    def tls(self) -> ssl.SSLContext:
        """What a new client verifies the backend with, and shows to it.

        Raises:
            SettingsError: a file cannot be used.
        """
        try:
            context = ssl.create_default_context(cafile=self.ca_file)
        except OSError as error:
            raise _unusable("FLEET_BACKEND_CA_FILE", self.ca_file, error) from None
        if self.client_cert_file is not None:
            try:
                context.load_cert_chain(self.client_cert_file, self.client_key_file)
            except OSError as error:
                files = f"{self.client_cert_file} with {self.client_key_file or 'the key in it'}"
                raise _unusable("FLEET_BACKEND_CLIENT_CERT_FILE", files, error) from None
        return context

    def refusal(self, error: Exception) -> tuple[str, str] | None:
        """What a failed connection over TLS means and what to do, if it is about certificates; otherwise None."""
        said = str(error)
        if "CERTIFICATE_VERIFY_FAILED" in said:
            return _not_trusted(said.lower(), self.ca_file)
        if _CLIENT_CERTIFICATE.search(said):
            return self._client_certificate()
        # Where the server resets the connection at once, its alert about the certificate is lost.
        if _HUNG_UP in said or isinstance(error, httpx.ReadError | httpx.WriteError):
            says, remedy = self._client_certificate()
            return f"it ended the connection without an answer; perhaps {says}", remedy
        if "WRONG_VERSION_NUMBER" in said:
            return "it does not speak TLS on this port", "correct API_BASE_URL"
        return None

    def answer(self, status: int, *, encrypted: bool) -> tuple[str, str] | None:
        """What an HTTP status means for this client and what to do, if it is about credentials; otherwise None."""
        if status in (401, 403):
            if self.has_token:
                return "it does not accept the token", f"put a valid one into FLEET_BACKEND_TOKEN or {_TOKEN_FILE}"
            return "it requires a token, or denies access", f"set {_TOKEN_FILE} to a file that contains the token"
        if status in _REJECTED and encrypted:
            return self._client_certificate()
        return None

    def _client_certificate(self) -> tuple[str, str]:
        file = self.client_cert_file
        if file is None:
            return (
                "it requires a client certificate",
                "set FLEET_BACKEND_CLIENT_CERT_FILE and FLEET_BACKEND_CLIENT_KEY_FILE",
            )
        try:
            end = end_of(file.read_bytes())
        except (OSError, ValueError):
            end = None
        if end is not None and days_left(end) < 0:
            return f"the client certificate {file} expired on {end:%Y-%m-%d}", "renew it, then `fleet roll`"
        return f"it does not accept the client certificate {file}", "have it signed by an authority that it trusts"


NO_CREDENTIALS = BackendCredentials()


def _unusable(variable: str, files: object, error: OSError) -> SettingsError:
    # An SSLError has no text of the operating system's.
    why = error.strerror if not isinstance(error, ssl.SSLError) else f"not usable as PEM, {error.reason or error}"
    return SettingsError(
        f"{variable}: {files} cannot be used ({why}). Remedy: correct the path, or let the fleet's user read it"
    )


def _not_trusted(said: str, ca_file: Path | None) -> tuple[str, str]:
    if "expired" in said:
        return (
            "its certificate has expired",
            "renew it on the server, or correct this machine's clock",
        )
    if "hostname mismatch" in said or "ip address mismatch" in said:
        return (
            "its certificate is for another name",
            "use the certificate's name in API_BASE_URL",
        )
    return (
        f"its certificate is not signed by {ca_file or 'an authority of the system'}",
        "set FLEET_BACKEND_CA_FILE to the PEM file of the authority that signed it",
    )
