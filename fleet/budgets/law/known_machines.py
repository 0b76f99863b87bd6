"""The machines that have reported to a budget, and when last. Pure: no I/O, no clock; ``now`` is unix seconds."""

from dataclasses import dataclass, field

from fleet.budgets.messages import KnownMachine, MachineHome

_FORGOTTEN_SECONDS = 24 * 3600.0
# The workflow's state must stay small, and a machine that gets a new id at each start counts as a new one each
# time.
_MAX_MACHINES = 100


@dataclass(slots=True)
class Roster:
    """The machines of the last day, by ``HOST+MACHINE``, at most a hundred. Plain data, so that a workflow can
    carry it over."""

    machines: dict[str, KnownMachine] = field(default_factory=dict)

    def opened(self, home: MachineHome | None, now: float) -> None:
        """A process of that machine has started; it reports how its machine is reached."""
        if home is not None:
            self._note(KnownMachine(home.machine, now, home.version, home.control_url), now)

    def heard(self, machine: str, now: float) -> None:
        """A process of that machine has reported; ``machine`` is empty where it did not say which."""
        known = self.machines.get(machine)
        if known is None:
            self._note(KnownMachine(machine, now), now)
        elif now > known.heard_at:  # this runs with every report, so it leaves the others alone
            self.machines[machine] = KnownMachine(machine, now, known.version, known.control_url)

    def _note(self, machine: KnownMachine, now: float) -> None:
        if not machine.machine:
            return
        self.machines[machine.machine] = machine
        lately = sorted(self.machines.values(), key=lambda known: known.heard_at)[-_MAX_MACHINES:]
        self.machines = {known.machine: known for known in lately if now - known.heard_at < _FORGOTTEN_SECONDS}
