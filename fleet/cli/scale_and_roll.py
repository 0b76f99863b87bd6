"""``fleet scale``, ``fleet roll`` and ``fleet replay``: change this machine's processes, check its release."""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from typing import TYPE_CHECKING

from fleet.cli.console import Console
from fleet.config import Settings
from fleet.control.supervision.interrupt_handling import Interrupted, interruptible
from fleet.control.supervision.machine_processes import Machine
from fleet.control.supervision.operation_waits import ShowWaits, Wait, wait_lines
from fleet.control.supervision.rolling import leave_out, roll, room
from fleet.control.supervision.scaling import operating
from fleet.control.supervision.scaling import scale as change_count
from fleet.control.supervision.supervisord_home import Home
from fleet.terminal import write_error

if TYPE_CHECKING:
    from rich.live import Live

    from fleet.control.supervision.replay_check import Replayed


def scale(settings: Settings, program: str, count: int, console: Console) -> None:
    """Set the number of processes of a program on this machine.

    Raises:
        OperationError: it cannot be done; the message gives the reason.
        SettingsError: it is the program of a disabled provider.
    """
    settings.refuse_disabled(program)
    with _operated(settings, console) as machine:
        change_count(machine, program, count)
    console.say(f"{program} has {count} process{'es' if count > 1 else ''}")


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


def renew(settings: Settings, programs: list[str], console: Console) -> None:
    """Renew processes, several programs side by side; those of providers that were disabled meanwhile end.

    Raises:
        OperationError: a process did not come up; the remaining ones were not touched.
        SettingsError: a program is named that is a disabled provider's.
    """
    for program in programs:
        settings.refuse_disabled(program)
    with _operated(settings, console) as machine:
        ended = leave_out(machine, settings.disabled_providers)
        done = roll(machine, programs, room())
    console.say(f"renewed: {', '.join(done)}" + (f"; ended, as disabled: {', '.join(ended)}" if ended else ""))


@contextmanager
def _operated(settings: Settings, console: Console) -> Iterator[Machine]:
    """This machine, locked for this operator. A signal ends the command after the current process, with the exit
    status that a shell expects."""
    home = Home.of(settings)
    try:
        with operating(home), interruptible() as interruption, waits_on(console) as show_waits:
            yield Machine(home, console.say, interruption, show_waits=show_waits)
    except Interrupted as ended:
        write_error(f"fleet: {ended}")
        raise SystemExit(ended.status) from None


@contextmanager
def waits_on(console: Console) -> Iterator[ShowWaits | None]:
    """Shows waits below the last line while they last, if the console is a terminal; otherwise None."""
    if not console.is_terminal:
        yield None
        return
    from rich.live import Live
    from rich.text import Text

    live = Live(console=console, auto_refresh=False, transient=True)

    def show(waits: list[Wait], now: float) -> None:
        live.update(Text("\n".join(wait_lines(waits, now)), "dim"), refresh=True)

    with ExitStack() as shown:
        with suppress(OSError):  # a terminal that is gone ends no operation
            live.start()
        shown.callback(_stop, live)
        yield show


def _stop(live: "Live") -> None:
    with suppress(OSError):
        live.stop()
