"""Dropped hints: hints of buckets that were dropped go, a slice in each tick.

Nobody would take them any more, and only copies among them would hold back closed stamps. All hints are
looked through once after each drop, and after an opening that knows of one.
"""

from itertools import islice

from basestore.cluster.placement import row_bucket
from basestore.handoff.hints import Hints
from basestore.replica.group_commit import GroupCommit
from basestore.storage import keyspace
from basestore.topology.buckets import Buckets

SLICE = 256


class DroppedHints:
    """Of one node."""

    def __init__(self, group_commit: GroupCommit, hints: Hints, buckets: Buckets) -> None:
        self._group_commit, self._hints, self._buckets = group_commit, hints, buckets
        self._seen = -1
        self._left: list[tuple[int, bytes]] = []  # piles to be looked through, and from which key on

    @property
    def at_rest(self) -> bool:
        return not self._left and self._seen == self._buckets.changes

    def tick(self) -> None:
        """Look through the next. Called while nothing of them is staged."""
        if self._seen != self._buckets.changes:
            self._seen = self._buckets.changes
            piles = self._hints.piles if self._buckets.dropped else ()
            self._left = [(pile.index, keyspace.hints_for(pile.name)[0]) for pile in piles if pile.count]
        if not self._left:
            return
        index, start = self._left.pop()
        pile = next(each for each in self._hints.piles if each.index == index)
        _, end = keyspace.hints_for(pile.name)
        keys = [key for key, _ in islice(self._group_commit.scan(start, end), SLICE)]
        for key in keys:
            row = keyspace.hinted_row(pile.name, key)
            if row_bucket(row) in self._buckets.dropped:
                self._hints.forget(pile, row)
        if len(keys) == SLICE:
            self._left.append((index, keyspace.after(keys[-1])))
