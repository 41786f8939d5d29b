"""Placement: key -> partition -> replicas.

A fixed number of partitions is spread over the members by rendezvous hashing (Thaler and
Ravishankar, 1998): every member draws a score for every partition and the best N hold it, so
adding a member moves little besides what it takes over. Zones, where members have them, are used up before
one is used twice. Pure: the same configuration gives the same placement everywhere.

Scores alone leave some members with more partitions than others; a member that already holds its
fair share steps back while others have room.

That is how a cluster begins. From then on its log says who holds what (`repair/seats.py`), and a node's
Placement is told with each step in which other seats come into use:

    adopt({7: fill((0, 1, 2), (0, 1, 3))})     partition 7: who compares, nothing else
    adopt({7: joint((0, 1, 2), (0, 1, 3))})    written to 0 1 2 3; two quorums; no group takes its rows
    adopt({7: still((0, 1, 3))})               0, 1 and 3
"""

import hashlib
from collections.abc import Mapping, Sequence
from math import ceil
from operator import add
from typing import Self

from basestore.config import ClusterConfig, Member
from basestore.consistency import Quorum, quorums
from basestore.repair.moving import needed
from basestore.repair.seats import Seats, Stage, score


def assign(members: Sequence[Member], partitions: int, replication: int) -> list[tuple[int, ...]]:
    """For each partition the indices of its replicas among `members`, the best first."""
    if not 1 <= replication <= len(members):
        raise ValueError(f"{replication} replicas need as many members; there are {len(members)}")
    share = ceil(partitions * replication / len(members))
    held = [0] * len(members)
    table = []
    for partition in range(partitions):
        order = sorted(range(len(members)), key=lambda i: score(partition, members[i].name))
        chosen: list[int] = []
        zones: set[str] = set()
        while len(chosen) < replication:
            rest = [i for i in order if i not in chosen]
            # False sorts first: another zone counts for more than a fair share, and of equals the first in
            # `rest`, with the best score, is taken.
            best = min(
                rest, key=lambda i: (members[i].zone != "" and members[i].zone in zones, held[i] >= share)
            )
            chosen.append(best)
            zones.add(members[best].zone)
            held[best] += 1
        table.append(tuple(chosen))
    return table


class Placement:
    """Where every row of a cluster lives. By partition, in members' indices: its `seats`; `replicas`, to whom
    its rows are written; `grouped`, the same in ascending order, but nobody while two quorums are asked;
    `compared`, who compares what it holds; `quorums`, by level."""

    def __init__(
        self, members: Sequence[Member], partitions: int, replication: int,
        logged: Sequence[Seats] | None = None,
    ) -> None:  # fmt: skip
        """`logged`: as the cluster's log has them, in members' numbers, where there is one."""
        self.partitions = partitions
        if logged is None:
            self.seats = [Seats.still(replicas) for replicas in assign(members, partitions, replication)]
        else:
            index_of = {member.number: index for index, member in enumerate(members)}
            self.seats = [seats.named(index_of) for seats in logged]
        self.replicas: list[tuple[int, ...]] = [()] * partitions
        self.grouped, self.compared = list(self.replicas), list(self.replicas)
        self.quorums: list[tuple[Quorum, ...]] = [()] * partitions
        for partition, seats in enumerate(self.seats):
            self._seat(partition, seats)
        self._prefixes = [partition.to_bytes(2) for partition in range(partitions)]

    @classmethod
    def of(cls, cluster: ClusterConfig, logged: Sequence[Seats] | None = None) -> Self:
        """That of a configuration, or of its log; replicas are indices of its members."""
        return cls(cluster.members, cluster.partitions, cluster.replication, logged)

    def _seat(self, partition: int, seats: Seats) -> None:
        joint = seats.stage is Stage.JOINT
        self.seats[partition], self.replicas[partition] = seats, seats.written
        self.grouped[partition] = () if joint else tuple(sorted(seats.old))
        self.compared[partition] = seats.both
        self.quorums[partition] = quorums(*self.agreeing(partition))

    def agreeing(self, partition: int) -> tuple[tuple[int, ...], tuple[int, ...]]:
        """Of which a quorum each must agree: the same twice, but while seats are joint."""
        seats = self.seats[partition]
        joint = seats.stage is Stage.JOINT
        return seats.old, seats.new if joint else seats.old

    def adopt(self, changed: Mapping[int, Seats]) -> set[int]:
        """From now on these partitions have these seats. Returns those that had others."""
        moved = {partition for partition, seats in changed.items() if self.seats[partition] != seats}
        for partition in moved:
            self._seat(partition, changed[partition])
        return moved

    @property
    def spare(self) -> int:
        """So many members, whichever they are, no partition's quorum needs."""
        return min((len(each) - 1) // 2 for seats in self.seats for each in (seats.old, seats.new))

    def meeting(self, partition: int) -> int:
        """So many replicas of a partition hold, between them, every write that a quorum ever acknowledged.
        While seats change it is those that have held it until now. With one replica there are never so many
        others: what it loses is lost."""
        return needed(self.seats[partition].old)

    def since(self, partition: int) -> int:
        """The epoch that last changed its seats; 0 for one that there is not."""
        return self.seats[partition].since if partition < self.partitions else 0

    def row(self, label: bytes, key: bytes) -> bytes:
        """The row of a key: partition 2 bytes | length of label 1 | label | key.

        Rows of a partition sort by label, then key.
        """
        return self.row_of(bytes((len(label),)) + label + key)

    def row_of(self, rest: bytes) -> bytes:
        """The row that goes on with this behind its partition."""
        digest = hashlib.blake2b(rest, digest_size=8).digest()
        return self._prefixes[int.from_bytes(digest) % self.partitions] + rest

    def place_all(self, rests: Sequence[bytes]) -> tuple[list[int], list[bytes]]:
        """The partitions, and the rows, of as many of these, as `row_of` finds them."""
        blake2b, number, count = hashlib.blake2b, int.from_bytes, self.partitions
        partitions = [number(blake2b(rest, digest_size=8).digest(), "big") % count for rest in rests]
        return partitions, list(map(add, map(self._prefixes.__getitem__, partitions), rests))

    def held_by(self, member: int) -> list[int]:
        """The partitions that the member at this index holds, or is to hold, ascending."""
        return [p for p, replicas in enumerate(self.compared) if member in replicas]
