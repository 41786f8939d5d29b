"""Seating: who holds the partitions that this node holds, or is to hold, and since which epoch.

Of a cluster without a topology this never changes, and no epoch is known. Under one it is told of each change
by the step that begins to use it. A member is named by its index. With n1 as this node, and partition 7 being
moved from n1, n2 and n3 to n1, n2 and n4:

    compared   n1, n2, n3, n4     who compares what it holds, as in `placement.py`
    others     n2, n3, n4         with whom n1 does
    sources    n2, n3             those of them that hold what they must, as far as seats tell
    barred     n3                 those of them that are no acceptors, for n3 has come to another store lately
    meeting    2                  so many of n1, n2 and n3 have every write that a quorum ever acknowledged

Whether this node's own store is an acceptor of a partition it says, too (`votes`). Compares nothing.

Of acceptors three words are used here and elsewhere. A member is *barred* from a partition while its present
store may lack what it had accepted there: it holds data, and does not vote. It is *taken in* when the leader
ends that, by an entry. Its *tenure* is the time since it got its seat, without a break: what it had accepted
before, in an earlier one, is void.
"""

from bisect import bisect_right
from collections.abc import Collection, Mapping
from collections.abc import Set as AbstractSet

from basestore.consistency import Quorum, SurvivingQuorum
from basestore.repair.moving import covers, needed
from basestore.repair.seats import Seats, Stage


class Seating:
    """The seats of one node's partitions, by partition. `dropped_since`: the epoch at which the last bucket
    was dropped, None while there is no topology. `moving`: those whose seats are just being changed;
    `dead`: members of whom an operator has said so; `barred`: by partition, those that are no acceptors of
    it; `out`: the partitions of which this node is none for that; `stores`: which each member is bound to."""

    def __init__(self, me: int, seats: Mapping[int, Seats]) -> None:
        self._me = me
        self.dropped_since: int | None = None
        self.dead: AbstractSet[int] = frozenset()
        self.seats: dict[int, Seats] = {}
        self.compared: dict[int, tuple[int, ...]] = {}
        self.others: dict[int, list[int]] = {}
        self.sources: dict[int, list[int]] = {}
        self.moving: set[int] = set()
        self.barred: Mapping[int, AbstractSet[int]] = {}
        self.out: AbstractSet[int] = frozenset()
        self.stores: Mapping[int, bytes] = {}
        self._tenures: Mapping[int, int] = {}
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

    def bind(
        self, stores: Mapping[int, bytes], barred: Mapping[int, AbstractSet[int]], tenures: Mapping[int, int]
    ) -> None:
        """As the topology has it that is used from now on. `tenures`: by partition, since which epoch this
        node has had its seat, where that is not since the founding."""
        self.stores, self._tenures = stores, tenures
        self.barred = {at: of for at, of in barred.items() if at in self.seats}
        self.out = {at for at, of in self.barred.items() if self._me in of}

    @property
    def known(self) -> bool:
        """Whether there is a topology, by which seats may change."""
        return self.dropped_since is not None

    def since(self, partition: int) -> int | None:
        """The epoch that last changed a partition's seats; None while there is no topology."""
        return self.seats[partition].since if self.known else None

    def tenure(self, partition: int) -> int:
        """The epoch since which this node has had its seat without a break: 0, since the founding."""
        return self._tenures.get(partition, 0)

    def votes(self, partition: int, store: bytes) -> bool:
        """Whether this node, running on this store, is an acceptor of the partition."""
        return self.is_bound(store) and partition in self.seats and partition not in self.out

    def is_bound(self, store: bytes) -> bool:
        """Whether this store is the one that this node is bound to."""
        return self.stores.get(self._me, b"") == store != b""

    def left_out(self, store: bytes) -> int:
        """Of how many of its partitions this node is no acceptor, for it runs on another store than it had:
        it is barred there, or is to be."""
        return len(self.out if self.stores.get(self._me, b"") in (b"", store) else self.seats)

    @property
    def changing(self) -> set[int]:
        """The partitions whose seats, or acceptors, are to be others."""
        return self.moving.union(self.barred)

    def surviving_quorum(self, partition: int) -> Quorum:
        """Whose word suffices to finish what is left: a quorum of the acceptors, or, where fewer are left,
        all of these. No write can be agreed on by fewer; but if nothing could be finished, nobody would be
        taken in, and so it would stay."""
        seats = self.seats[partition]
        away = self.dead | self.barred.get(partition, frozenset())
        new = seats.new if seats.stage is Stage.JOINT else seats.old
        return SurvivingQuorum(seats.old, new, away)

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


def in_turn(partitions: Collection[int], after: int, most: int) -> list[int]:
    """So many of these at most, the next behind `after`, and where they end from the first on."""
    if len(partitions) <= most:
        return list(partitions)
    ordered = sorted(partitions)
    first = bisect_right(ordered, after)
    return (ordered[first:] + ordered[:first])[:most]
