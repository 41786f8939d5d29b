"""Chains: what was chosen of each register, as an all-seeing witness knows it, and whether that is one chain.

Whoever looks on sees each record that an acceptor stages, and which of them its disk has made durable. Chosen
is what a quorum of the seats has accepted durably, of both halves while they move. The seats are those of the
latest epoch under which one of them has: who goes by an earlier one yet answers who goes by that. Nothing of
the product says so: seats are read from the log by `seats.py`, the forms of what is stored from here.

    q row       since 8 | promised ballot 16 | accepted record, or nothing
    record      version 24, of which 16 are its ballot, and the rest as in `stored.py`; in front of its value
                identity 24 and replaced 24, if flagged; one that is flagged so is an intent of a transaction

Chosen records in the order of their ballots are one chain: each is the one before it, accepted again, or
names it as what it replaced. A record between the two may have been accepted by few, and named by the next:
then it is of the chain as well. Intents are no links of it: what comes in their place is (`settlements.py`).
Where nothing is named, what was there before was deleted, or had expired, and was purged. Where more stores
were lost than can be spared (`falls.py`), and that is noted, a chain may begin anew, once: behind any record
that was accepted before, or none.

    learned     a disk is given no record that was not chosen
    held        no disk closes its partition at or above what is accepted there, and not learned
"""

from collections import defaultdict
from collections.abc import Collection
from typing import TYPE_CHECKING, Any, NamedTuple

from basestore.consistency import Level
from basestore.repair import paxos
from basestore.storage.engine import Batch
from tests.simulation import stored as s
from tests.simulation.seats import JOINT

if TYPE_CHECKING:
    from tests.simulation.machine import Machine
    from tests.simulation.world import PlannedWorld

ACCEPTOR = b"q"
BALLOT, SINCE, STATE = 16, 8, 24
DESCENDS, LAID = 8, 16
DECISIONS = b"\1d"  # the bucket of the registers in which transactions are decided
LOCKED = b"\1l"  # of those of locks
NOTHING = bytes(s.VERSION)
NONE = b"\xff" * BALLOT  # above all ballots
TOLD = paxos.TOLD.to_bytes(SINCE)  # the epoch of what a store has not accepted itself
Taken = tuple[bytes, int, bytes]  # row, epoch, record


class Link(NamedTuple):
    """A record, as far as a chain goes by it."""

    ballot: bytes
    identity: bytes
    replaced: bytes
    proposal: bytes
    tombstone: bool
    expires_ms: int
    value: bytes
    laid: bool = False  # it is an intent

    @classmethod
    def of(cls, record: bytes) -> "Link":
        flags, at = record[s.FLAGS_AT], s.RECORD_MIN
        if flags & s.PROPOSED:
            at += s.PROPOSAL
        identity, replaced = record[: s.VERSION], NOTHING
        if flags & DESCENDS:
            identity, replaced = record[at : at + s.VERSION], record[at + s.VERSION : at + 2 * s.VERSION]
            at += 2 * s.VERSION
        return cls(
            record[:BALLOT], identity, replaced, s.proposal_of(record), s.is_tombstone(record),
            s.expiry_of(record), record[at:], bool(flags & LAID),
        )  # fmt: skip

    @property
    def goes(self) -> bool:
        """Whether it may be purged one day."""
        return self.tombstone or self.expires_ms > 0

    @property
    def write(self) -> tuple[bytes, bytes, bool, int, bytes]:
        """All but the ballot."""
        return self.identity, self.replaced, self.tombstone, self.expires_ms, self.value


class Row:
    """What was seen of one register."""

    def __init__(self) -> None:
        self.records: dict[bytes, bytes] = {}  # by ballot
        self.votes: dict[bytes, dict[int, int]] = defaultdict(dict)  # by ballot: machines, and epochs
        self.voted_s: dict[bytes, float] = {}  # by ballot: when the last of them was durable
        self.chosen: dict[bytes, float] = {}  # when
        self.staged_s: dict[bytes, float] = {}  # by ballot: when an acceptor first took it
        self.judged_s: dict[bytes, float] = {}  # by identity and replaced: the same
        self.purged: set[bytes] = set()  # ballots of records that some disk has purged
        self.ruined_s = -1.0  # when more stores were lost than can be spared
        self.links: list[Link] = []  # the chain, in the end; behind a ruin
        self.place: dict[bytes, int] = {}  # of an identity in it, from 1
        self.base: set[bytes] = set()  # identities that may stand before it, behind a ruin
        self.known_s: list[float] = []  # by place: when it, or what came behind it, was chosen


class Chains:
    """Of one world."""

    def __init__(self, world: "PlannedWorld") -> None:
        self._world = world
        self.rows: defaultdict[bytes, Row] = defaultdict(Row)
        self._staged: dict[object, list[Taken]] = {}  # by who commits, what its open batch has
        self._pending: dict[int, tuple[object, list[Taken]]] = {}  # by what undoes a batch, which is kept
        self._accepted: defaultdict[int, dict[bytes, bytes]] = defaultdict(dict)  # by machine: ballots
        self._quorums: dict[tuple[int, int], Any] = {}
        self._labels = {
            DECISIONS,
            LOCKED,
            *(name.encode() for name, rule in world.buckets.items() if rule.serial),
        }

    def concern(self, row: bytes) -> bool:
        """Whether it is of a register."""
        return s.bucket_of(row) in self._labels

    # --- what is seen ------------------------------------------------------------------------

    def staged(self, commit: Any, key: bytes, value: bytes | None) -> None:
        """A store is about to keep this of a row that it has promised or accepted something of."""
        if value is not None and len(value) > STATE and value[:SINCE] != TOLD:
            taken = key[1:], int.from_bytes(value[:SINCE]), value[STATE:]
            self._staged.setdefault(commit, []).append(taken)
            ballot = value[STATE : STATE + BALLOT]
            self.rows[key[1:]].staged_s.setdefault(ballot, self._world.clockwork.now)

    def replaced(self, machine: "Machine", held: dict[bytes, bytes | None], batch: Batch) -> None:
        """A batch is about to be applied to a disk."""
        commit = machine.node.group_commit if machine.node is not None else None
        taken = self._staged.pop(commit, None)
        if taken:
            self._pending[id(held)] = held, taken
        accepted, closing = self._accepted[machine.index], []
        for key, old in held.items():
            kind = key[:1]
            if kind == ACCEPTOR:
                data = s.DATA + key[1:]
                record = batch[data] if data in batch else machine.disk.get(data)
                self._note(accepted, key[1:], batch[key], record)
            elif kind == s.DATA and self.concern(key[1:]):
                self._learned(machine, key[1:], old, batch[key])
                if accepted.get(key[1:], NONE) <= (batch[key] or b"")[:BALLOT]:
                    del accepted[key[1:]]
            elif kind == s.SUMMARY:
                closing.append(key)
        for key in closing:
            self._judge_closed(machine, accepted, key[1:3], s.closed_in(batch[key]))

    @staticmethod
    def _note(accepted: dict[bytes, bytes], row: bytes, value: bytes | None, learned: bytes | None) -> None:
        """What is accepted and not learned; what is learned may still stand there as accepted."""
        ballot = value[STATE : STATE + BALLOT] if value is not None and value[:SINCE] != TOLD else b""
        if ballot <= (learned or b"")[:BALLOT]:
            accepted.pop(row, None)
        else:
            accepted[row] = ballot

    def _learned(self, machine: "Machine", row: bytes, old: bytes | None, new: bytes | None) -> None:
        seen = self.rows[row]
        if new is None:
            if old is not None:
                seen.purged.add(old[:BALLOT])
        elif new[:BALLOT] not in seen.chosen and not self._is_finished(seen, row, new[:BALLOT]):
            text = f"n{machine.index + 1} learns {s.short(new)} of {row!r}, which was not chosen"
            self._world.blame("learned", text)

    def _is_finished(self, seen: Row, row: bytes, ballot: bytes) -> bool:
        """Whether all that are left of too few acceptors have it, or a quorum of seats that none of those
        goes by yet: then it counts as chosen."""
        partition, seating = s.partition_of(row), self._world.seating
        votes = seen.votes[ballot]
        for epoch in range(min(votes.values(), default=0), seating.last + 1) if votes else ():
            seats, away = seating.at(epoch, partition), seating.away(epoch, partition)
            halves = [seats.old, seats.new] if seats.stage == JOINT else [seats.old]
            left = [(set(half) - away, len(half) // 2 + 1) for half in halves]
            left = [(half, count) for half, count in left if half]
            if left and all(len(half & votes.keys()) >= min(count, len(half)) for half, count in left):
                self._world.counts["finished by few"] += 1
                seen.chosen[ballot] = seen.voted_s[ballot]  # told meanwhile, and learned only now
                return True
        return False

    def _judge_closed(
        self, machine: "Machine", accepted: dict[bytes, bytes], partition: bytes, closed: int
    ) -> None:
        low = [row for row, ballot in accepted.items() if int.from_bytes(ballot[:8]) <= closed]
        for row in low:
            if row.startswith(partition):
                ballot = accepted.pop(row)  # said once
                if self._is_void(machine, row):
                    self._world.counts["closed beyond what was accepted in an earlier tenure"] += 1
                    continue
                if s.DATA + row in machine.spoilt:  # what it had learned looks like another record
                    self._world.counts["closed beyond a spoilt record"] += 1
                    continue
                if self._may_lack(machine, partition):
                    self._world.counts["closed by what others hold, by who lacks something"] += 1
                    continue
                text = f"n{machine.index + 1} closes {row!r} up to {closed:x}, and holds {s.short(ballot)}"
                self._world.blame("held", text)

    def _is_void(self, machine: "Machine", row: bytes) -> bool:
        """Whether it had accepted that before it came to the partition anew, and knows that it did."""
        seating, value = self._world.seating, machine.disk.get(ACCEPTOR + row)
        came = seating.came(s.partition_of(row), machine.index)
        if value is None or came is None or seating.used(machine) < came:
            return False
        return int.from_bytes(value[:SINCE]) < came

    @staticmethod
    def _may_lack(machine: "Machine", partition: bytes) -> bool:
        """Whether its store has lost something, or does not hold the partition yet: what it is to hold others
        have, and it takes over what they have closed."""
        return (
            machine.node is None
            or not machine.node.identity.counts
            or (machine.disk.get(s.unfit_key(int.from_bytes(partition))) is not None)
        )

    def settled(self, machine: "Machine", batches: list[dict[bytes, bytes | None]]) -> None:
        """These batches are durable."""
        for undo in batches:
            _, taken = self._pending.pop(id(undo), (None, ()))
            for row, since, record in taken:
                self.vote(machine, row, since, record)

    def lost(self, machine: "Machine") -> None:
        """Its disk is another, or has lost what was not durable. What is stable may be purged by half."""
        accepted, disk = self._accepted[machine.index], machine.disk
        accepted.clear()
        for key, value in disk.scan(ACCEPTOR, b"r"):
            stable = s.stable_in(disk.get(s.SUMMARY + key[1:3]))
            if int.from_bytes(value[STATE : STATE + 8]) > stable:
                self._note(accepted, key[1:], value, disk.get(s.DATA + key[1:]))

    def may_be_gone(self, row: bytes, order: bytes) -> bool:
        """Whether what a session has seen of a row, or what came behind it, may be deleted or expired, or was
        lost with more stores than can be spared."""
        seen = self.rows[row]
        later = [record for ballot, record in seen.records.items() if ballot >= order[:BALLOT]]
        return seen.ruined_s >= 0 or any(s.is_tombstone(each) or s.expiry_of(each) for each in later)

    def ruined(self, partitions: Collection[int]) -> None:
        """More stores are lost than can be spared."""
        for row, seen in self.rows.items():
            if s.partition_of(row) in partitions:
                seen.ruined_s = self._world.clockwork.now

    def vote(self, machine: "Machine", row: bytes, since: int, record: bytes) -> None:
        seen, ballot = self.rows[row], record[:BALLOT]
        if seen.records.setdefault(ballot, record) != record:
            self._world.blame("ballots", f"two records of {row!r} under one ballot: {s.short(record)}")
        votes = seen.votes[ballot]
        votes[machine.index] = max(since, votes.get(machine.index, 0))
        seen.voted_s[ballot] = self._world.clockwork.now
        latest = max(votes.values())
        if ballot not in seen.chosen and self._seats(latest, s.partition_of(row)).met(
            Level.QUORUM, votes.keys()
        ):
            seen.chosen[ballot] = self._world.clockwork.now

    def _seats(self, since: int, partition: int) -> Any:
        seats = self._quorums.get((since, partition))
        if seats is None:
            seats = self._quorums[since, partition] = self._world.seating.at(since, partition)
        return seats

    # --- what it comes to --------------------------------------------------------------------

    def link(self) -> None:
        """Of each register what was chosen is one chain."""
        for row, seen in self.rows.items():
            self._link(row, seen)

    def _link(self, row: bytes, seen: Row) -> None:
        links = {ballot: Link.of(record) for ballot, record in seen.records.items()}
        by_identity: defaultdict[bytes, list[Link]] = defaultdict(list)
        for ballot in sorted(links):
            link = links[ballot]
            if not link.laid:
                by_identity[link.identity].append(link)
            # A ballot may be older than what was decided under it: it was promised with the one before.
            seen.judged_s.setdefault(link.identity + link.replaced, seen.staged_s.get(ballot, 0.0))
        before, ruined = None, None  # the link before: of the chain, and of the one that ended with a ruin
        seen.base = {link.identity for link in links.values()} if seen.ruined_s >= 0 else set()
        purged = {links[ballot].identity for ballot in seen.purged if ballot in links}
        for ballot in sorted(seen.chosen):
            link = links[ballot]
            if link.laid:
                continue
            if seen.chosen[ballot] <= seen.ruined_s:
                ruined = link
                continue
            if before is not None and link.identity == before.identity:
                if link.write != before.write:
                    self._world.blame("one chain", f"{row!r}: {s.short(ballot)} was accepted anew, changed")
            else:
                path = _path(link, before, by_identity, purged)
                if path is None and before is None and seen.base >= {link.replaced} - {NOTHING}:
                    path = [link]  # behind a ruin
                if path is None:
                    replaced = s.short(link.replaced)
                    text = f"{row!r}: {s.short(ballot)} replaces {replaced}, behind {_name(before)}"
                    self._world.blame("one chain", text)
                    path = [link]
                for each in path:
                    seen.links.append(each)
                    if each.identity in seen.place:
                        self._world.blame("twice", f"{row!r}: {s.short(each.identity)} stands twice")
                    seen.place[each.identity] = len(seen.links)
                if (
                    before is None
                    and ruined is not None
                    and not _is_behind(link, ruined, by_identity, purged)
                ):
                    self._judge_lost(row, ruined)
            before = link
        if before is None and ruined is not None and not self._is_there(row, seen, ruined.ballot):
            self._judge_lost(row, ruined)
        self._date(seen)

    def _is_there(self, row: bytes, seen: Row, ballot: bytes) -> bool:
        """Whether a record, or what came behind it, is on any disk, or was purged."""
        held = [each.disk.get(s.DATA + row) for each in self._world.machines]
        there = any(each is not None and each[:BALLOT] >= ballot for each in held)
        return there or any(each >= ballot for each in seen.purged)

    def _judge_lost(self, row: bytes, lost: Link) -> None:
        """It was chosen, and is nowhere: whoever holds the partition in the end knows of that loss."""
        self._world.counts["registers lost with their acceptors"] += 1
        if self._world.log_watch.majority_lost:
            self._world.counts["spared: a loss is not noted, for nobody can be called dead any more"] += 1
            return
        for machine in self._world.seating.holders(s.partition_of(row)):
            upto = s.gone_upto(machine.disk, s.partition_of(row))
            if upto < int.from_bytes(lost.ballot[:8]):
                text = f"{_name(lost)} of {row!r} was chosen, and is nowhere"
                self._world.blame("losses", f"{text}; n{machine.index + 1} knows of a loss up to {upto:x}")

    @staticmethod
    def _date(seen: Row) -> None:
        """When each place was known to be so, at the earliest: it, or one behind it, was chosen."""
        known: dict[int, float] = {}
        for ballot, at in seen.chosen.items():
            link = Link.of(seen.records[ballot])
            # What an intent took the place of is chosen with it.
            place = seen.place.get(link.replaced if link.laid else link.identity, 0)
            known[place] = min(at, known.get(place, at))
        earliest, dated = float("inf"), []
        for place in range(len(seen.links), 0, -1):
            earliest = min(earliest, known.get(place, earliest))
            dated.append(earliest)
        seen.known_s = [0.0, *reversed(dated)]


def _name(link: Link | None) -> str:
    return "nothing" if link is None else f"{s.short(link.ballot)} (first {s.short(link.identity)})"


def _is_behind(link: Link, before: Link, by_identity: dict[bytes, list[Link]], purged: set[bytes]) -> bool:
    """Whether it is that record, accepted anew, or leads back to it."""
    return link.identity == before.identity or _path(link, before, by_identity, purged) is not None


def _path(
    link: Link, before: Link | None, by_identity: dict[bytes, list[Link]], purged: set[bytes]
) -> list[Link] | None:
    """What leads from the one before to this one, this one last; None: nothing does."""
    wanted = {NOTHING if before is None else before.identity}
    if before is not None and before.goes and before.identity in purged:
        wanted.add(NOTHING)
    low = b"" if before is None else before.ballot
    behind: dict[Link, Link | None] = {link: None}
    ahead = [link]  # of several that may be the one that was replaced the nearest is tried first
    while ahead:
        each = ahead.pop()
        if each.replaced in wanted:
            return _way(each, behind)
        for other in by_identity.get(each.replaced, ()):
            if low < other.ballot < each.ballot and other not in behind:
                behind[other] = each
                ahead.append(other)
    return None


def _way(link: Link, behind: dict[Link, Link | None]) -> list[Link]:
    """From this one on."""
    way = list[Link]()
    each: Link | None = link
    while each is not None:
        way.append(each)
        each = behind[each]
    return way
