"""Store: one replica of the partition. A record is a version and a value, None for a tombstone; the greatest
version wins. A version is a stamp and an origin."""

from collections.abc import Callable
from typing import NamedTuple

from basestore.feeds.position import Met
from basestore.replica.summaries import Gone

Version = tuple[int, int]


class Record(NamedTuple):
    version: Version
    value: str | None


class Held(NamedTuple):
    record: Record
    sequence: int


class Proof(NamedTuple):
    """What a replica keeps of an exchange: the other's store, both snapshots, and by which sequence of its
    own the other had all that was in this one's."""

    store: int
    mine: int
    theirs: int
    end: int
    closed: int  # of this one, at its snapshot


class Store:
    """`fit`: it holds all that it must, so it serves feeds; `open`: an exchange is, so nothing is purged."""

    def __init__(self, number: int, *, fit: bool) -> None:
        self.number = number
        self.fit = fit
        self.rows: dict[str, Held] = {}
        self.sequence = self.floor = self.closed = self.stable = 0
        self.gone = Gone()
        self.proofs: dict[int, Proof] = {}  # by place of the other
        self.open = 0
        self.holds: dict[object, int] = {}  # lines behind these are kept, for watchers
        self.readers: list[Callable[[int], None]] = []  # are told of each line that goes

    @property
    def name(self) -> bytes:
        return self.number.to_bytes(2)

    def write(self, key: str, record: Record) -> bool:
        """A first delivery: refused at or below what is closed."""
        return record.version[0] > self.closed and self.take(key, record)

    def copy(self, key: str, record: Record) -> bool:
        return record.version[0] > self.stable and self.take(key, record)

    def take(self, key: str, record: Record) -> bool:
        held = self.rows.get(key)
        if held is not None and held.record.version >= record.version:
            return False
        if held is not None:
            for replaced in self.readers:
                replaced(held.sequence)
        self.sequence += 1
        self.rows[key] = Held(record, self.sequence)
        return True

    def close(self, stamp: int) -> None:
        self.closed = max(self.closed, stamp)

    def adopt(self, stable: int) -> None:
        self.stable = max(self.stable, stable)
        self.close(stable)

    def become_fit(self) -> None:
        """What others have purged before it was nobody can tell here."""
        self.fit = True
        self.gone = self.gone.with_also(self.stable, self.sequence)

    def purge(self) -> None:
        for key, held in list(self.rows.items()):
            if held.record.value is None and held.record.version[0] <= self.stable:
                del self.rows[key]
                self.sequence += 1  # a removal is a change, without a line
                self.forget(held)

    def forget(self, held: Held) -> None:
        self.gone = self.gone.with_also(held.record.version[0], held.sequence)

    def drop_lines(self, passed: int) -> None:
        """Lines that all others have; but none that a watcher holds."""
        self.floor = max(self.floor, min([passed, *self.holds.values()]))

    def lines(self, after: int, most: int) -> list[tuple[str, Held]]:
        """The next lines that stand behind a sequence. Those up to the floor are gone."""
        behind = max(after, self.floor)
        held = [(key, each) for key, each in self.rows.items() if each.sequence > behind]
        return sorted(held, key=lambda pair: pair[1].sequence)[:most]

    def met(self, store: bytes) -> Met | None:
        """The proof with that store."""
        for proof in self.proofs.values():
            if proof.store.to_bytes(2) == store:
                return Met(proof.mine, proof.end)
        return None
