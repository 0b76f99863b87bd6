"""What this machine's control process remembers of the other machines: Temporal forgets pollers within minutes,
and the budgets receive no reports from a machine without calls."""

import json
from collections.abc import Iterable
from dataclasses import asdict
from pathlib import Path

from loguru import logger

from fleet.budgets.messages import KnownMachine
from fleet.control.machines.other_machines import OtherMachine
from fleet.process.atomic_file import write_atomically

_FILE = "machines-seen.json"
_SAVED_SECONDS, _FORGOTTEN_SECONDS, _MAX_MACHINES = 30.0, 24 * 3600.0, 100


def last_seen_in(state: Path) -> list[KnownMachine]:
    """The machines as they were last seen from here; empty if there is no readable file."""
    try:
        found = json.loads((state / _FILE).read_text("utf-8"))
        return [
            KnownMachine(
                str(machine["machine"]),
                float(machine["heard_at"]),
                str(machine["version"]),
                str(machine["control_url"]),
            )
            for machine in found
        ]
    except FileNotFoundError:
        return []
    except (OSError, ValueError, TypeError, KeyError) as error:
        logger.debug("{} cannot be read: {}", state / _FILE, error)
        return []


class LastSeen:
    """Maintains the file in a state folder; used only by the control process, which observes all the time."""

    def __init__(self, state: Path) -> None:
        self._state = state
        self._saved_at = 0.0

    def note(self, machines: Iterable[OtherMachine], now: float) -> None:
        """These machines were seen; saved to the file at most every 30 seconds. ``now`` is unix seconds."""
        seen = [
            KnownMachine(machine.name, now - machine.seen_seconds, machine.version, machine.control_url)
            for machine in machines
        ]
        lately = sorted(seen, key=lambda machine: machine.heard_at)[-_MAX_MACHINES:]
        kept = [asdict(machine) for machine in lately if now - machine.heard_at < _FORGOTTEN_SECONDS]
        if not kept or now - self._saved_at < _SAVED_SECONDS:
            return
        self._saved_at = now
        try:
            write_atomically(self._state / _FILE, json.dumps(kept))
        except OSError as error:
            logger.warning("{} cannot be written: {}", self._state / _FILE, error.strerror)
