"""``fleet scale``, ``fleet roll`` and ``fleet replay``: this machine's processes in the operator's hand."""

from collections.abc import Callable

from fleet.config import Settings
from fleet.control.home import Home
from fleet.control.replaying import Replayed, recorded, replay, replay_open
from fleet.control.rolling import roll
from fleet.control.scaling import Machine, operating
from fleet.runtime import connect_once

Say = Callable[[str], None]


def scale(settings: Settings, program: str, count: int, say: Say) -> None:
    """Have that many processes of a program on this machine.

    Raises:
        OperationError: it cannot be done; the message says what is in the way.
    """
    home = Home.of(settings)
    with operating(home):
        Machine(home, say).scale(program, count)
    say(f"{program} has {count} process{'es' if count > 1 else ''}")


async def replay_all(settings: Settings) -> Replayed:
    """Replay what earlier releases recorded, and all that is open on the server.

    Raises:
        TemporalUnavailable: the server cannot be reached.
    """
    done = Replayed()
    await replay(recorded(), done)
    await replay_open(await connect_once(settings), done)
    return done


def renew(settings: Settings, programs: list[str], say: Say) -> None:
    """Renew processes one at a time.

    Raises:
        OperationError: one did not come up, and the rest was left alone.
    """
    home = Home.of(settings)
    home.prepare()  # whatever is started from now on is of this release
    with operating(home):
        done = roll(Machine(home, say), programs)
    say(f"renewed: {', '.join(done)}")
