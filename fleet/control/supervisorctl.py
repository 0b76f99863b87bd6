"""``supervisorctl scale PROGRAM COUNT`` and ``supervisorctl roll [PROGRAM ...]``.

Source: supervisord.org/plugins.html. The ``supervisord.conf`` of every release names this module: while an update
runs, the commands of one release read the file of the other. So its path and ``make_plugin`` stay."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from supervisor.supervisorctl import ControllerPluginBase

from fleet.config import Settings, load_settings
from fleet.control.supervision.interrupt_handling import Interrupted, interruptible
from fleet.control.supervision.machine_processes import Machine
from fleet.control.supervision.rolling import roll
from fleet.control.supervision.scaling import operating, scale
from fleet.control.supervision.supervisord_home import Home
from fleet.errors import OperationError, SettingsError
from fleet.terminal import harmless_lines, write_error

_SOCKET = "unix://"


class FleetPlugin(ControllerPluginBase):
    """The fleet's own commands within supervisorctl."""

    name = "fleet"

    def do_scale(self, arguments: str) -> None:
        """Set the number of PROGRAM's processes to COUNT; those that stay are not touched."""
        words = arguments.split()
        if len(words) != 2 or not words[1].isdigit():
            self.ctl.output("Error: scale takes a program and a number, e.g. scale openai 4")
            self.ctl.exitstatus = 2
            return
        self._run(lambda machine: scale(machine, words[0], int(words[1])))

    def help_scale(self) -> None:
        """Shown by ``supervisorctl help scale``."""
        self.ctl.output("scale <program> <count>\tHave that many processes; those that stay are not touched")

    def do_roll(self, arguments: str) -> None:
        """Renew the processes of the named programs, or of all."""
        self._run(lambda machine: roll(machine, arguments.split()))

    def help_roll(self) -> None:
        """Shown by ``supervisorctl help roll``."""
        self.ctl.output("roll [<program> ...]\tRenew processes, never a queue without a poller")

    def _run(self, act: Callable[[Machine], object]) -> None:
        home = self._home()
        try:
            with operating(home), interruptible() as interruption:
                act(Machine(home, self._say, interruption))
        except Interrupted as ended:
            self._say(f"Error: {ended}")
            self.ctl.exitstatus = ended.status
        except OperationError as error:
            self._say(f"Error: {error}")
            self.ctl.exitstatus = 1
        else:
            self.ctl.output("done")

    def _say(self, text: str) -> None:
        self.ctl.output(harmless_lines(text))

    def _home(self) -> Home:
        """The home, with the path that supervisord uses: a home outside the checkout is its own state folder,
        through its link ``state``."""
        state = Path(str(self.ctl.options.serverurl).removeprefix(_SOCKET)).parent
        return Home.at(state.parent if state.samefile(state.parent) else state)


def _find_fleet(options: Any) -> None:
    """Without ``-c`` and ``-s``, supervisorctl in a checkout would look at the checkout's own state folder. If the
    settings name another one, look at that, and say so."""
    own, state = Home.at(Settings.model_fields["state_dir"].default), _state_folder()
    if state is None or options.serverurl != f"{_SOCKET}{own.socket}" or Home.at(state) == own:
        return
    home = Home.at(state)
    options.serverurl = f"{_SOCKET}{home.socket}"
    write_error(f"supervisorctl: this is the fleet of FLEET_STATE_DIR, {home.state}")


def _state_folder() -> Path | None:
    """The state folder of the settings; None if they are wrong, which other commands report."""
    try:
        return load_settings(API_BASE_URL="http://localhost").state_dir
    except SettingsError:
        return None


def make_plugin(ctl: Any, **config: Any) -> FleetPlugin:
    """The factory that supervisord.conf names."""
    _find_fleet(ctl.options)
    return FleetPlugin(ctl)  # type: ignore[no-untyped-call]
