"""Settlements: what became of the intents that transactions have laid, held against what was decided of them
and what their clients were told; and whether all of it is serializable (`serializable.py`).

As in `stored.py`, the forms of what is stored are written down here once more:

    intent       transaction 16, tombstone 1, expiry 8, length 4, the record whose place it took, new value
    decision     C, and rows, each behind four bytes of its length; or A. Its key is the transaction

    intents      one takes the place of the record that it holds, and only what it comes to takes its place
    decisions    of a transaction one thing is decided, and nothing else ever
    atomic       what is committed comes to be on all its rows, all of which had its intents before that was
                 decided; of what is not, nothing comes to be
    answers      what was committed is, with the values that were asked for; what was told to be in conflict,
                 or refused, is not
"""

from bisect import bisect_right
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, NamedTuple

from basestore.consistency import Level
from basestore.protocol.client import DELETE, HOLDS_NOTHING, SET
from tests.simulation import stored as s
from tests.simulation.chains import DECISIONS, NOTHING, Chains, Link, Row
from tests.simulation.register_clients import CAS, FOUND, GET, LOST, REFUSED, STORED, UNKNOWN, Operation
from tests.simulation.serializable import Read, Transaction, Version, judge
from tests.simulation.transaction_clients import (
    COMMITTED,
    CONFLICT,
    FIRST_VALUE,
    VALUES,
    Sweep,
    Transact,
)

if TYPE_CHECKING:
    from tests.simulation.transaction_worlds import TransactionWorld

ID, OLD_AT = 16, 29
FOREVER = float("inf")


class Intent(NamedTuple):
    """As it was chosen, first at `chosen_s`."""

    row: bytes
    link: Link
    transaction: bytes
    value: bytes
    tombstone: bool
    expires_ms: int
    old: Link | None
    chosen_s: float

    @classmethod
    def of(cls, row: bytes, record: bytes, chosen_s: float) -> "Intent":
        link = Link.of(record)
        value, length = link.value, int.from_bytes(link.value[25:OLD_AT])
        old = value[OLD_AT : OLD_AT + length]
        return cls(
            row, link, value[:ID], value[OLD_AT + length :], bool(value[ID]),
            int.from_bytes(value[17:25]), Link.of(old) if old else None, chosen_s,
        )  # fmt: skip

    @property
    def asked_by(self) -> int:
        """The number of the transaction that wrote this value; -1: it is none of theirs."""
        number = int(self.value) if self.value.isdigit() else 0
        return (number - FIRST_VALUE) // VALUES if number >= FIRST_VALUE and not self.tombstone else -1

    def is_undone(self, link: Link) -> bool:
        """Whether this is what the row comes to if it is rolled back."""
        if self.old is not None:
            return link.write == self.old.write
        return link.tombstone and link.identity == self.link.identity and not link.proposal

    def is_done(self, link: Link) -> bool:
        """Whether it is what the row comes to if it is committed."""
        new = self.link.identity, self.link.replaced, self.tombstone, self.expires_ms, self.value
        return link.write == new and link.proposal == self.link.proposal


def rows_in(decision: bytes) -> Iterator[bytes]:
    """What a decision names."""
    at = 1
    while at < len(decision):
        end = at + 4 + int.from_bytes(decision[at : at + 4])
        yield decision[at + 4 : end]
        at = end


class Decision(NamedTuple):
    """Of a transaction, first chosen at `chosen_s`, and first accepted at `staged_s`."""

    committed: bool
    rows: tuple[bytes, ...]
    staged_s: float
    chosen_s: float


class _Records:
    """What was accepted of a row, by anybody. `of`: by identity, intents left out."""

    def __init__(self, seen: Row) -> None:
        self.links = {ballot: Link.of(record) for ballot, record in sorted(seen.records.items())}
        self.of: defaultdict[bytes, list[Link]] = defaultdict(list)
        self._ballots = [ballot for ballot, link in self.links.items() if not link.laid]
        for ballot in self._ballots:
            self.of[self.links[ballot].identity].append(self.links[ballot])

    def settled(self, after: bytes, upto: bytes) -> bool:
        """Whether something that is no intent was accepted between these."""
        return bool(self.between(after, upto))

    def between(self, after: bytes, upto: bytes) -> list[Link]:
        """No intents. What has the last ballot is included."""
        first, end = bisect_right(self._ballots, after), bisect_right(self._ballots, upto)
        return [self.links[ballot] for ballot in self._ballots[first:end]]


class Settlements:
    """Of one world, once its chains are linked."""

    def __init__(self, world: "TransactionWorld", chains: Chains) -> None:
        self._world, self._rows = world, chains.rows
        self._intents: defaultdict[bytes, list[Intent]] = defaultdict(list)  # by transaction
        self._decisions: dict[bytes, Decision] = {}
        self._unsure = set[bytes]()  # transactions of whose decision or intents some may be lost
        self._rolled_back = set[bytes]()  # identities of intents
        self._by_value: dict[bytes, dict[bytes, Link]] = {}  # by row
        self.counts: Counter[str] = Counter()

    def judge(
        self, transacts: Sequence[Transact], sweeps: Sequence[Sweep], asked: Sequence[Operation]
    ) -> Counter[str]:
        """All of it; what was met."""
        for row, seen in self._rows.items():
            if s.bucket_of(row) == DECISIONS:
                self._note_decision(row, seen)
            else:
                self._note_intents(row, seen)
        for transaction in self._intents.keys() | self._decisions.keys():
            self._judge_atomic(transaction)
        committed = self._judge_answers(transacts)
        for sweep in sweeps:
            self._judge_sweep(sweep)
        history = [*committed, *self._single(asked), *self._swept(sweeps)]
        for anomaly in judge(history, self._orders(), self._rolled_back):
            self._world.blame(anomaly.kind, anomaly.text)
        self.counts["judged together"] += len(history)
        self.counts["transactions committed"] += sum(each.committed for each in self._decisions.values())
        self.counts["transactions ended by others"] += sum(
            not each.committed for each in self._decisions.values()
        )
        return self.counts

    # --- what was chosen -------------------------------------------------------------------------

    def _note_decision(self, row: bytes, seen: Row) -> None:
        transaction = s.key_of_bytes(row)
        if seen.ruined_s >= 0:
            self._unsure.add(transaction)
            return
        before = b""
        for link in seen.links:
            word = b"" if link.tombstone else link.value[:1]
            # Who came too late writes A where C was deleted: nobody is left who would go by that.
            if word and before and not (word == b"A" and before[-1:] == b"-"):
                self._world.blame(
                    "decisions", f"{before!r} was decided of {transaction.hex()}, then {word!r}"
                )
            if word and not before:
                chosen = [
                    (seen.staged_s[ballot], at)
                    for ballot, at in seen.chosen.items()
                    if Link.of(seen.records[ballot]).identity == link.identity
                ]
                staged_s, chosen_s = min(chosen, default=(0.0, FOREVER), key=lambda each: each[1])
                rows = tuple(rows_in(link.value)) if word == b"C" else ()
                self._decisions[transaction] = Decision(word == b"C", rows, staged_s, chosen_s)
            before += word or b"-"

    def _note_intents(self, row: bytes, seen: Row) -> None:
        records = _Records(seen)
        ballots = [ballot for ballot in sorted(seen.chosen) if seen.chosen[ballot] > seen.ruined_s]
        intents: dict[bytes, Intent] = {}
        last: dict[bytes, bytes] = {}  # by identity: the ballot
        first_s: dict[bytes, float] = {}  # likewise: of any ballot, for who helps may be faster
        for ballot in ballots:
            if (link := records.links[ballot]).laid:
                first_s[link.identity] = min(seen.chosen[ballot], first_s.get(link.identity, FOREVER))
        for at, ballot in enumerate(ballots):
            link = records.links[ballot]
            if not link.laid:
                continue
            known = intents.get(link.identity)
            # One that comes late is laid once more, where it was undone: it is undone again.
            anew = known is not None and records.settled(last[link.identity], ballot)
            last[link.identity] = ballot
            if known is None or anew:
                intent = Intent.of(row, seen.records[ballot], first_s[link.identity])
                intents[link.identity] = intent
                self._intents[intent.transaction].append(intent)
                behind = (each for each in ballots[at:] if records.links[each].identity != link.identity)
                self._judge_place(intent, seen, records, ballot, next(behind, None))
            elif known.link.write != link.write:
                self._blame("intents", known, "was accepted anew, changed")
        if seen.ruined_s >= 0:  # and of those from before it nothing is told
            laid = (Intent.of(row, seen.records[at], 0.0) for at, link in records.links.items() if link.laid)
            self._unsure.update(intent.transaction for intent in laid)

    def _blame(self, check: str, intent: Intent, text: str) -> None:
        name = f"{intent.transaction.hex()} on {s.key_of(intent.row)[1]}"
        self._world.blame(check, f"intent {s.short(intent.link.identity)} of {name}: {text}")

    def _judge_place(
        self, intent: Intent, seen: Row, records: "_Records", ballot: bytes, upto: bytes | None
    ) -> None:
        """It took the place of what it holds, and only what it comes to takes its own. `upto`: the ballot of
        what was chosen next."""
        held, replaced = intent.old, intent.link.replaced
        if replaced != (held.identity if held is not None else NOTHING):
            self._blame("intents", intent, f"took the place of {s.short(replaced)}, and holds {held}"[:200])
        if held is not None and not any(held.write == link.write for link in records.of[held.identity]):
            self._blame("intents", intent, f"holds {held}, which was never there"[:200])
        came = records.between(ballot, upto) if upto is not None else []
        if upto is not None and not any(intent.is_done(link) or intent.is_undone(link) for link in came):
            self._blame("intents", intent, f"{s.short(upto)} took its place before it was settled")
        mine = records.of[intent.link.identity]
        if not all(intent.is_done(link) or intent.is_undone(link) for link in mine):
            self._blame("intents", intent, f"was settled as {mine[-1]}"[:250])
        if intent.link.identity not in seen.place:  # else something was deleted, as it were
            self._rolled_back.add(intent.link.identity)

    def _came_to_be(self, intent: Intent) -> bool:
        """Whether it was committed, on its row."""
        seen = self._rows[intent.row]
        place = seen.place.get(intent.link.identity)
        return place is not None and intent.is_done(seen.links[place - 1])

    def _judge_atomic(self, transaction: bytes) -> None:
        intents, decision = self._intents.get(transaction, []), self._decisions.get(transaction)
        if transaction in self._unsure:
            self.counts["transactions behind a ruin"] += 1
            return
        committed = decision is not None and decision.committed
        self.counts["intents laid anew, behind the end"] += len(intents) - len({each.row for each in intents})
        for intent in intents:
            if self._came_to_be(intent) != committed:
                self._blame("atomic", intent, f"its row holds it: {not committed}; decided: {decision}"[:250])
        if decision is None or not committed:
            return
        laid = {intent.row: intent for intent in intents}
        if {*decision.rows} != laid.keys():
            self._world.blame(
                "atomic", f"{transaction.hex()} is committed on {decision.rows}, laid on {laid.keys()}"
            )
        first = {intent.row: intent for intent in reversed(intents)}
        for intent in first.values():
            if intent.chosen_s > decision.staged_s:
                self._blame("atomic", intent, "was chosen only once the transaction was committed")

    # --- what was told -----------------------------------------------------------------------------

    def _judge_answers(self, transacts: Sequence[Transact]) -> Iterator[Transaction]:
        """What clients were told of transactions; those that were committed."""
        by_number = {
            intent.asked_by: transaction
            for transaction, intents in self._intents.items()
            for intent in intents
            if intent.asked_by >= 0
        }
        by_version = {
            intent.link.identity: transaction
            for transaction, intents in self._intents.items()
            for intent in intents
        }
        known = set[bytes]()
        for transact in transacts:
            if transact.is_alone:
                yield from self._judge_alone(transact)
                continue
            transaction = by_number.get(transact.number, b"")
            if transact.outcome == COMMITTED and transact.writes:
                transaction = transaction or by_version.get(transact.versions[0], b"")
                self._judge_committed(transact, transaction)
            decision = self._decisions.get(transaction)
            committed = decision is not None and decision.committed
            known.add(transaction)
            if committed and transact.outcome in (CONFLICT, REFUSED) and transaction not in self._unsure:
                self._world.blame("answers", f"{transact} is committed")
            if committed and transact.outcome == UNKNOWN:
                self.counts["committed, and not known to be"] += 1
            if committed or (transact.outcome == COMMITTED and not transact.writes):
                yield self._together(transact, self._intents.get(transaction, []))
        for transaction, decision in self._decisions.items():
            if decision.committed and transaction not in known:
                self.counts["committed, and of nobody"] += 1
                laid = self._intents.get(transaction, [])
                writes = list({(each.row, each.link.identity): None for each in laid})
                yield Transaction(transaction.hex(), -1.0, FOREVER, (), self._there(writes))

    def _judge_alone(self, transact: Transact) -> Iterator[Transaction]:
        """It has no intent: its row tells."""
        (part,) = transact.parts
        row = self._world.row(CAS, part.key)
        seen = self._rows[row]
        if not self._counts(row):
            return
        mine = self._written(row).get(part.value) if part.kind == SET else None
        if transact.outcome == COMMITTED:
            (version,) = transact.versions
            place = seen.place.get(version)
            mine = seen.links[place - 1] if place is not None else None
            told_s = seen.known_s[place] if place is not None else FOREVER
            deletes = part.kind == DELETE
            if mine is None or (mine.tombstone, mine.value) != (deletes, part.value) or told_s > transact.end:
                self._world.blame("answers", f"{transact}, and it is {mine}"[:300])
        elif mine is not None and transact.outcome in (CONFLICT, REFUSED):
            self._world.blame("answers", f"{transact} is there: {mine}"[:300])
        if mine is not None and bool(mine.expires_ms) != bool(part.ttl_ms):
            self._world.blame("answers", f"{transact}: {part} expires at {mine.expires_ms}")
        if mine is not None:
            self.counts["transactions of one write"] += 1
            yield self._whole(transact, [(row, mine.identity)])

    def _written(self, row: bytes) -> dict[bytes, Link]:
        """By value, what stands in the chain; the first of those that are alike."""
        found = self._by_value.get(row)
        if found is None:
            found = self._by_value[row] = {}
            for link in self._rows[row].links:
                if not link.tombstone:
                    found.setdefault(link.value, link)
        return found

    def _judge_committed(self, transact: Transact, transaction: bytes) -> None:
        """It is, by then, with all that was asked for."""
        decision = self._decisions.get(transaction)
        rows = [self._rows[self._world.row(CAS, part.key)] for part in transact.writes]
        if transaction in self._unsure or any(seen.ruined_s >= 0 for seen in rows):
            return
        if decision is None or not decision.committed or decision.chosen_s > transact.end:
            self._world.blame(
                "answers", f"{transact}, and of {transaction.hex()} this was decided: {decision}"
            )
            return
        laid = {intent.row: intent for intent in self._intents.get(transaction, [])}
        for part, version in zip(transact.writes, transact.versions, strict=True):
            intent = laid.get(self._world.row(CAS, part.key))
            deletes = part.kind == DELETE
            if intent is None or (intent.link.identity, intent.tombstone, intent.value) != (
                version, deletes, part.value,
            ):  # fmt: skip
                self._world.blame("answers", f"{transact}: {part} is {intent}"[:300])
            elif bool(intent.expires_ms) != bool(part.ttl_ms):
                self._world.blame("answers", f"{transact}: {part} expires at {intent.expires_ms}")

    def _judge_sweep(self, sweep: Sweep) -> None:
        """Each page is in order, no longer than asked, and shows what was chosen."""
        keys = [key for key, _, _ in sweep.rows]
        if keys != sorted(set(keys)) or len(keys) > sweep.limit:
            self._world.blame("scans", f"{sweep} shows {keys}")
        for key, value, version in sweep.rows:
            seen = self._rows[self._world.row(CAS, key.decode())]
            place = seen.place.get(version)
            if place is None and seen.ruined_s < 0:
                self._world.blame("scans", f"{sweep} shows {s.short(version)} of {key!r}, not in the chain")
            elif place is not None and (
                seen.links[place - 1].value != value or seen.links[place - 1].tombstone
            ):
                self._world.blame(
                    "scans", f"{sweep} shows {value!r} of {key!r}: {seen.links[place - 1]}"[:250]
                )

    # --- what is judged together ---------------------------------------------------------------------

    def _orders(self) -> dict[bytes, list[Version]]:
        return {
            row: [Version(link.identity, link.value, link.goes) for link in seen.links]
            for row, seen in self._rows.items()
            if self._counts(row)
        }

    def _counts(self, row: bytes) -> bool:
        return self._rows[row].ruined_s < 0 and s.bucket_of(row) != DECISIONS

    def _there(self, writes: list[tuple[bytes, bytes]]) -> list[tuple[bytes, bytes]]:
        """Those of rows that count."""
        return [(row, version) for row, version in writes if self._counts(row)]

    def _together(self, transact: Transact, intents: list[Intent]) -> Transaction:
        return self._whole(transact, list({(each.row, each.link.identity): None for each in intents}))

    def _whole(self, transact: Transact, writes: list[tuple[bytes, bytes]]) -> Transaction:
        reads = list[Read]()
        for part in transact.parts:
            row = self._world.row(CAS, part.key)
            if part.reads and self._counts(row):
                absent = part.expected == HOLDS_NOTHING
                reads.append(Read(row, None if absent else part.expected, part.shown))
        # Of one key alone, and only read, nothing is asked once more.
        start = transact.start if len(transact.parts) == 1 and not transact.writes else transact.asked_s
        end = transact.end if transact.outcome == COMMITTED else FOREVER
        return Transaction(f"T{transact.number}", start, end, reads, self._there(writes))

    def _single(self, asked: Sequence[Operation]) -> Iterator[Transaction]:
        """What was asked of one register."""
        places = {row: _by_proposal(seen) for row, seen in self._rows.items() if self._counts(row)}
        for each in asked:
            row = self._world.row(*each.row)
            if not self._counts(row):
                continue
            name, end = f"#{each.number} {each.kind}", each.end
            if each.outcome in (STORED, UNKNOWN) and each.kind != GET:
                version = each.version if each.outcome == STORED else each.known_by
                link = places[row].get(each.proposal) if each.proposal else None
                version = link.identity if link is not None else version
                if version in self._rows[row].place:  # else of what is stored others complain
                    end = end if each.outcome == STORED else FOREVER
                    yield Transaction(name, each.start, end, (), [(row, version)])
            elif each.outcome in (FOUND, LOST) and not (each.kind == GET and each.level is Level.ONE):
                read = Read(row, each.version or None, each.shown if each.found else None)
                yield Transaction(name, each.start, end, [read])

    def _swept(self, sweeps: Sequence[Sweep]) -> Iterator[Transaction]:
        """What pages have shown: a read each, in no order."""
        every = {row: s.key_of(row)[1].encode() for row in self._rows if s.bucket_of(row) == CAS.encode()}
        for sweep in sweeps:
            if sweep.outcome != FOUND or sweep.level is Level.ONE:
                continue
            shown = {key: (value, version) for key, value, version in sweep.rows}
            for row, key in every.items():
                if not (self._counts(row) and key.startswith(sweep.prefix.encode())):
                    continue
                if sweep.more and key > sweep.upto:
                    continue
                value, version = shown.get(key, (None, None))
                read = Read(row, version, value)
                yield Transaction(f"scan {sweep.number} of {key.decode()}", sweep.start, sweep.end, [read])


def _by_proposal(seen: Row) -> dict[bytes, Link]:
    return {link.proposal: link for link in seen.links if link.proposal}
