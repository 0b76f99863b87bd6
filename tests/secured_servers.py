"""A real Temporal server and a backend behind TLS: one end wants a client certificate, another one a key."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.certificates import Authority, Certificate
from tests.nginx import TlsEnd, running_nginx
from tests.ports import free_port_base

API_KEY = "a-key-for-temporal-0123456789"


@dataclass(frozen=True)
class SecuredTemporal:
    """Addresses of the same server: ``mutual`` wants a client certificate, ``keyed`` wants ``API_KEY``, and
    ``expired`` shows a certificate that has ended, and ``plain`` is the server itself. ``backend`` is the address
    of a backend that wants a client certificate and the token in ``token_file``. ``client`` is a certificate that
    ``mutual`` and ``backend`` accept."""

    authority: Authority
    client: Certificate
    mutual: str
    keyed: str
    expired: str
    plain: str
    backend: str
    token_file: Path

    def with_certificate(self, client: Certificate | None = None) -> dict[str, str]:
        """The variables that connect to ``mutual``, as those of the `temporal` command."""
        shown = client or self.client
        return {
            "TEMPORAL_ADDRESS": self.mutual,
            "TEMPORAL_TLS_SERVER_CA_CERT_PATH": str(self.authority.certificate),
            "TEMPORAL_TLS_CLIENT_CERT_PATH": str(shown.certificate),
            "TEMPORAL_TLS_CLIENT_KEY_PATH": str(shown.key),
            "TEMPORAL_TLS_SERVER_NAME": "temporal.example",
        }

    def with_key(self) -> dict[str, str]:
        """The variables that connect to ``keyed``."""
        return {
            "TEMPORAL_ADDRESS": self.keyed,
            "TEMPORAL_TLS_SERVER_CA_CERT_PATH": str(self.authority.certificate),
            "TEMPORAL_TLS_SERVER_NAME": "temporal.example",
            "TEMPORAL_API_KEY": API_KEY,
        }

    def with_backend(self) -> dict[str, str]:
        """The variables that connect to ``backend``."""
        return {
            "API_BASE_URL": self.backend,
            "FLEET_BACKEND_TOKEN_FILE": str(self.token_file),
            "FLEET_BACKEND_CA_FILE": str(self.authority.certificate),
            "FLEET_BACKEND_CLIENT_CERT_FILE": str(self.client.certificate),
            "FLEET_BACKEND_CLIENT_KEY_FILE": str(self.client.key),
        }


@contextmanager
def secured_temporal(folder: Path, server_port: int) -> Iterator[SecuredTemporal]:
    """The TLS ends of the Temporal server on that port, and of the backend of its embedded stack."""
    authority = Authority(folder)
    server = authority.sign("server", host="temporal.example")
    expired = authority.sign("expired-server", days=-2, host="temporal.example")
    mutual, keyed, ended, backend = range(base := free_port_base(), base + 4)
    ends = (
        TlsEnd(mutual, server_port, server, client_ca=authority.certificate),
        TlsEnd(keyed, server_port, server, token=API_KEY),
        TlsEnd(ended, server_port, expired),
        TlsEnd(backend, server_port + 2, server, client_ca=authority.certificate, token=API_KEY, http=True),
    )
    with running_nginx(folder, *ends):
        addresses = (f"localhost:{port}" for port in (mutual, keyed, ended, server_port))
        client, token_file = authority.sign("client"), folder / "token"
        token_file.write_text(f"{API_KEY}\n", "utf-8")
        token_file.chmod(0o640)
        backend_url = f"https://127.0.0.1:{backend}"
        yield SecuredTemporal(authority, client, *addresses, backend=backend_url, token_file=token_file)
