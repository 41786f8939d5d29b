"""Store: what one member keeps of the partition: an acceptor for each row, and what was learned.

    prepare   promises to take nothing below a ballot; tells the greatest that was accepted or learned
    accept    takes a record under its ballot, and promises the proposer's next
    learn     what was accepted enters the data, if it was accepted here
    take      every other door into the data: what others have learned

`closed` follows the clock; ballots at or below it are refused, so promises there need not be kept. It is held
below whatever is accepted and not learned, so that what is stable, by the certificates, is everywhere, and
a tombstone may go. `floor` is what the promises of others come to for a store that takes a place among them.
Owns no clock, no messages, and no view of who the others are.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from typing import NamedTuple

from tests.model.registers.records import NEVER, Ballot, Record, at
from tests.model.registers.topology import Entry


class Row(NamedTuple):
    """The state of an acceptor. `since`: under which the record was accepted, or without one, promised."""

    since: int = 0
    promised: Ballot = NEVER
    accepted: Record | None = None


class Known(NamedTuple):
    """What an acceptor answers: the greatest record, whether it is learned, or else since which entry it is
    accepted; and up to where tombstones may be gone here."""

    record: Record | None
    learned: bool
    since: int
    stable: int


class Certificate(NamedTuple):
    """Both hold what both held. `closed`: one's own at the snapshot; `finished`: the other had, before."""

    store: int
    since: int
    closed: int
    finished: bool


class Claim(NamedTuple):
    closed: int
    since: int


class Snapshot(NamedTuple):
    """What an exchange is about, of one side."""

    store: int
    since: int
    data: dict[int, Record]
    closed: int
    stable: int
    floor: Ballot
    claims: dict[int, Claim]


EMPTY = Row()


@dataclass
class Store:
    """`fit`: it holds all that it must. `tenure`, `since`: of its member, by the entry it stands at. `owed`:
    what was accepted and not learned when it came to that, or started."""

    id: int
    epoch: int = 0
    since: int = 0
    tenure: int = 0
    seated: bool = False
    fit: bool = False
    closed: int = 0
    stable: int = 0
    floor: Ballot = NEVER
    data: dict[int, Record] = field(default_factory=dict)
    rows: dict[int, Row] = field(default_factory=dict)
    certificates: dict[int, Certificate] = field(default_factory=dict)
    claims: dict[int, Claim] = field(default_factory=dict)
    owed: dict[int, Ballot] = field(default_factory=dict)

    def image(self) -> "Store":
        return replace(
            self, data=dict(self.data), rows=dict(self.rows), certificates=dict(self.certificates),
            claims=dict(self.claims), owed=dict(self.owed),
        )  # fmt: skip

    # The acceptor.

    def row(self, key: int) -> Row:
        """What is of an earlier time in this seat is void."""
        row = self.rows.get(key, EMPTY)
        return EMPTY if self.is_void(row) else row

    def is_void(self, row: Row) -> bool:
        return row.since < self.tenure

    def known(self, key: int) -> Known:
        row, learned = self.row(key), self.data.get(key)
        if row.accepted is not None and row.accepted.ballot > at(learned):
            return Known(row.accepted, False, row.since, self.stable)
        return Known(learned, learned is not None, 0, self.stable)

    def least(self, key: int) -> Ballot:
        """A prepare must be above it."""
        return max(self.row(key).promised, at(self.known(key).record), self.floor)

    def is_closed(self, ballot: Ballot) -> bool:
        return ballot.stamp <= self.closed

    def prepare(self, key: int, ballot: Ballot) -> Known | Ballot:
        """A ballot that comes back is the greatest known: refused."""
        if ballot <= self.least(key) or self.is_closed(ballot):
            return max(self.least(key), Ballot(self.closed, 0))
        row = self.row(key)
        self.rows[key] = row._replace(promised=ballot, since=row.since if row.accepted else self.since)
        return self.known(key)

    def accept(self, key: int, record: Record, following: Ballot) -> Ballot | None:
        """None: it is accepted."""
        ballot = record.ballot
        if self.is_promised_away(key, ballot) or ballot <= self.floor or self.is_closed(ballot):
            return max(self.least(key), Ballot(self.closed, 0))
        if ballot <= at(self.data.get(key)) or ballot < at(self.row(key).accepted):
            return self.least(key)
        self.rows[key] = Row(self.since, max(self.row(key).promised, following), record)
        return None

    def is_promised_away(self, key: int, ballot: Ballot) -> bool:
        return ballot < self.row(key).promised

    def learn(self, key: int, ballot: Ballot) -> bool:
        """Whether it was accepted here, and is in the data now."""
        record = self.row(key).accepted
        if record is None or record.ballot != ballot or self.is_closed(ballot):
            return False
        self.take(key, record)
        return True

    def take(self, key: int, record: Record) -> None:
        if record.ballot > at(self.data.get(key)):
            self.data[key] = record
        if self.owed.get(key, record.ballot) <= record.ballot:
            self.owed.pop(key, None)
        self.forget_accepted(key)

    def forget_accepted(self, key: int) -> None:
        row = self.rows.get(key, EMPTY)
        if row.accepted is not None and row.accepted.ballot <= at(self.data.get(key)):
            self.rows[key] = row._replace(accepted=None)

    def unlearned(self) -> list[tuple[int, Row]]:
        return [(key, self.row(key)) for key in self.rows if self.row(key).accepted is not None]

    def owe(self) -> None:
        """What is accepted by now is to be learned before this store has finished. What is accepted over it
        does not make up for that, nor the same again, whatever entry the row is of then."""
        self.owed = {key: at(row.accepted) for key, row in self.unlearned()}

    def has_finished(self) -> bool:
        """Nothing that was accepted under an earlier entry waits to be learned."""
        return not self.owed

    # Stamps.

    def close(self, stamp: int) -> None:
        self.closed = max(self.closed, min([stamp, *self.holds()]))

    def holds(self) -> Iterable[int]:
        """Closed stays below each of these: what is accepted here may be learned yet."""
        return [at(row.accepted).stamp - 1 for _, row in self.unlearned()]

    def forget_promises(self) -> None:
        """Those that closed says as well."""
        for key, row in list(self.rows.items()):
            if row.accepted is None and self.is_closed(row.promised):
                del self.rows[key]

    def claim(self, member: int, entry: Entry) -> Claim:
        others = [self.certificate(each, entry) for each in entry.members - {member}]
        closed = [each.closed if each is not None else 0 for each in others]
        return Claim(min(closed, default=self.closed) if self.fit else 0, entry.since)

    def certificate(self, member: int, entry: Entry) -> Certificate | None:
        """What is proven with this member under this entry."""
        found = self.certificates.get(member)
        if found is None or (found.store, found.since) != (entry.stores.get(member), entry.since):
            return None
        return found

    def met(self, entry: Entry, *, finished: bool = True) -> set[int]:
        """With whom it has proven to hold the same: those that had finished, or all."""
        found = {each: self.certificate(each, entry) for each in entry.members}
        return {each for each, its in found.items() if its and (its.finished or not finished)}

    def settle(self, member: int, entry: Entry) -> None:
        """Stable is the least of all claims."""
        self.claims[member] = self.claim(member, entry)
        told = [self.claims.get(each, Claim(0, -1)) for each in entry.members]
        self.stable = max(self.stable, min(each.closed if each.since == entry.since else 0 for each in told))

    def purge(self) -> list[tuple[int, Record]]:
        """Tombstones that are stable are gone everywhere, or may be."""
        due = {key: record for key, record in self.data.items() if self.is_due(record)}
        for key in due:
            del self.data[key]
        return list(due.items())

    def is_due(self, record: Record) -> bool:
        return record.value is None and record.ballot.stamp <= self.stable

    # Exchanges, and places.

    def snapshot(self) -> Snapshot:
        return Snapshot(
            self.id, self.since, dict(self.data), self.closed, self.stable, self.top(),
            dict(self.claims),
        )  # fmt: skip

    def top(self) -> Ballot:
        """No promise that was ever made here is above it."""
        rows = [self.row(key) for key in self.rows]
        return max([self.floor, *(max(row.promised, at(row.accepted)) for row in rows)])

    def merge(self, theirs: Snapshot) -> None:
        """What is stable here is not taken: it is there, or was beaten and has been purged since."""
        for key, record in theirs.data.items():
            if record.ballot.stamp > self.stable:
                self.take(key, record)
        for member, claim in theirs.claims.items():
            self.claims[member] = max(claim, self.claims.get(member, claim), key=lambda each: each[::-1])
        if not self.fit:
            self.inherit(theirs)

    def inherit(self, theirs: Snapshot) -> None:
        """Who comes in is bound by what those have promised among whom it comes."""
        self.close(theirs.closed)
        self.floor = max(self.floor, theirs.floor)

    def certify(self, member: int, mine: Snapshot, theirs: Snapshot, *, finished: bool) -> None:
        """`finished`: the other had told so before its snapshot was taken."""
        before = self.certificates.get(member)
        if before is not None and (before.store, before.since) == (theirs.store, theirs.since):
            finished |= before.finished
        self.certificates[member] = Certificate(theirs.store, theirs.since, mine.closed, finished)
        self.stable = max(self.stable, theirs.stable)

    def recover(self, member: int, entry: Entry) -> None:
        """Whoever has met enough of the acceptors, itself among them, holds all."""
        met = self.met(entry, finished=False) | {member}
        self.fit |= self.seated and entry.covered(met - entry.barred)

    def enter(self, entry: Entry, member: int) -> None:
        """Stands at this entry now. Who gets a seat begins empty, but for what it has accepted in an earlier
        time there; those of the founding have nothing to catch up with."""
        changed = entry.since != self.since
        self.epoch, self.since = entry.epoch, entry.since
        seated = member in entry.members and entry.stores.get(member) == self.id
        tenure = entry.tenure[member] if seated else 0
        if (seated, tenure) != (self.seated, self.tenure):
            self.seated, self.tenure = seated, tenure
            self.fit = seated and tenure == 0
            self.closed, self.stable, self.floor = 0, 0, NEVER
            self.data.clear()
            self.certificates.clear()
        if changed:
            self.owe()
