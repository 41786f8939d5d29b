"""Placement: key -> partition -> replicas.

A fixed number of partitions is spread over the members by rendezvous hashing (Thaler and
Ravishankar, 1998): every member draws a score for every partition and the best N hold it, so
adding a member moves little besides what it takes over. Zones, where members have them, are used up before
one is used twice. Pure: the same configuration gives the same placement everywhere.

Scores alone leave some members with more partitions than others; a member that already holds its
fair share steps back while others have room.
"""

import hashlib
from collections.abc import Sequence
from math import ceil
from operator import add
from typing import Self

from basestore.config import ClusterConfig, Member


def _score(partition: int, name: str) -> bytes:
    return hashlib.blake2b(b"%d/" % partition + name.encode(), digest_size=8).digest()


def assign(members: Sequence[Member], partitions: int, replication: int) -> list[tuple[int, ...]]:
    """For each partition the indices of its replicas among `members`, the best first."""
    if not 1 <= replication <= len(members):
        raise ValueError(f"{replication} replicas need as many members; there are {len(members)}")
    share = ceil(partitions * replication / len(members))
    held = [0] * len(members)
    table = []
    for partition in range(partitions):
        order = sorted(range(len(members)), key=lambda i: _score(partition, members[i].name))
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
    """Where every row of a cluster lives."""

    def __init__(self, members: Sequence[Member], partitions: int, replication: int) -> None:
        self.partitions = partitions
        self.replication = replication
        self.replicas = assign(members, partitions, replication)
        self.sets = [tuple(sorted(replicas)) for replicas in self.replicas]
        self._prefixes = [partition.to_bytes(2) for partition in range(partitions)]

    @classmethod
    def of(cls, cluster: ClusterConfig) -> Self:
        """That of a configuration; replicas are indices of its members."""
        return cls(cluster.members, cluster.partitions, cluster.replication)

    @property
    def meeting_quorum(self) -> int:
        """So many other replicas of a row are asked before what they hold is taken for all that there is:
        `sources_needed`, or all others."""
        return min(self.sources_needed, self.replication - 1)

    @property
    def sources_needed(self) -> int:
        """So many replicas of a row hold, between them, every write that a quorum ever acknowledged: N - Q +
        1. With one replica there are never so many others: what it loses is lost."""
        return self.replication - self.replication // 2

    def meeting(self, partition: int) -> int:
        """N - Q + 1 of a partition: see `sources_needed`."""
        return self.sources_needed

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
        """The partitions that the member at this index holds, ascending."""
        return [p for p, replicas in enumerate(self.replicas) if member in replicas]


def rows_begin(partition: int, label: bytes) -> bytes:
    """What the rows of a bucket in a partition begin with."""
    return partition.to_bytes(2) + bytes((len(label),)) + label


def row_partition(row: bytes) -> int:
    return int.from_bytes(row[:2])


def row_bucket(row: bytes) -> bytes:
    """The label of its bucket."""
    return row[3 : 3 + row[2]]


def row_key(row: bytes) -> bytes:
    return row[3 + row[2] :]
