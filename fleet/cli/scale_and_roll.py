"""``fleet scale``, ``fleet roll`` and ``fleet replay``: change this machine's processes, check its release."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from fleet.config import Settings
from fleet.control.supervision.interrupt_handling import Interrupted, interruptible
from fleet.control.supervision.machine_processes import Machine
from fleet.control.supervision.rolling import leave_out, roll, room
from fleet.control.supervision.scaling import operating
from fleet.control.supervision.scaling import scale as change_count
from fleet.control.supervision.supervisord_home import Home
from fleet.terminal import write_error

if TYPE_CHECKING:
    from fleet.control.supervision.replay_check import Replayed

Say = Callable[[str], None]


def scale(settings: Settings, program: str, count: int, say: Say) -> None:
    """Set the number of processes of a program on this machine.

    Raises:
        OperationError: it cannot be done; the message gives the reason.
        SettingsError: it is the program of a disabled provider.
    """
    settings.refuse_disabled(program)
    with _operated(settings, say) as machine:
        change_count(machine, program, count)
    say(f"{program} has {count} process{'es' if count > 1 else ''}")


async def replay_all(settings: Settings) -> "Replayed":
    """Replay the histories that earlier releases recorded, and all open ones on the server.

    Raises:
        TemporalUnavailable: the server cannot be reached.
    """
    # Imported here: the other commands do not use Temporal, whose SDK takes longer to load than they take to run.
    from fleet.control.supervision.replay_check import Replayed, recorded, replay, replay_open
    from fleet.process.temporal_connection import connect_once

    done = Replayed()
    await replay(recorded(), done)
    await replay_open(await connect_once(settings), done)
    return done


def renew(settings: Settings, programs: list[str], say: Say) -> None:
    """Renew processes, several programs side by side; those of providers that were disabled meanwhile end.

    Raises:
        OperationError: a process did not come up; the remaining ones were not touched.
        SettingsError: a program is named that is a disabled provider's.
    """
    for program in programs:
        settings.refuse_disabled(program)
    with _operated(settings, say) as machine:
        ended = leave_out(machine, settings.disabled_providers)
        done = roll(machine, programs, room())
    say(f"renewed: {', '.join(done)}" + (f"; ended, as disabled: {', '.join(ended)}" if ended else ""))


@contextmanager
def _operated(settings: Settings, say: Say) -> Iterator[Machine]:
    """This machine, locked for this operator. A signal ends the command after the current process, with the exit
    status that a shell expects."""
    home = Home.of(settings)
    try:
        with operating(home), interruptible() as interruption:
            yield Machine(home, say, interruption)
    except Interrupted as ended:
        write_error(f"fleet: {ended}")
        raise SystemExit(ended.status) from None
