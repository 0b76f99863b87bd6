"""When a certificate ends."""

from datetime import UTC, datetime

_SECONDS_A_DAY = 86_400


def end_of(certificate: bytes) -> datetime:
    """The end of the first certificate in a PEM text, or of one in DER.

    Raises:
        ValueError: it is no certificate.
    """
    # Imported here: a worker needs it only to explain why it was refused.
    from cryptography import x509

    if b"-----BEGIN" in certificate:
        return x509.load_pem_x509_certificate(certificate).not_valid_after_utc
    return x509.load_der_x509_certificate(certificate).not_valid_after_utc


def days_left(end: datetime) -> float:
    """Days until then; negative if it is past."""
    return (end - datetime.now(UTC)).total_seconds() / _SECONDS_A_DAY
