"""The folder from which a fleet's supervisord runs."""

import os
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from fleet.config import PROJECT_ROOT, Settings
from fleet.errors import OperationError

CONFIGURATION = "supervisord.conf"
#: The longest path of a unix socket, in bytes. Source: unix(7), sun_path.
_SOCKET_PATH_MAX = 107
_UNUSABLE = set('%"\n\r')


@dataclass(frozen=True)
class Home:
    """``folder`` contains ``supervisord.conf``, ``.venv``, ``state`` and ``logs``, as the configuration expects.

    For the default state folder that is the checkout itself. A fleet with another state folder has its home there,
    with links to the checkout's configuration and to the environment, so that one tracked file serves both.
    """

    folder: Path
    state: Path
    logs: Path

    @classmethod
    def of(cls, settings: Settings) -> Self:
        """The home that belongs to the settings' state folder."""
        return cls.at(settings.state_dir)

    @classmethod
    def at(cls, folder: Path) -> Self:
        """The home that belongs to a state folder."""
        state = folder.absolute()
        in_checkout = state == PROJECT_ROOT / "state"
        return (
            cls(PROJECT_ROOT, state, PROJECT_ROOT / "logs") if in_checkout else cls(state, state, state / "logs")
        )

    @property
    def configuration(self) -> Path:
        """The configuration file of supervisord."""
        return self.folder / CONFIGURATION

    @property
    def socket(self) -> Path:
        """The socket on which supervisord listens."""
        return self.state / "supervisor.sock"

    @property
    def programs(self) -> Path:
        """The folder of the configuration that ``fleet`` writes."""
        return self.state / "programs.d"

    def prepare(self) -> None:
        """Create the folders and links, private to this user; existing ones are kept.

        Raises:
            OperationError: the path cannot be used, or a folder cannot be created.
        """
        self._refuse_unusable_path()
        try:
            for folder in (self.state, self.programs):
                folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            self.state.chmod(0o700)
            self.logs.mkdir(parents=True, exist_ok=True)
            if self.folder == self.state:
                self._link(CONFIGURATION, PROJECT_ROOT / CONFIGURATION)
                self._link(".venv", Path(sys.prefix).resolve())  # which may be this link itself
                self._link("state", Path())
        except OSError as error:
            raise OperationError(
                f"the state folder {self.state} cannot be used ({error.strerror}). Remedy: set FLEET_STATE_DIR to "
                "a folder that you may write"
            ) from None

    def _refuse_unusable_path(self) -> None:
        if bad := _UNUSABLE & set(str(self.state)):
            raise OperationError(
                f"the path {self.state} contains {sorted(bad)[0]!r}, which supervisord cannot take. Remedy: set "
                "FLEET_STATE_DIR to another folder"
            )
        if len(os.fsencode(self.socket)) > _SOCKET_PATH_MAX:
            raise OperationError(
                f"the path {self.socket} is longer than the {_SOCKET_PATH_MAX} bytes of a socket's. Remedy: set "
                "FLEET_STATE_DIR to a shorter one"
            )

    def _link(self, name: str, target: Path) -> None:
        """Make ``name`` in the home a link to ``target``, replacing a link to something else."""
        link = self.folder / name
        if link.is_symlink() and link.readlink() == target:
            return
        fresh = link.with_name(f".{name}.{os.getpid()}")
        fresh.symlink_to(target)
        fresh.replace(link)
