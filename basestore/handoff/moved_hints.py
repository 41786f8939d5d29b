"""Moved hints: hints for a member that does not hold their partition any more go to those that do.

Once a change of seats has ended, or was taken back, some members hold less than before. What is kept for one
of them of such a partition it would not take. With partition 7 moved from n3 to n4, and hints for n3:

    a copy, taken by a store that is in use, or left with proof       all who hold 7 have it: it goes
    an only copy, or of stores of which nothing is known here         it is kept for each that holds 7 now

What is owed to who left is owed no more. Hints are gone through a slice in each tick, after every change
of seats; and now and then all piles are looked at, for one may have been kept by a request that had begun
under earlier seats. A member that has left the cluster holds no partition.
"""

import math
from collections.abc import Callable, Iterable, Iterator
from typing import Final

from basestore.cluster.placement import Placement
from basestore.handoff.debts import Debts
from basestore.handoff.hints import Hints
from basestore.handoff.pile import Pile
from basestore.instant import Instant
from basestore.storage import keyspace

SLICE: Final = 256
PARTITIONS: Final = 16
LOOK_S: Final = 10.0


class MovedHints:
    """Of one node. `pending`: piles and partitions that are to be gone through."""

    def __init__(
        self, hints: Hints, debts: Debts, placement: Placement, in_use: Callable[[int, bytes], bool]
    ) -> None:
        """`in_use(partition, stores)`: as `Certificates.in_use`."""
        self._hints, self._debts = hints, debts
        self._placement, self._in_use = placement, in_use
        self.pending: dict[tuple[Pile, int], None] = {}
        self._looked: Iterator[None] = iter(())
        self._due_s = -math.inf

    def look(self, partitions: Iterable[int]) -> None:
        """These have other seats."""
        changed = list(partitions)
        for pile in self._hints.piles:
            owed = self._debts.of[pile.index]
            if pile.count or owed:
                self._look(pile, changed)
            for partition in owed.keys() & set(changed) if owed else ():
                self._forgive(pile, partition)

    def _forgive(self, pile: Pile, partition: int) -> None:
        """Unless it holds the partition again: then this may be owed of that time."""
        if pile.index not in self._placement.compared[partition]:
            self._debts.forgive(pile.index, partition)

    def _look(self, pile: Pile, partitions: Iterable[int]) -> None:
        for partition in partitions:
            if pile.index not in self._placement.compared[partition]:
                self.pending[pile, partition] = None

    def _look_through(self) -> Iterator[None]:
        """All that is kept, a few partitions at a time."""
        for pile in self._hints.piles:
            start = b""
            while pile.count and (partitions := self._hints.partitions(pile, start, PARTITIONS)):
                self._look(pile, partitions)
                start = keyspace.partition_prefix(partitions[-1] + 1)
                yield

    def tick(self, now: Instant) -> None:
        """Go through the next."""
        if next(self._looked, self) is self and now.monotonic >= self._due_s:
            self._due_s, self._looked = now.monotonic + LOOK_S, self._look_through()
        for pile in () if self.pending else self._hints.formers:
            self._look(pile, self._hints.partitions(pile, b"", PARTITIONS))
        for pile, partition in self.pending:
            rows = self._hints.rows(pile, partition, SLICE)
            for row in rows:
                self._move(pile, partition, row)
            if len(rows) < SLICE:
                self._forgive(pile, partition)
                del self.pending[pile, partition]
            return

    def _move(self, pile: Pile, partition: int, row: bytes) -> None:
        holders = self._placement.compared[partition]
        hint = self._hints.kept(pile, row)
        if hint is None or pile.index in holders or self._hints.forget_dropped(pile, row):
            return
        copy = not (hint.only_copy or hint.late) and self._in_use(partition, hint.stores)
        self._hints.hand_on(pile, row, hint, () if copy else holders)
