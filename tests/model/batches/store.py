"""Store: one replica of a partition of last-write rows, and of the batches that write there.

    direct    a first delivery: refused at or below `closed`
    copy      of what a store that is still there holds: refused at or below `stable`
    exchange  two stores hold the same afterwards, and each has certified what it had closed at the snapshot

A batch that is HELD holds the closed stamp below it, and where that is past it already, at least what is told
of it: certificates say less. So stable stays below the batch, nothing newer is purged, and its rows can come
in, however late, until it is committed here, or done. Nothing of another partition, and no word of anybody,
is needed for that.

One that is old is refused where it is not held, by whoever goes on with it: up to its stamp none is taken by
a first delivery any more. closed might be held there by another, as this one holds it elsewhere.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple

from tests.model.batches.records import Answer, Batch, Record, State, part_stamp

if TYPE_CHECKING:
    from tests.model.batches.judge import Judge

REPLICAS = 3
QUORUM = 2


class Certificate(NamedTuple):
    peer: int  # its store
    closed: int


class Claim(NamedTuple):
    closed: int
    ids: tuple[int, ...]


class Snapshot(NamedTuple):
    id: int
    whole: bool
    told: int
    closed: int
    rows: dict[str, Record]
    batches: dict[int, Batch]


@dataclass
class Store:
    judge: "Judge"
    partition: int
    place: int
    id: int
    whole: bool = True
    closed: int = 0
    stable: int = 0
    refused: int = 0
    busy: bool = False  # with an exchange
    rows: dict[str, Record] = field(default_factory=dict)
    batches: dict[int, Batch] = field(default_factory=dict)
    certificates: dict[int, Certificate] = field(default_factory=dict)
    claims: dict[int, Claim] = field(default_factory=dict)
    met: set[int] = field(default_factory=set)

    # Ways in.

    def write(self, key: str, record: Record, *, vouched: bool = False) -> bool:
        if record.stamp <= (self.stable if vouched else self.closed):
            return False
        self.put(key, record)
        return True

    def put(self, key: str, record: Record) -> None:
        held = self.rows.get(key)
        if held is None or record.stamp > held.stamp:
            self.judge.put(self, key, record)
            self.rows[key] = record

    def hold(self, batch: Batch, *, vouched: bool = False) -> Answer:
        """The batch itself, by the same guards as any write."""
        known = batch.stamp in self.batches
        if not known and part_stamp(batch.stamp) > self.least_batch(vouched=vouched):
            self.batches[batch.stamp] = batch
        return self.ask(batch.stamp)

    def least_batch(self, *, vouched: bool) -> int:
        return self.stable if vouched else max(self.closed, self.refused)

    def refuse(self, stamp: int) -> Answer:
        if stamp not in self.batches:
            self.refused = max(self.refused, part_stamp(stamp))
        return self.ask(stamp)

    def ask(self, stamp: int) -> Answer:
        batch = self.batches.get(stamp)
        if batch is not None:
            return Answer(batch.state, self.place, self.id, self.stable, batch)
        state = State.NEVER if part_stamp(stamp) <= self.least_batch(vouched=False) else State.NONE
        return Answer(state, self.place, self.id, self.stable)

    def commit(self, stamp: int) -> Answer:
        """Its rows, from what is held. Who does not hold it gets them from others."""
        batch = self.batches.get(stamp)
        if batch is not None and batch.state is State.HELD:
            self.take(batch._replace(state=State.COMMITTED))
        return self.ask(stamp)

    def finish(self, stamp: int, done: int) -> Answer:
        """A tombstone is a write like any."""
        batch = self.batches.get(stamp)
        if batch is not None and done > self.closed:
            self.take(batch._replace(state=State.DONE, rows={}, done=done))
        return self.ask(stamp)

    def take(self, batch: Batch) -> None:
        held = self.batches.get(batch.stamp)
        if held is not None and (held.state, held.done) >= (batch.state, batch.done):
            return
        self.batches[batch.stamp] = batch
        if batch.state is State.COMMITTED:
            self.judge.commit(batch.stamp, self.partition)
            for key, value in batch.rows.items():
                if self.may_apply(batch):
                    self.put(key, Record(self.stamp_of(batch), value))

    def may_apply(self, batch: Batch) -> bool:
        """What is stable has settled: it is here, or was beaten, and what beat it may be purged."""
        return batch.stamp > self.stable

    def stamp_of(self, batch: Batch) -> int:
        return batch.stamp

    # Stamps.

    def holds(self) -> Iterable[int]:
        held = (batch.stamp for batch in self.batches.values() if batch.state is State.HELD)
        return [part_stamp(stamp) - 1 for stamp in held]

    def close(self, stamp: int) -> None:
        if self.whole:
            self.closed = max(self.closed, min([stamp, *self.holds()]))

    def told(self) -> int:
        """What others may build on."""
        return min([self.closed, *self.holds()]) if self.whole else 0

    def settle(self, ids: tuple[int, ...]) -> None:
        found = [self.certificates.get(place) for place in range(REPLICAS) if place != self.place]
        sure = [each.closed if each is not None and each.peer in ids else 0 for each in found]
        self.claims[self.place] = Claim(min(sure) if self.whole else 0, ids)
        claims = [claim.closed for claim in self.claims.values() if claim.ids == ids]
        if len(claims) == REPLICAS:
            self.stable = max(self.stable, min(claims))

    def hear(self, claims: dict[int, Claim], ids: tuple[int, ...]) -> None:
        for place, claim in claims.items():
            known = self.claims.get(place)
            if claim.ids == ids and (known is None or known.ids != ids or known.closed < claim.closed):
                self.claims[place] = claim

    def purge(self) -> None:
        """Not while an exchange is open."""
        if self.busy:
            return
        for key, record in list(self.rows.items()):
            if record.value is None and self.is_due(record.stamp):
                self.judge.purge(key, record)
                del self.rows[key]
        for stamp, batch in list(self.batches.items()):
            if batch.state is State.DONE and self.is_due(batch.done):
                del self.batches[stamp]

    def is_due(self, stamp: int) -> bool:
        return stamp <= self.stable

    # Exchanges.

    def snapshot(self) -> Snapshot:
        return Snapshot(self.id, self.whole, self.told(), self.closed, dict(self.rows), dict(self.batches))

    def merge(self, mine: Snapshot, theirs: Snapshot, place: int, ids: tuple[int, ...]) -> None:
        for key, record in theirs.rows.items():
            self.put(key, record)
        for batch in theirs.batches.values():
            self.take(batch)
        self.certificates[place] = Certificate(theirs.id, mine.told)
        if not self.whole:
            self.closed = max(self.closed, theirs.closed)
            self.met |= {theirs.id} if theirs.whole else set()
            self.whole = self.is_enough(self.met & set(ids))

    def is_enough(self, met: set[int]) -> bool:
        return len(met) > REPLICAS - QUORUM


def adopt(one: Store, other: Store) -> None:
    """Before the snapshots both are rid of what is due at either."""
    stable = max(one.stable, other.stable)
    for store in (one, other):
        store.stable = stable
        store.closed = max(store.closed, stable)
        store.purge()
