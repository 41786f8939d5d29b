"""Decided: a log of what the cluster is, as it was seen to be decided, and what its entries say.

One for each metadata group that there ever was. Entries come in order, once each, from whichever node knew
first that they are decided; what another node takes for decided is held against them. What they say of
settings and buckets is worked out here anew, by an id once only, and of who holds what in `seats.py`: nothing
of the product that is judged reads them.
"""

import hashlib
from typing import NamedTuple

import cbor2

from tests.simulation.seats import ADD_MEMBER, Held

EMPTY, CHANGE, DATA = 0, 1, 2  # kinds of entries
CREATE, DROP, SET, UNSET, FOUNDED = 1, 2, 3, 4, 8  # kinds of changes
UNNAMED = 0
NUMBER_BYTES, STORE_BYTES = 2, 16
OUTCOMES_AT = 7  # in what is encoded
BUILT_IN = ("default", "once", "cas")  # the last is made by the leader


class Said(NamedTuple):
    """An entry."""

    term: int
    kind: int
    data: bytes


class Became(NamedTuple):
    """What became of a change: whether it was taken, and the number that it gave."""

    epoch: int
    taken: bool
    number: int


class Topology(NamedTuple):
    """What an encoded one says of the matters that are watched here."""

    epoch: int
    buckets: dict[str, int]
    settings: dict[str, str]
    last_bucket: int
    founded: bool
    held: Held


def topology(encoded: bytes) -> Topology:
    """Read it."""
    tables = cbor2.loads(encoded)
    _, (facts,), _, _, buckets, _, settings, *_ = tables
    numbers, held = {row[1]: row[0] for row in buckets}, Held.decoded(tables)
    return Topology(facts[0], numbers, dict(settings), facts[5], facts[6], held)


class Form(NamedTuple):
    """Of a topology, hashed: all of it, and what clients are told, all but what became of entries."""

    whole: bytes
    told: bytes

    @classmethod
    def of(cls, encoded: bytes) -> "Form":
        tables = cbor2.loads(encoded)
        tables[OUTCOMES_AT] = []
        told = cbor2.dumps(tables)
        return cls(*(hashlib.blake2b(each, digest_size=16).digest() for each in (encoded, told)))


def voters(encoded: bytes) -> set[tuple[int, bytes]]:
    """Members' numbers, and stores."""
    each = NUMBER_BYTES + STORE_BYTES
    rows = (encoded[at : at + each] for at in range(0, len(encoded), each))
    return {(int.from_bytes(row[:NUMBER_BYTES]), row[NUMBER_BYTES:]) for row in rows}


class Decided:
    """Of one group. `entries`: those behind epoch 0; `under`: the term of the leader that was the first to
    know, of each; `leaders`: by term; `forms`: by epoch, of the topology of who used it first."""

    def __init__(self, founded_with: bytes) -> None:
        first = topology(founded_with)
        self.entries: list[Said] = []
        self.under: list[int] = []
        self.leaders: dict[int, tuple[int, bytes]] = {}
        self.forms: dict[int, Form] = {}
        self.became: dict[int, Became] = {}  # by id
        self._buckets = [first.buckets]
        self._settings = [first.settings]
        self._held = [first.held]
        self._last_bucket, self._founded = first.last_bucket, first.founded
        self.dropped: dict[int, int] = {}  # buckets' numbers, and the epochs at which they were

    @property
    def last(self) -> int:
        return len(self.entries)

    @property
    def founded(self) -> bool:
        """Whether users are heard."""
        return self._founded

    def buckets(self, epoch: int) -> dict[str, int]:
        """Names and numbers."""
        return self._buckets[max(0, min(epoch, self.last))]

    def settings(self, epoch: int) -> dict[str, str]:
        return self._settings[max(0, min(epoch, self.last))]

    def held(self, epoch: int) -> Held:
        """Who holds what."""
        return self._held[max(0, min(epoch, self.last))]

    def take(self, entry: Said, term: int) -> None:
        """The next that is decided, first known under this leader."""
        self.entries.append(entry)
        self.under.append(term)
        self._buckets.append(self._buckets[-1])
        self._settings.append(self._settings[-1])
        self._held.append(self._held[-1])
        if entry.kind == DATA:
            _, identity, _, _, kind, *fields = cbor2.loads(entry.data)
            if identity == UNNAMED:
                self._founded |= kind == FOUNDED
                self._apply(kind, fields)
            elif identity not in self.became:
                taken, number = self._apply(kind, fields) if self._founded else (False, -1)
                self.became[identity] = Became(self.last, taken, number)

    def _apply(self, kind: int, fields: list[object]) -> tuple[bool, int]:
        buckets, settings = self._buckets[-1], self._settings[-1]
        if kind not in (CREATE, DROP, SET, UNSET):
            taken = self._hold(kind, fields)
            return taken, max(self._held[-1].standing) if taken and kind == ADD_MEMBER else -1
        name = str(fields[0])
        if kind == CREATE and name not in buckets:
            self._last_bucket += 1
            self._buckets[-1] = {**buckets, name: self._last_bucket}
            return True, self._last_bucket
        if kind == DROP and name in buckets and name not in BUILT_IN:
            self._buckets[-1] = {each: number for each, number in buckets.items() if each != name}
            self.dropped[buckets[name]] = self.last
            return True, buckets[name]
        if kind == SET:
            self._settings[-1] = {**settings, name: str(fields[1])}
            return True, -1
        if kind == UNSET and name in settings:
            self._settings[-1] = {each: value for each, value in settings.items() if each != name}
            return True, -1
        return False, -1

    def _hold(self, kind: int, fields: list[object]) -> bool:
        """Whether who holds what, or is to, can be changed so."""
        held = self._held[-1].after(self.last, kind, fields)
        self._held[-1] = held or self._held[-1]
        return held is not None
