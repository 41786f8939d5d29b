"""Timekeeping: by which clock stamps are given out, and what is told by a clock.

A stamp is greater than every one that its node had shown to a client. No node stamps by a clock that is
wrong while most clocks are right, and none whose clock is right refuses to while it hears most of the
others. A stamp moves a node's clock no further than a clock that was seen may have gone: what lies beyond
is met and kept, and moves nothing. How stale an answer may be is never told smaller than what lies between
the stable stamp and the newest one that its node had shown, or its own clock, with twice the drift bound.
"""

from typing import TYPE_CHECKING

from tests.simulation import stored as s

if TYPE_CHECKING:
    from tests.simulation.history import Operation
    from tests.simulation.machine import Machine
    from tests.simulation.world import PlannedWorld

WRONG = 2.2  # of the drift bound: further off than any two that are taken for right can be from each other
NOTICED_S = 0.1  # a node looks at its clock at every tick
SLACK_MS = 1000  # how wrong a comparison over a slow link may be
HEARD_S = 2.5  # by then all have heard all


class Timekeeping:
    """Of one world."""

    def __init__(self, world: "PlannedWorld") -> None:
        self._world = world
        self._set_s: dict[int, float] = {}  # by machine: when its clock was last set
        self._lives: dict[int, int] = {}
        self._limit_ms: dict[int, float] = {}  # by machine: how far its clock may have gone in this life
        self._shown: dict[int, int] = {}  # by machine: the greatest stamp that it has shown in this life
        self._leaving: dict[int, tuple[float, int]] = {}  # the same at just this moment

    # --- clocks ------------------------------------------------------------------------------

    def started(self, machine: "Machine") -> None:
        """A life begins, above the ceiling that stands on its disk."""
        index = machine.index
        self._lives[index] = machine.life
        self._limit_ms[index] = int.from_bytes(machine.disk.get(s.CEILING) or b"") >> 16
        self._mind_closed(machine)
        self._shown[index], self._leaving[index] = 0, (0.0, 0)
        self._look()

    def set(self, machine: "Machine") -> None:
        """Its clock was set."""
        self._set_s[machine.index] = self._world.clockwork.now
        self._look()

    def _look(self) -> None:
        """Whatever any clock shows may be taken over by all."""
        machines = self._world.machines
        newest_ms = (
            max((each.instant().wall_ms for each in machines), default=0) + self._world.plan.drift_ms_max
        )
        for index, limit_ms in self._limit_ms.items():
            self._limit_ms[index] = max(limit_ms, newest_ms)

    def _mind_closed(self, machine: "Machine") -> None:
        """A clock goes on above what is closed on its disk, and above the birth of its cluster."""
        born_ms = int.from_bytes(machine.disk.get(s.BIRTH) or b"") >> 16
        self._limit_ms[machine.index] = max(self._limit_ms[machine.index], born_ms)
        for partition in range(self._world.plan.partitions):  # of those that it gave up, too
            closed = s.closed_in(machine.disk.get(s.SUMMARY + partition.to_bytes(2)))
            self._limit_ms[machine.index] = max(self._limit_ms[machine.index], closed >> 16)

    def judge(self) -> None:
        """Now and then: no clock was moved by a stamp that no clock can have given out."""
        self._look()
        for machine in self._world.machines:
            if machine.node is None or machine.config.clock_is_right:
                continue
            self._mind_closed(machine)
            ahead_ms = (machine.node.clock.last >> 16) - self._limit_ms[machine.index]
            if ahead_ms > SLACK_MS:
                text = (
                    f"n{machine.index + 1} goes on {ahead_ms:.0f} ms beyond all clocks that it can have met"
                )
                self._world.blame("clocks", text)

    # --- stamps ------------------------------------------------------------------------------

    def given(self, machine: "Machine", version: bytes, since_s: float) -> None:
        """A new write was stamped, at that moment or later."""
        world, off_ms = self._world, abs(machine.offset_ms)
        set_s = self._set_s.get(machine.index, -1.0)
        if (
            off_ms > WRONG * world.plan.drift_ms_max
            and set_s + NOTICED_S < since_s
            and not world.clocks_misled
            and not machine.config.clock_is_right
        ):
            text = f"n{machine.index + 1} gives out {s.short(version)}"
            world.blame("clocks", f"{text} by a clock that is {off_ms} ms off, and most are right")

    def left(self, machine: "Machine", version: bytes) -> None:
        """A new write leaves in the turn in which it was stamped."""
        shown = self.shown(machine)
        if s.stamp_of(version) <= shown:
            text = f"n{machine.index + 1} gives out {s.short(version)}, and had shown {shown:x}"
            self._world.blame("order", text)

    def shown(self, machine: "Machine") -> int:
        """The greatest stamp that this life has shown before this moment; 0 where clocks jump, for then some
        are not taken over."""
        index = machine.index
        shown = self._shown.get(index, 0)
        if index in self._leaving:
            at, stamp = self._leaving[index]
            if stamp > shown and at < self._world.clockwork.now:
                shown = self._shown[index] = stamp
        return shown

    def show(self, machine: "Machine", version: bytes, wall_ms: int) -> None:
        """A node tells a client of a version, who asked when its clock showed this."""
        world, stamp = self._world, s.stamp_of(version)
        if world.plan.clocks_jump or stamp >> 16 > wall_ms + world.plan.drift_ms_max:
            return
        self.shown(machine)
        self._leaving[machine.index] = (
            world.clockwork.now,
            max(stamp, self._leaving.get(machine.index, (0.0, 0))[1]),
        )

    # --- answers -----------------------------------------------------------------------------

    def judge_bound(self, what: object, stale_ms: int, stable: int, wall_ms: int, shown: int) -> None:
        """One replica's answer is told to be no staler, when the clock showed this and that was shown."""
        if not stable:
            self._world.blame("staleness", f"{what} is told {stale_ms} ms without a stable stamp")
            return
        newest_ms = max(wall_ms, shown >> 16)
        least_ms = newest_ms - (stable >> 16) + 2 * self._world.plan.drift_ms_max
        if stale_ms < least_ms:
            self._world.blame("staleness", f"{what} is told {stale_ms} ms, and {least_ms} are not proven")

    def refused(self, machine: "Machine", operation: "Operation") -> None:
        """A node does not stamp, for its clock may be wrong. Where nothing but some clocks is wrong
        those that are right hear most of the others."""
        world = self._world
        if (
            operation.start > HEARD_S
            and operation.end > world.clockwork.now
            and world.plan.faults
            and all(fault.kind.startswith("clock") for fault in world.plan.faults)
            and not world.clocks_misled
            and machine.index not in self._set_s
            and all(each.life == 1 for each in world.machines)
        ):
            world.blame("writable", f"{operation} is refused by a clock that is right, as most are")
