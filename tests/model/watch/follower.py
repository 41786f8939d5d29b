"""Follower: a replica's side of a feed. Each answer tells a few changes, how far it has come with them, and a
gap, if something may be missing."""

from typing import NamedTuple

from basestore.feeds.position import BEGUN, Mark, Met, Position, start
from basestore.replica.summaries import Gone
from tests.model.watch.store import Record, Store


class Told(NamedTuple):
    """`position`: once this is heard; `gap`: a stamp up to which deletions may be missing, or 0."""

    changes: list[tuple[str, Record]]
    position: Position
    gap: int


class Follower:
    """From a position on, at one store."""

    def __init__(self, store: Store, position: Position, stays: bool) -> None:
        """`stays`: lines are kept for it."""
        self.store, self._mark = store, Mark(position.stable)
        self._stays = stays
        store.readers.append(self._replaced)
        self._begin(position, store.met(position.store))

    def _begin(self, position: Position, met: Met | None) -> None:
        store = self.store
        self.position, self._blank = position, position.blank
        behind = start(position, store.name, store.sequence, store.floor, met)
        self._above, self._cursor = position.stable, "" if behind is None else None
        self._after = store.sequence if behind is None else behind
        self._hidden = Gone()  # of what is gone, what a gap was told of
        self._hold()

    @property
    def looks_through(self) -> bool:
        return self._cursor is not None

    def _hold(self) -> None:
        if self._stays:
            self.store.holds[self] = self._after

    def end(self) -> None:
        self.store.holds.pop(self, None)
        self.store.readers.remove(self._replaced)

    def _replaced(self, sequence: int) -> None:
        self._mark.replaced(sequence, self._after)

    def tell(self, most: int) -> Told:
        if self._cursor is None and self._after < self.store.floor:
            self._begin(self.position, None)
        gap = self._gap()
        return self._look_through(most, gap) if self._cursor is not None else self._follow(most, gap)

    def _gap(self) -> int:
        """Asked before anything is read, and again when all was looked through, for purges go on."""
        gone = self.store.gone
        behind = None if self._cursor is not None else self._after
        if self._blank and self._cursor is not None:
            return 0
        if gone == self._hidden or not gone.hides(self._mark.told, behind):
            return 0
        self._hidden = gone
        return gone.stamp

    def _look_through(self, most: int, gap: int) -> Told:
        store, above = self.store, self._above
        keys = sorted(key for key in store.rows if key > (self._cursor or ""))[:most]
        found = [(key, store.rows[key].record) for key in keys]
        changes = [(key, record) for key, record in found if record.version[0] > above]
        if len(keys) < most:
            self._cursor = None
            self.position = Position(store.name, self._after, self._mark.told)
        else:
            self._cursor = keys[-1]
            if self.position.blank:
                self.position = Position(b"", BEGUN, 0)
        return Told(changes, self.position, gap)

    def _follow(self, most: int, gap: int) -> Told:
        store = self.store
        self._mark.note(store.stable, store.sequence)
        lines = store.lines(self._after, most)
        self._after = lines[-1][1].sequence if len(lines) == most else store.sequence
        self._hold()
        self._mark.reach(self._after)
        self.position = Position(store.name, self._after, self._mark.told)
        return Told([(key, held.record) for key, held in lines], self.position, gap)
