"""Fillings: disks that fill, and what is drawn of them.

One disk, or all, comes first below its reserve, then below half of it, then has next to no room; and after a
while there is room again. A little that is left decides what breaks first, a table or the log (`room.py`).
"""

from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING

from tests.simulation.clockwork import Stream
from tests.simulation.losses import restart_s
from tests.simulation.plan import BEGIN_S, Fault, Plan
from tests.simulation.room import RESERVE, Room

if TYPE_CHECKING:
    from tests.simulation.machine import Machine
    from tests.simulation.world import PlannedWorld

CHANCE = 0.2
FILLINGS = frozenset(("disk fills", "disks fill"))
COURSE = (0.9, 0.7, 0.3, 0.0, 0.0, 0.0, 0.0)  # of the reserve, in steps of equal length
LITTLE = (0, 0, 300, 1500)  # bytes that are left in the end


def filling(plan: Plan, stream: Stream) -> Plan:
    """One or two of them at any time."""
    faults = list(plan.faults)
    for _ in range(1 + stream.below(2)):
        kind = stream.weighted([("disk fills", 3.0), ("disks fill", 1.0)])
        machine = stream.below(len(plan.machines))
        at, lasts = stream.uniform(BEGIN_S + 0.2, plan.seconds), stream.uniform(0.5, 5.0)
        faults.append(Fault(at, kind, machine, machine, lasts, stream.random()))
    return replace(plan, faults=tuple(faults))


class Fillings:
    """Carries them out."""

    def __init__(self, world: "PlannedWorld") -> None:
        self._world = world

    def strike(self, machine: "Machine", fault: Fault) -> None:
        """It begins."""
        self._world.strikes(fault, f" for {fault.lasts:.2f} s")
        for each in self._world.machines if fault.kind == "disks fill" else [machine]:
            if each.disk.persistent:
                if each.room is None:
                    each.give_room(Room(lambda: self._world.clockwork.now, each.stored_bytes))
                assert each.room is not None
                each.room.breaks = partial(self._crash, each, fault)
                self._go_on(each, fault, 0)

    def _crash(self, machine: "Machine", fault: Fault) -> None:
        """A log breaks, and its machine dies before the store was closed, more often than it would."""
        if fault.digit(3) < 4 and not self._world.network.calm:
            self._world.clockwork.after(0.0, self._fall, machine, fault)

    def _fall(self, machine: "Machine", fault: Fault) -> None:
        if machine.node is not None:
            machine.crash("its log is broken")
            self._world.clockwork.after(restart_s(fault), machine.start)

    def _go_on(self, machine: "Machine", fault: Fault, step: int) -> None:
        """The next step: there is less room, or room again."""
        room, clockwork = machine.room, self._world.clockwork
        assert room is not None
        if step == len(COURSE) or self._world.network.calm:
            room.others = 0
            return
        room.leave(int(COURSE[step] * RESERVE) or LITTLE[int(fault.size * len(LITTLE))])
        clockwork.after(fault.lasts / len(COURSE), self._go_on, machine, fault, step + 1)
