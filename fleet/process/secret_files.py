"""Secrets that are files, such as systemd's credentials."""

from pathlib import Path

from fleet.errors import SettingsError
from fleet.redaction import protect

_LARGEST = 100_000


def read_secret(variable: str, file: Path) -> str:
    """The secret in a file that the setting ``variable`` names, without the white space around it. From now on it
    is removed from every text that this process writes.

    Raises:
        SettingsError: the file cannot be read, or is not one line of printable ASCII.
    """
    try:
        with file.open("rb") as opened:
            secret = opened.read(_LARGEST).decode("ascii").strip()
    except OSError as error:
        raise SettingsError(
            f"{variable}: {file} cannot be read ({error.strerror}). Remedy: correct the path, or the file's owner "
            "and mode: the fleet's user must be able to read it"
        ) from None
    except UnicodeDecodeError:
        secret = ""
    if not secret or not secret.isprintable():
        raise SettingsError(
            f"{variable}: {file} does not contain one line of text. Remedy: write the secret alone into it, e.g. "
            f"with `printf %s SECRET > {file}`"
        )
    protect(secret)
    return secret
