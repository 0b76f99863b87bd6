"""The machines that a budget has heard of, and when last. Pure: no I/O, no clock; ``now`` is unix seconds."""

from dataclasses import dataclass, field

from fleet.budgets.messages import KnownMachine, MachineHome

_FORGOTTEN_SECONDS = 24 * 3600.0
# Workflow state has a size, and a machine whose id is made anew at each start is another one each time.
_MAX_MACHINES = 100


@dataclass(slots=True)
class Roster:
    """Those of the last day, by ``HOST+MACHINE``, a hundred at most. Plain data, so that a workflow can carry it
    on."""

    machines: dict[str, KnownMachine] = field(default_factory=dict)

    def opened(self, home: MachineHome | None, now: float) -> None:
        """A process of that machine has come; it tells how its machine is found."""
        if home is not None:
            self._note(KnownMachine(home.machine, now, home.version, home.control_url), now)

    def heard(self, machine: str, now: float) -> None:
        """A process of that machine has reported; empty where it did not say which."""
        known = self.machines.get(machine)
        if known is None:
            self._note(KnownMachine(machine, now), now)
        elif now > known.heard_at:  # with every report: the others need not be looked at
            self.machines[machine] = KnownMachine(machine, now, known.version, known.control_url)

    def _note(self, machine: KnownMachine, now: float) -> None:
        if not machine.machine:
            return
        self.machines[machine.machine] = machine
        lately = sorted(self.machines.values(), key=lambda one: one.heard_at)[-_MAX_MACHINES:]
        self.machines = {one.machine: one for one in lately if now - one.heard_at < _FORGOTTEN_SECONDS}
