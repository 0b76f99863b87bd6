"""What lets somebody read the page, kept in ``<state>/page``, which only the fleet's user can read.

- ``token`` is for this user's commands, such as ``fleet top``. It allows reading, and not operating.
- ``links/`` has the one-time links, and ``sessions/`` the browsers that are logged in: a file for each, named by
  the SHA-256 of a random secret. The secrets themselves are not kept. A file's time of change is when it was made,
  and removing a file takes the link or the session back.

They are files so that they outlive the control process, which ``fleet roll`` replaces, and so that a command can
make a link while no control process runs.
"""

import fcntl
import hashlib
import os
import re
import secrets
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from loguru import logger

from fleet.config import Settings
from fleet.process.atomic_file import write_atomically
from fleet.redaction import protect

LINK_SECONDS = 15 * 60
SESSION_SECONDS = 12 * 3600
_MAX_LINKS, _MAX_SESSIONS = 50, 200
_CLOCK_SET_BACK_SECONDS = 60.0
_TOKEN, _TOKEN_PATTERN = "token", re.compile("[0-9a-f]{64}")


@dataclass(frozen=True)
class IssuedSecrets:
    """Random secrets of 256 bits that are valid for a time. Of more than ``at_most``, the oldest become invalid.

    Example:
        secret = issued.issue()
        issued.take(secret)  # True
        issued.take(secret)  # False
    """

    folder: Path
    seconds: float
    at_most: int

    def issue(self) -> str:
        """A new secret: 64 hexadecimal digits.

        Raises:
            OSError: the folder cannot be written to.
        """
        self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._remove_old()
        secret = secrets.token_hex(32)
        self._path(secret).touch(mode=0o600)
        return secret

    def is_valid(self, secret: str) -> bool:
        """Whether it was issued, and is neither too old nor taken back."""
        # Who guesses learns nothing from the time that this takes: the file's name is a digest.
        try:
            return self._in_time(self._path(secret).stat().st_mtime)
        except OSError:
            return False

    def take(self, secret: str) -> bool:
        """Whether it was valid; afterwards it no longer is. Of several callers at the same time, one gets True."""
        valid = self.is_valid(secret)
        try:
            self._path(secret).unlink()
        except OSError:
            return False
        return valid

    def _path(self, secret: str) -> Path:
        return self.folder / hashlib.sha256(secret.encode("utf-8", "replace")).hexdigest()

    def _in_time(self, issued_at: float) -> bool:
        return -_CLOCK_SET_BACK_SECONDS < time.time() - issued_at < self.seconds

    def _remove_old(self) -> None:
        for number, (issued_at, path) in enumerate(sorted(self._known(), reverse=True), start=1):
            if number >= self.at_most or not self._in_time(issued_at):
                path.unlink(missing_ok=True)

    def _known(self) -> Iterator[tuple[float, Path]]:
        for path in self.folder.iterdir():
            with suppress(FileNotFoundError):  # another process took it
                yield path.stat().st_mtime, path


@dataclass(frozen=True)
class PageCredentials:
    """The credentials of a state folder."""

    folder: Path

    @classmethod
    def of(cls, settings: Settings) -> Self:
        """Those of the settings' state folder."""
        return cls(settings.state_dir.absolute() / "page")

    @property
    def links(self) -> IssuedSecrets:
        """The codes of one-time links."""
        return IssuedSecrets(self.folder / "links", LINK_SECONDS, _MAX_LINKS)

    @property
    def sessions(self) -> IssuedSecrets:
        """The values of session cookies."""
        return IssuedSecrets(self.folder / "sessions", SESSION_SECONDS, _MAX_SESSIONS)

    def token(self) -> str:
        """The reading token; empty if there is none, or it is damaged or cannot be read."""
        try:
            found = (self.folder / _TOKEN).read_text("ascii").strip()
        except (OSError, UnicodeDecodeError):
            return ""
        if _TOKEN_PATTERN.fullmatch(found) is None:
            return ""
        protect(found)
        return found

    def made_token(self) -> str:
        """The reading token; made if there is none, and made again if it is damaged, such as an empty file after a
        power loss. If it cannot be written, it is this process's own, and commands do not find it."""
        if found := self.token():
            return found
        fresh = secrets.token_hex(32)
        protect(fresh)
        try:
            self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            with _only_process(self.folder):
                if found := self.token():  # another process was first
                    return found
                self._write(fresh)
        except OSError as error:
            logger.error(
                "the token of the page's readers cannot be written to {}: {}", self.folder, error.strerror
            )
        return fresh

    def _write(self, fresh: str) -> None:
        path = self.folder / _TOKEN
        for draft in self.folder.glob(f".{_TOKEN}.*"):  # of a process that was killed
            draft.unlink(missing_ok=True)
        damaged = path.exists()
        write_atomically(path, f"{fresh}\n", mode=0o600)
        if damaged:
            logger.warning("the token of the page's readers in {} was damaged and is replaced", path)


@contextmanager
def _only_process(folder: Path) -> Iterator[None]:
    """Waits until no other process is in here with the same folder."""
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)
