"""Breakages: one rule of the feed left out, and who notices. `SEEDS` says which seed does."""

from collections import Counter
from collections.abc import Callable, Iterable
from typing import Any

from basestore.feeds.position import Mark, Met, Position
from basestore.replica.summaries import Gone
from tests.model.patches import Breakage, Patch, broken, constant
from tests.model.watch import follower
from tests.model.watch.exchange import Exchange
from tests.model.watch.follower import Follower
from tests.model.watch.store import Proof, Store
from tests.model.watch.watcher import Watcher
from tests.model.watch.world import play

Start = Callable[[Position, bytes, int, int, Met | None], int | None]


def _start(change: Callable[[Start, Position, bytes, int, int, Met | None], int | None]) -> Patch:
    """The way in which a store goes on, changed."""
    return Patch(follower, "start", lambda old: lambda *given: change(old, *given))


def _any_met(old: Start, at: Position, store: bytes, last: int, floor: int, met: Met | None) -> int | None:
    return old(at, store, last, floor, met and met._replace(end=0))


def _no_floor(old: Start, at: Position, store: bytes, last: int, floor: int, met: Met | None) -> int | None:
    return old(at, store, last, 0, met)


def _any_store(old: Start, at: Position, store: bytes, last: int, floor: int, met: Met | None) -> int | None:
    return old(at._replace(store=store if at.store else b""), store, last, floor, met)


def _from_now(old: Start, at: Position, store: bytes, last: int, floor: int, met: Met | None) -> int | None:
    found = old(at, store, last, floor, met)
    return last if found is None and at.store else found


def _ends_at_snapshots(old: Any) -> Any:
    def prove(exchange: Exchange, at: int) -> None:
        old(exchange, at)
        proofs, other = exchange.stores[at].proofs, exchange.places[1 - at]
        proofs[other] = proofs[other]._replace(end=proofs[other].theirs)

    return prove


def _proofs_of_places(_: Any) -> Any:
    def met(store: Store, name: bytes) -> Met | None:
        proofs: list[Proof] = list(store.proofs.values())
        return Met(proofs[0].mine, proofs[0].end) if proofs and name else None

    return met


def _base_at_the_end(old: Any) -> Any:
    def look_through(self: Follower, most: int, gap: int) -> Any:
        self._after = self.store.sequence  # private: the rule that is left out stands there
        return old(self, most, gap)

    return look_through


def _above_its_own_stable(old: Any) -> Any:
    def begin(self: Follower, position: Position, met: Met | None) -> None:
        old(self, position, met)
        self._above = self.store.stable if position.store else 0  # private: as above

    return begin


def _always_blank(old: Any) -> Any:
    def begin(self: Follower, position: Position, met: Met | None) -> None:
        old(self, position, met)
        self._blank = self._blank or not position.store  # private: as above

    return begin


def _lost_answers_count(old: Any) -> Any:
    def hear(self: Watcher, most: int, stores: list[Store], *, lost: bool) -> None:
        told_by = self.follower
        old(self, most, stores, lost=lost)
        if lost and told_by is not None:
            self.position = told_by.position

    return hear


def _fit_knows_all(old: Any) -> Any:
    def become_fit(self: Store) -> None:
        gone = self.gone
        old(self)
        self.gone = gone

    return become_fit


BREAKAGES = [
    Breakage("a proof counts whatever was told of the other store", [_start(_any_met)]),
    Breakage("the other store had all at its snapshot", [Patch(Exchange, "_prove", _ends_at_snapshots)]),
    Breakage("lines are there below the floor", [_start(_no_floor)]),
    Breakage("a sequence is of any store", [_start(_any_store)]),
    Breakage("where nothing is proven it goes on from now", [_start(_from_now)]),
    Breakage("a proof is with any store", [Patch(Store, "met", _proofs_of_places)]),
    Breakage(
        "marks are told at once",
        [Patch(Mark, "note", lambda old: lambda mark, stable, _: old(mark, stable, 0))],
    ),
    Breakage("what is replaced unread counts as told", [constant(Mark, "replaced", None)]),
    Breakage(
        "after a look through it goes on from its end", [Patch(Follower, "_look_through", _base_at_the_end)]
    ),
    Breakage(
        "a look through is for what is not stable here", [Patch(Follower, "_begin", _above_its_own_stable)]
    ),
    Breakage("who was told a part was told nothing", [Patch(Follower, "_begin", _always_blank)]),
    Breakage("an answer that was lost was told", [Patch(Watcher, "hear", _lost_answers_count)]),
    Breakage("purges leave no trace", [constant(Store, "forget", None)]),
    Breakage("a new store knows what others have purged", [Patch(Store, "become_fit", _fit_knows_all)]),
    Breakage(
        "gaps are not told in a log",
        [Patch(Gone, "hides", lambda old: lambda s, t, q: q is None and old(s, t, q))],
    ),
    Breakage(
        "gaps are not told in a look through",
        [Patch(Gone, "hides", lambda old: lambda s, t, q: q is not None and old(s, t, q))],
    ),
]


SEEDS = {
    "a proof counts whatever was told of the other store": 0,
    "the other store had all at its snapshot": 100,
    "lines are there below the floor": 45,
    "a sequence is of any store": 31,
    "where nothing is proven it goes on from now": 0,
    "a proof is with any store": 11,
    "marks are told at once": 17,
    "what is replaced unread counts as told": 720,
    "after a look through it goes on from its end": 143,
    "a look through is for what is not stable here": 2,
    "who was told a part was told nothing": 26,
    "an answer that was lost was told": 42,
    "purges leave no trace": 1,
    "a new store knows what others have purged": 1208,
    "gaps are not told in a log": 3,
    "gaps are not told in a look through": 1,
}


def catch(breakage: Breakage, seeds: Iterable[int]) -> tuple[int | None, str]:
    """The first seed that notices, and what."""
    with broken(breakage):
        for seed in seeds:
            if violation := play(seed, Counter()):
                return seed, str(violation)
    return None, ""
