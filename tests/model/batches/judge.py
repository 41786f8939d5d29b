"""Judge: sees all stores, and says what must never be."""

from collections import Counter, defaultdict
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from tests.model.batches.records import Record, State
from tests.model.laws import demand

if TYPE_CHECKING:
    from tests.model.batches.store import Store

NOTHING = Record(0, None)


@dataclass
class Told:
    """A batch, and what its client was told; "died" until then."""

    counts: Counter[str]
    rows: dict[int, dict[str, int | None]]
    outcome: str = "died"
    committed: set[int] = field(default_factory=set)

    def answer(self, outcome: str) -> None:
        self.outcome = outcome
        self.counts[outcome] += 1


class Judge:
    def __init__(self, counts: Counter[str], now: Callable[[], int]) -> None:
        self.counts = counts
        self.now = now
        self.named: dict[tuple[int, int], int] = {}  # of `elsewhere`: when a store heard of a batch
        self.batches: dict[int, Told] = {}
        self.best: defaultdict[str, Record] = defaultdict(lambda: NOTHING)  # that was ever applied
        self.purged: Counter[str] = Counter()  # the stamps of tombstones

    def begin(self, stamp: int, rows: dict[int, dict[str, int | None]]) -> Told:
        self.batches[stamp] = Told(self.counts, rows)
        return self.batches[stamp]

    def put(self, store: "Store", key: str, record: Record) -> None:
        """A tombstone may come again, and goes again."""
        gone = record.value is not None and record.stamp < self.purged[key]
        demand(not gone, "what was deleted and purged is back", key, record)
        self.best[key] = max(self.best[key], record, key=lambda each: each.stamp)

    def purge(self, key: str, record: Record) -> None:
        self.counts["purged"] += 1
        self.purged[key] = max(self.purged[key], record.stamp)

    def lose(self, store: "Store", others: "list[Store]") -> None:
        """Its disk: what of its rows was nowhere else is gone, and nobody is to blame."""
        for key, record in store.rows.items():
            held = [other.rows.get(key, NOTHING) for other in others]
            if record == self.best[key] and record not in held and self.purged[key] < record.stamp:
                self.best[key] = max(held, key=lambda each: each.stamp)

    def commit(self, stamp: int, partition: int) -> None:
        """A store applies the rows of a batch."""
        self.batches[stamp].committed.add(partition)

    def look_at_stable(self, stores: "list[Store]") -> None:
        """What is stable at one is on all that are whole, or beaten there."""
        stores = [store for store in stores if store.whole]
        stable = max((store.stable for store in stores), default=0)
        for key in {key for store in stores for key in store.rows}:
            held = [store.rows.get(key, NOTHING).stamp for store in stores]
            best = max((stamp for stamp in held if stamp <= stable), default=0)
            there = self.purged[key] >= best or min(held) >= best
            demand(there, "what is stable is not on all", key, best, held)

    def end(self, partitions: "list[list[Store]]") -> None:
        for stamp, told in self.batches.items():
            some, every = bool(told.committed), told.committed == told.rows.keys()
            demand(every or not some, "a part of a batch was applied", stamp, told.committed, told.outcome)
            demand(every or told.outcome != "stored", "an acknowledged batch was not applied", stamp)
            demand(not some or told.outcome != "not applied", "reported not applied, and was", stamp)
            for rows in told.rows.values() if some else ():
                for key, value in rows.items():
                    record = Record(stamp, value)
                    self.best[key] = max(self.best[key], record, key=lambda each: each.stamp)
        for key, best in self.best.items():
            for store in partitions[int(key[0])]:
                value = store.rows.get(key, NOTHING).value
                demand(value == best.value, "a store does not hold what was written last", key, value, best)
        for store in (store for stores in partitions for store in stores):
            left = [batch for batch in store.batches.values() if batch.state is not State.DONE]
            demand(not left, "a batch is left", left)
