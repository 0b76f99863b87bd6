"""``supervisorctl scale PROGRAM COUNT`` and ``supervisorctl roll [PROGRAM ...]``.

Source: supervisord.org/plugins.html.
"""

from pathlib import Path
from typing import Any

from supervisor.supervisorctl import ControllerPluginBase

from fleet.control.home import Home
from fleet.control.rolling import roll
from fleet.control.scaling import Machine, operating
from fleet.errors import OperationError

_SOCKET = "unix://"


class FleetPlugin(ControllerPluginBase):
    """The fleet's own commands within supervisorctl."""

    name = "fleet"

    def do_scale(self, arguments: str) -> None:
        """Have COUNT processes of PROGRAM; those that stay are not touched."""
        words = arguments.split()
        if len(words) != 2 or not words[1].isdigit():
            self.ctl.output("Error: scale takes a program and a number, e.g. scale openai 4")
            self.ctl.exitstatus = 2
            return
        self._run(lambda machine: machine.scale(words[0], int(words[1])))

    def help_scale(self) -> None:
        """Shown by ``supervisorctl help scale``."""
        self.ctl.output("scale <program> <count>\tHave that many processes; those that stay are not touched")

    def do_roll(self, arguments: str) -> None:
        """Renew the processes of the programs named, or of all."""
        self._run(lambda machine: roll(machine, arguments.split()))

    def help_roll(self) -> None:
        """Shown by ``supervisorctl help roll``."""
        self.ctl.output("roll [<program> ...]\tRenew processes one at a time, never a queue without a poller")

    def _run(self, act: Any) -> None:
        home = self._home()
        try:
            with operating(home):
                act(Machine(home, self.ctl.output))
        except OperationError as error:
            self.ctl.output(f"Error: {error}")
            self.ctl.exitstatus = 1
        else:
            self.ctl.output("done")

    def _home(self) -> Home:
        url = str(self.ctl.options.serverurl)
        state = Path(url.removeprefix(_SOCKET)).parent
        return Home.at(state)


def make_plugin(ctl: Any, **config: Any) -> FleetPlugin:
    """What supervisord.conf names."""
    return FleetPlugin(ctl)  # type: ignore[no-untyped-call]
