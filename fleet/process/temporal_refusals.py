"""Why a connection to Temporal failed, in the words of an operator.

The SDK hands on a chain of Rust errors as text (rustls, hyper, tonic), which is all that there is to go by. nginx
answers a client without a usable certificate with HTTP 400, other servers end the handshake.
"""

import re
from pathlib import Path

from temporalio.service import TLSConfig

from fleet.process.certificates import days_left, end_of
from fleet.process.temporal_credentials import TemporalCredentials

_NO_TLS = re.compile("InvalidContentType")
_WANTS_TLS = re.compile(r"h2 protocol error|operation was canceled|status: 400")
_CLIENT_CERTIFICATE = re.compile(
    r"status: 400|AlertReceived\((CertificateRequired|BadCertificate|UnknownCA|CertificateExpired|"
    r"CertificateUnknown|CertificateRevoked|UnsupportedCertificate|HandshakeFailure|AccessDenied)\)"
)
_DENIED = re.compile(r"status: 40[13]|code: (Unauthenticated|PermissionDenied)|UNAUTHENTICATED|PERMISSION_DENIED")
_UNKNOWN_ISSUER = re.compile("UnknownIssuer")
_WRONG_NAME = re.compile(r"NotValidForName")
_NAMES = re.compile(r'(?:DnsName|IpAddress)\((?:\\?")?([^"\\()]+)')

#: What is always the same: the words of the error, what they mean, and what to do.
_PLAIN = (
    (
        re.compile(r"InvalidCertificate\(Expired"),
        "the server's certificate has expired",
        "renew it on the server; if it is valid, correct this machine's clock (`timedatectl`)",
    ),
    (
        re.compile(r"InvalidCertificate\(NotValidYet"),
        "the server's certificate is not valid yet",
        "correct the clock of this machine or of the server (`timedatectl`)",
    ),
    (
        re.compile(r"KeyMismatch"),
        "the private key does not belong to the client certificate",
        "set TEMPORAL_TLS_CLIENT_CERT_PATH and TEMPORAL_TLS_CLIENT_KEY_PATH to a pair",
    ),
    (
        re.compile(r"PrivateKeyParseError"),
        "the private key of the client certificate cannot be used",
        "set TEMPORAL_TLS_CLIENT_KEY_PATH to a PEM file with an unencrypted private key",
    ),
    (
        re.compile(r"CertificateParseError|BadEncoding"),
        "a certificate is damaged or is not in PEM",
        "look at it with `openssl x509 -noout -text -in FILE`",
    ),
)


def explained(said: str, credentials: TemporalCredentials) -> tuple[str, str] | None:
    """What the error means and what to do, if it is about TLS or a key; otherwise None."""
    for pattern, says, remedy in _PLAIN:
        if pattern.search(said):
            return says, remedy
    if _UNKNOWN_ISSUER.search(said):
        return _unknown_issuer(credentials)
    if _WRONG_NAME.search(said):
        return _wrong_name(said)
    if _NO_TLS.search(said):
        return (
            "this client speaks TLS and the server does not",
            "correct the address; or set TEMPORAL_TLS=false, and unset the API key, which anybody could read then",
        )
    if _DENIED.search(said):
        return _denied(credentials)
    if not credentials.tls and _WANTS_TLS.search(said):
        return (
            "the server ended a connection without TLS, as one does that requires it",
            "set TEMPORAL_TLS=true and, for an authority of your own, TEMPORAL_TLS_SERVER_CA_CERT_PATH",
        )
    if credentials.tls and _CLIENT_CERTIFICATE.search(said):
        return _client_certificate(credentials)
    return None


def _unknown_issuer(credentials: TemporalCredentials) -> tuple[str, str]:
    trusted = credentials.server_ca_file or "the system's authorities"
    if isinstance(credentials.tls, TLSConfig) and credentials.tls.server_root_ca_cert:
        trusted = credentials.server_ca_file or "the configured authority"
    return (
        f"the server's certificate is not signed by {trusted}",
        "set TEMPORAL_TLS_SERVER_CA_CERT_PATH to the PEM file of the authority that signed it",
    )


def _wrong_name(said: str) -> tuple[str, str]:
    wanted, _, presented = said.partition("presented")
    expected = ", ".join(_NAMES.findall(wanted)) or "this address"
    names = ", ".join(_NAMES.findall(presented)) or "other names"
    return (
        f"the server's certificate is for {names} and not for {expected}",
        "use an address with that name, or set TEMPORAL_TLS_SERVER_NAME to it",
    )


def _denied(credentials: TemporalCredentials) -> tuple[str, str]:
    if credentials.api_key is None:
        return (
            "the server requires an API key, or denies access to this client",
            "set TEMPORAL_API_KEY, or FLEET_TEMPORAL_API_KEY_FILE to a file that contains it",
        )
    return (
        "the server does not accept the API key",
        "put a valid one for this namespace into TEMPORAL_API_KEY or the file of FLEET_TEMPORAL_API_KEY_FILE; "
        "then `fleet roll`",
    )


def _client_certificate(credentials: TemporalCredentials) -> tuple[str, str]:
    tls = credentials.tls
    if not isinstance(tls, TLSConfig) or not tls.client_cert:
        return (
            "the server requires a client certificate",
            "set TEMPORAL_TLS_CLIENT_CERT_PATH and TEMPORAL_TLS_CLIENT_KEY_PATH",
        )
    source: Path | str = credentials.client_certificate_file or "the client certificate"
    try:
        end = end_of(tls.client_cert)
    except ValueError:
        return f"{source} is not a certificate in PEM", "set TEMPORAL_TLS_CLIENT_CERT_PATH to a PEM file"
    if days_left(end) < 0:
        return (
            f"the client certificate {source} expired on {end:%Y-%m-%d}",
            "renew it; workers then connect by themselves",
        )
    return (
        f"the server does not accept the client certificate {source}",
        "have it signed by the authority that the server trusts for clients; this shows its issuer: `openssl x509 "
        "-noout -issuer -in FILE`",
    )
