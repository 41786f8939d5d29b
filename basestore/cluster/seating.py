"""Seating: who holds the partitions that this node holds, or is to hold, and since which epoch.

Of a cluster without a topology this never changes, and no epoch is known. Under one it is told of each change
by the step that begins to use it. A member is named by its index. With n1 as this node, and partition 7 being
moved from n1, n2 and n3 to n1, n2 and n4:

    compared   n1, n2, n3, n4     who compares what it holds, as in `placement.py`
    others     n2, n3, n4         with whom n1 does
    sources    n2, n3             those of them that hold what they must, as far as seats tell
    meeting    2                  so many of n1, n2 and n3 have every write that a quorum ever acknowledged

Compares nothing, and knows no stores.
"""

from collections.abc import Collection, Mapping
from collections.abc import Set as AbstractSet

from basestore.repair.moving import covers, needed
from basestore.repair.seats import Seats, Stage


class Seating:
    """The seats of one node's partitions, by partition. `dropped_since`: the epoch at which the last bucket
    was dropped, None while there is no topology. `moving`: those whose seats are just being changed;
    `dead`: members of whom an operator has said so."""

    def __init__(self, me: int, seats: Mapping[int, Seats]) -> None:
        self._me = me
        self.dropped_since: int | None = None
        self.dead: AbstractSet[int] = frozenset()
        self.seats: dict[int, Seats] = {}
        self.compared: dict[int, tuple[int, ...]] = {}
        self.others: dict[int, list[int]] = {}
        self.sources: dict[int, list[int]] = {}
        self.moving: set[int] = set()
        for partition, of in seats.items():
            self.seat(partition, of)

    def seat(self, partition: int, seats: Seats) -> set[int]:
        """This partition has these seats from now on. Returns the members that leave it, at the end of a
        change for which those that stay had to prove that they hold all."""
        was = self.seats.get(partition, seats)
        self.seats[partition], self.compared[partition] = seats, seats.both
        self.others[partition] = [member for member in seats.both if member != self._me]
        self.sources[partition] = [member for member in seats.old if member != self._me]
        (self.moving.discard if seats.stage is Stage.STILL else self.moving.add)(partition)
        ended = (was.stage, seats.stage, seats.old) == (Stage.JOINT, Stage.STILL, was.new)
        return set(was.old) - set(was.new) if ended else set()

    def give_up(self, partition: int) -> None:
        """This node has no seat in it any more."""
        for each in (self.seats, self.compared, self.others, self.sources):
            each.pop(partition, None)
        self.moving.discard(partition)

    @property
    def known(self) -> bool:
        """Whether there is a topology, by which seats may change."""
        return self.dropped_since is not None

    def since(self, partition: int) -> int | None:
        """The epoch that last changed a partition's seats; None while there is no topology."""
        return self.seats[partition].since if self.known else None

    def comes(self, partition: int, member: int) -> bool:
        """Whether a member is not one of those that have held it until now."""
        return member not in self.seats[partition].old

    def covered(self, partition: int, met: Collection[int]) -> bool:
        """Whether it is enough to have met these: with fewer than `meeting` says, where an operator has said
        of others that they are dead, something may be lost."""
        return covers(met, self.seats[partition].old, self.dead)

    def orphaned(self, partition: int) -> bool:
        """Whether nobody is left of those that have held it until now."""
        return self.dead >= {*self.seats[partition].old}

    def meeting(self, partition: int) -> int:
        """So many of those that hold it have, between them, every write that a quorum ever acknowledged.
        While seats change it is those that have held it until now that must be met."""
        return needed(self.seats[partition].old)
