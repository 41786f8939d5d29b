"""Dropped hints: hints of buckets that were dropped go, a slice in each tick.

Nobody would take them any more, and only copies among them would hold back closed stamps. Late ones go with
them: there is nothing that an operator's word could write them into. All hints are looked through once after
each drop, and after an opening that knows of one.
"""

from functools import partial
from itertools import islice

from basestore.handoff.hints import Hints
from basestore.handoff.pile import Pile
from basestore.replica.group_commit import GroupCommit
from basestore.storage import keyspace
from basestore.topology.buckets import Buckets

SLICE = 256


class DroppedHints:
    """Of one node. `upto`: the last drop of which none are left, on the disk for sure."""

    def __init__(self, group_commit: GroupCommit, hints: Hints, buckets: Buckets) -> None:
        self._group_commit, self._hints, self._buckets = group_commit, hints, buckets
        self._since = 0  # the last drop for which they are, or were, looked through
        self.upto = 0
        self._left: list[tuple[Pile, bytes]] = []  # what is to be looked through, and from which key on

    def tick(self) -> None:
        """Look through the next."""
        if self._since != self._buckets.dropped_since:
            self._since = self._buckets.dropped_since
            piles = [pile for pile in self._hints.piles if pile.count]
            self._left = [(pile, keyspace.hints_for(pile.name)[0]) for pile in piles]
        elif not self._left:
            return
        if self._left:
            self._look_on()
        if not self._left:
            self._group_commit.when_durable(partial(self._rid, self._since))

    def _rid(self, since: int) -> None:
        """None are left. Before that is durable, a crash may bring some back."""
        self.upto = since

    def _look_on(self) -> None:
        pile, start = self._left.pop()
        _, end = keyspace.hints_for(pile.name)
        keys = [key for key, _ in islice(self._group_commit.scan(start, end), SLICE)]
        for key in keys:
            self._hints.forget_dropped(pile, keyspace.hinted_row(pile.name, key))
        if len(keys) == SLICE:
            self._left.append((pile, keyspace.after(keys[-1])))
