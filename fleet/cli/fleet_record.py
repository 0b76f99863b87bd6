"""``<state>/fleet.json``: the addresses of the fleet that ``fleet up`` started, and the processes that it
started."""

import json
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any, Self

from fleet.cli.not_permitted import not_permitted
from fleet.devstack.detached_processes import ProcessRecord
from fleet.errors import OperationError
from fleet.process.atomic_file import write_atomically

_FILE = "fleet.json"


@dataclass(frozen=True)
class FleetRecord:
    """The addresses of a fleet, and its processes outside supervisord together with supervisord itself.

    ``simulator`` is the simulator's address, None if no provider is simulated; ``simulated`` are the names of the
    providers whose calls it answers. ``ui`` is the address of Temporal's pages, None if Temporal is not embedded.
    ``backend_token_file`` is the path of the embedded backend's token; empty if it has none.
    ``projects`` is the folder whose projects the embedded backend serves.
    """

    temporal: str
    namespace: str
    backend: str
    control: str
    simulator: str | None
    ui: str | None
    processes: list[ProcessRecord]
    simulated: list[str] = field(default_factory=list)
    backend_token_file: str = ""
    projects: str | None = None

    @classmethod
    def load(cls, state: Path) -> Self | None:
        """The record in a state folder; None if there is none.

        Raises:
            NotPermitted: it belongs to another user.
            OperationError: it cannot be read.
        """
        path = state / _FILE
        try:
            values: dict[str, Any] = json.loads(path.read_text("utf-8"))
            processes = [ProcessRecord(**value) for value in values.pop("processes")]
            known = {item.name for item in fields(cls)}  # another release may have written more
            return cls(**{name: value for name, value in values.items() if name in known}, processes=processes)
        except FileNotFoundError:
            return None
        except PermissionError:
            raise not_permitted(path) from None
        except (OSError, ValueError, TypeError, KeyError, AttributeError) as error:
            raise OperationError(
                f"{path} cannot be read ({error}). Remedy: end the fleet's processes by hand and remove it"
            ) from None

    def save(self, state: Path) -> None:
        """Write it into a state folder."""
        write_atomically(state / _FILE, json.dumps(asdict(self), indent=2) + "\n")

    @staticmethod
    def remove(state: Path) -> None:
        """Remove it from a state folder."""
        (state / _FILE).unlink(missing_ok=True)

    @property
    def embedded_backend(self) -> bool:
        """Whether the backend is the embedded one, which has the keys of the environment."""
        return any(process.name == "backend" for process in self.processes)

    @property
    def alive(self) -> list[ProcessRecord]:
        """The processes that still run."""
        return [process for process in self.processes if process.alive]

    @property
    def embedded(self) -> bool:
        """Whether its Temporal is the embedded one, which has neither TLS nor keys."""
        return self.ui is not None

    def overrides(self) -> dict[str, Any]:
        """The settings that reach this fleet."""
        port = int(self.control.rpartition(":")[2])
        reached = {
            "TEMPORAL_HOST": self.temporal,
            "TEMPORAL_NAMESPACE": self.namespace,
            "API_BASE_URL": self.backend,
            "control_port": port,
        }
        return reached | ({"temporal_config": False} | self._of_backend() if self.embedded else {})

    def variables(self) -> dict[str, str]:
        """The variables of an embedded stack that replace what the user has set for servers of his own."""
        if not self.embedded:
            return {}
        backend = {f"FLEET_{name.upper()}": value or "" for name, value in self._of_backend().items()}
        return backend | {"FLEET_TEMPORAL_UI": self.ui or "", "FLEET_TEMPORAL_CONFIG": "false"}

    def _of_backend(self) -> dict[str, str | None]:
        """What the embedded backend asks for: a token at most. It serves a folder of projects itself."""
        nothing = dict.fromkeys(
            (
                "backend_token",
                "backend_ca_file",
                "backend_client_cert_file",
                "backend_client_key_file",
                "projects_dir",
            )
        )
        return {**nothing, "backend_token_file": self.backend_token_file or None}
