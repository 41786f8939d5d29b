"""Closed and stable stamps, and what goes by them."""

from typing import Any

from tests.model.patches import Breakage, constant
from tests.model.registers.breakages.patching import around, patch
from tests.model.registers.exchange import Exchanges
from tests.model.registers.node import Node
from tests.model.registers.records import Ballot, at
from tests.model.registers.store import Claim, Snapshot, Store
from tests.model.registers.topology import Entry


def held_in_this_life(forget: Any) -> Any:
    def made(self: Node) -> None:
        forget(self)
        store, before = self.store, dict(self.store.rows)

        def holds() -> list[int]:
            new = [row for key, row in store.unlearned() if before.get(key) != row]
            return [at(row.accepted).stamp - 1 for row in new]

        store.__dict__["holds"] = holds

    return made


def learn_anyhow(self: Store, key: int, ballot: Ballot) -> bool:
    record = self.row(key).accepted
    if record is not None and record.ballot == ballot:
        self.take(key, record)
    return record is not None


def purge_rows(purge: Any) -> Any:
    def made(self: Store) -> Any:
        due = purge(self)
        for key, _ in due:
            self.rows.pop(key, None)
        return due

    return made


def floor_only(self: Store, theirs: Snapshot) -> None:
    self.floor = max(self.floor, theirs.floor)


def own_claim_only(self: Store, member: int, entry: Entry) -> None:
    self.stable = max(self.stable, self.claim(member, entry).closed)


def claims_of_any_entry(self: Store, member: int, entry: Entry) -> None:
    self.claims[member] = self.claim(member, entry)
    told = [self.claims.get(each, Claim(0, -1)) for each in entry.members]
    self.stable = max(self.stable, min(each.closed for each in told))


def certificate_of_any_entry(self: Store, member: int, entry: Entry) -> Any:
    found = self.certificates.get(member)
    return found if found is not None and found.store == entry.stores.get(member) else None


def closed_at_the_end(certify: Any) -> Any:
    def made(self: Store, member: int, mine: Snapshot, theirs: Snapshot, *, finished: bool) -> None:
        certify(self, member, mine._replace(closed=self.closed), theirs, finished=finished)

    return made


def settled_without_barred(self: Store, member: int, entry: Entry) -> None:
    there = entry._replace(old=entry.old - entry.barred, new=entry.new - entry.barred)
    told = {**self.claims, member: self.claim(member, there)}
    self.claims[member] = told[member]
    known = [told.get(each, Claim(0, -1)) for each in there.members]
    self.stable = max(
        self.stable, min([each.closed * (each.since == entry.since) for each in known], default=0)
    )


def takes_all(merge: Any) -> Any:
    def made(self: Store, theirs: Snapshot) -> None:
        merge(self, theirs)
        for key, record in theirs.data.items():
            self.take(key, record)

    return made


STAMPS = [
    Breakage("closed is not held", [constant(Store, "holds", [])]),
    Breakage("the hold is forgotten by a crash", [around(Node, "forget", held_in_this_life)]),
    Breakage(
        "tombstones go before they are stable",
        [patch(Store, "is_due", lambda self, record: record.value is None and self.is_closed(record.ballot))],
    ),
    Breakage("learned at or below closed", [patch(Store, "learn", learn_anyhow)]),
    Breakage("purge drops what is accepted", [around(Store, "purge", purge_rows)]),
    Breakage("stable by one's own claim only", [patch(Store, "settle", own_claim_only)]),
    Breakage("claims of any entry count", [patch(Store, "settle", claims_of_any_entry)]),
    Breakage("stable does not wait for who is barred", [patch(Store, "settle", settled_without_barred)]),
    Breakage("what is stable is taken", [around(Store, "merge", takes_all)]),
    Breakage("exchanges between different entries", [constant(Exchanges, "is_with", True)]),
    Breakage("certificates of any entry count", [patch(Store, "certificate", certificate_of_any_entry)]),
    Breakage("closed of the end of the exchange", [around(Store, "certify", closed_at_the_end)]),
    Breakage("closed is not inherited", [patch(Store, "inherit", floor_only)]),
]
