"""Watcher: who follows the partition, at one replica after the other, and sometimes from an old token."""

from collections import Counter

from basestore.feeds.position import Position
from tests.model.watch.follower import Follower
from tests.model.watch.judge import Judge
from tests.model.watch.store import Store, Version

NEVER: Version = (0, 0)
AFTER_ALL = 99  # an origin behind all


class Watcher:
    """`heard`: by key the greatest version; `saved`: tokens, with what was heard by then."""

    def __init__(self, judge: Judge, counts: Counter[str]) -> None:
        self._judge, self._counts = judge, counts
        self.position = Position()
        self.heard: dict[str, Version] = {}
        self.saved: list[tuple[Position, dict[str, Version]]] = [(self.position, {})]
        self.follower: Follower | None = None

    def connect(self, store: Store, stays: bool) -> None:
        self.leave()
        if store.fit:
            self.follower = Follower(store, self.position, stays)
            self._counts["looks through" if self.follower.looks_through else "goes on by the log"] += 1
            if self.position.store not in (b"", store.name) and not self.follower.looks_through:
                self._counts["goes on elsewhere"] += 1

    def leave(self) -> None:
        if self.follower is not None:
            self.follower.end()
            self.follower = None

    def hear(self, most: int, stores: list[Store], *, lost: bool) -> None:
        if self.follower is None:
            return
        if not self.follower.store.fit or self.follower.store not in stores:
            self.leave()
            return
        told = self.follower.tell(most)
        if lost:
            self._counts["answer lost"] += 1
            self.leave()
            return
        for key, record in told.changes:
            if record.version < self.heard.get(key, NEVER):
                self._counts["told again"] += 1
            self.heard[key] = max(self.heard.get(key, NEVER), record.version)
        if told.gap:
            self._counts["gap"] += 1
            self._read_all(told.gap, stores)
        self.position = told.position
        self._judge.mark(self.position.stable, self.heard)

    def _read_all(self, gap: int, stores: list[Store]) -> None:
        """What a scan finds after a gap: of a key that is not there, that it was deleted by then."""
        for key in self._judge.taken:
            held = [store.rows[key].record.version for store in stores if store.fit and key in store.rows]
            found = max(held, default=(gap, AFTER_ALL))
            self.heard[key] = max(self.heard.get(key, NEVER), found)

    def save(self) -> None:
        self.saved.append((self.position, dict(self.heard)))
        del self.saved[:-3]

    def begin_anew(self, token: int) -> None:
        """Another process goes on from a token: what was heard since is forgotten."""
        self.leave()
        self.position, heard = self.saved[token % len(self.saved)]
        self.heard = dict(heard)
        self._counts["from a token"] += 1
