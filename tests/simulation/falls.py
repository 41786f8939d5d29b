"""Falls: more members die at once, for good, than a partition can spare.

Of those that hold one partition so many die at the same moment that no quorum of them is left, or nobody; a
majority of those that vote is left. They are called dead, and others are given what they held.

What was acknowledged in such a partition until then may be gone with them. So whoever holds it in the end,
and counts, has written down that what is nowhere may be lost, up to its stamp at least: nothing goes unnamed.
And nothing is proven to be everywhere until an operator has accepted that (`proofs.py`). All else holds.
"""

from typing import TYPE_CHECKING

from tests.simulation import stored as s
from tests.simulation.clockwork import Stream
from tests.simulation.history import STORED
from tests.simulation.seats import FILL, Seats

if TYPE_CHECKING:
    from tests.simulation.changers import Changer
    from tests.simulation.machine import Machine
    from tests.simulation.seats import Held
    from tests.simulation.world import PlannedWorld

CHANCE = 0.2  # of worlds in which members change
FIRST_S = 2.0
AGAIN_S = 0.4
ANSWERED_S = 1.0  # by then what the dead had said has arrived, and no move that waited for them has ended


class Falls:
    """Of one world."""

    def __init__(self, world: "PlannedWorld", changer: "Changer") -> None:
        self._world, self._changer = world, changer
        self._stream = Stream(world.plan.seed, "falls")
        self.gone: set[tuple[bytes, bytes]] = set()  # rows, and versions, that were acknowledged before one

    def plan(self) -> None:
        """Perhaps there is one."""
        if self._stream.chance(CHANCE):
            self._world.clockwork.after(
                self._stream.uniform(FIRST_S, max(FIRST_S, self._world.plan.seconds - 2.0)), self._fall
            )

    def _fall(self) -> None:
        """They die, unless there is trouble already: then a while later."""
        world, log = self._world, self._world.log_watch.log
        if world.clockwork.now >= world.plan.seconds:
            return
        trouble = any(each.impaired or each.in_doubt or each.away for each in world.roster.members)
        fallen = [] if trouble or log is None or not log.founded else self._pick(log.held(log.last))
        if not fallen or world.log_watch.blind:
            world.clockwork.after(AGAIN_S, self._fall)
            return
        lost = self._lost_with(fallen)
        world.counts["members: more died than a partition can spare"] += 1
        world.counts["members: all died that held a partition"] += any(
            set(world.seating.now(at).both) <= {each.index for each in fallen} for at in lost
        )
        for machine in fallen:
            world.roster.die(machine)
            self._changer.bury(machine, self._stream.uniform(0.1, 2.0))
        self._ruin(lost)
        world.clockwork.after(ANSWERED_S, self._ruin, lost)

    def _pick(self, held: "Held") -> "list[Machine]":
        """Who dies: nobody where the others would be too few, to hold all or to decide anything."""
        world, stream = self._world, self._stream
        seats = stream.pick(world.seating.all())
        order = sorted(seats.old, key=lambda at: stream.random())
        least = len(order) - len(order) // 2  # so that no quorum is left
        fallen = [world.machines[at] for at in order[: least + stream.below(len(order) - least + 1)]]
        staying = held.staying - world.roster.bodies - {each.config.member.number for each in fallen}
        able = all(each.node is not None and not (each.gone or each.ended) for each in fallen)
        enough = len(staying) >= held.replicas and world.log_watch.may_lose(*fallen)
        return fallen if able and enough else []

    def _lost_with(self, fallen: "list[Machine]") -> set[int]:
        """The partitions of which no quorum is left."""
        return {at for at, seats in enumerate(self._world.seating.all()) if self._too_few(at, seats, fallen)}

    def _too_few(self, partition: int, seats: Seats, fallen: "list[Machine]") -> bool:
        left = [
            each
            for each in map(self._world.machines.__getitem__, seats.both)
            if each not in fallen and self._world.seating.fit(each, partition)
        ]
        return any(
            sum(each.index in group for each in left) < len(group) // 2 + 1
            for group in ([seats.old] if seats.stage == FILL else [seats.old, seats.new])
        )

    def _ruin(self, lost: set[int]) -> None:
        world = self._world
        for operation in world.history.operations:
            if operation.writes and operation.strong and operation.outcome == STORED and operation.version:
                row = world.row(operation.bucket, operation.key)
                if s.partition_of(row) in lost:
                    self.gone.add((row, operation.version))
        world.ruined(lost)

    def judge(self) -> None:
        """In the end, and all moves have ended: what is nowhere is known to be lost by all that hold its
        partition."""
        world = self._world
        if not world.history.sync or world.log_watch.blind:
            return
        for row, version in sorted(self.gone):
            partition = s.partition_of(row)
            if world.log_watch.dropped(row) or world.witness.promises.anywhere(row, version):
                continue
            world.counts["members: what went with those that died"] += 1
            for machine in world.seating.holders(partition):
                upto = s.lost_upto(machine.disk, partition)
                if upto < s.stamp_of(version):
                    text = f"{s.short(version)} of {row!r} went with those that died"
                    world.blame("losses", f"{text}, and n{machine.index + 1} knows of a loss up to {upto:x}")
