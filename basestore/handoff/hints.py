"""Hints: writes kept for members that missed them (hinted handoff: DeCandia et al., "Dynamo", 2007, 4.6).

A hint is kept by whoever has coordinated the write, once the member has not answered in time, or counts as
down; `delivery.py` sends it. For each member and row there is one, the winner by the bucket's rule:

    n3 is down; k=1, then k=2 are written       one hint for n3: k=2, *since* the stamp of k=1
    n3 is back                                  k=2 is sent; k=1 is of no use any more
    the hint is given up first                  n3 may lack k, and whatever else, since the stamp of k=1

A hint counts, and is reported, only once it is durable. One that there is no room for, or that has become
too old, leaves a debt in the same batch (`debts.py`): nothing is dropped in silence. *Only copies*, of
writes at ANY that no replica has taken, have a share of the room of their own, and do not age. *Late* hints,
which the member takes no more, wait for an operator's word (`late_hints.py`). *Deferred* ones, of writes that
no member was sent (`deferred_writes.py`), are only copies until a member has taken one, and have a share of
the room too. Where one of either is damaged, nobody knows whether its write is anywhere: that is a loss of
the partition (`replica/losses.py`).

For a member that has left none is kept any more, and those that are go to others (`moved_hints.py`). Whoever
comes under its name takes over what is left of its pile, for by the name hints are stored.
"""

from collections.abc import Callable, Iterable, Iterator
from itertools import islice

from basestore.cluster.outbox import Outbox
from basestore.cluster.peer import Peer
from basestore.config import NodeConfig
from basestore.errors import InvalidRequest, Overloaded
from basestore.handoff.debts import Debts
from basestore.handoff.pile import Pile, PileSummary, decode_hint, encode_hint
from basestore.instant import Instant
from basestore.metrics import Metrics
from basestore.protocol.replication import Keep, Kept
from basestore.repair.digest_tree import STAMP_MAX
from basestore.repair.version import COUNTER_BITS, Record
from basestore.repair.write_repair import Hint, admits, given_up, merge_hints
from basestore.replica.group_commit import GroupCommit
from basestore.replica.losses import Losses
from basestore.rows import row_bucket, row_partition
from basestore.storage import keyspace
from basestore.topology.buckets import DROPPED, Buckets

EXPIRED_AT_ONCE = 256
_NO_PLACE = (
    "overloaded: there is no room for this write among the hints of this node, or one of its key is late and "
    "waits for `basestore hints replay --late`; nothing was done. Try again later, or at another node"
)
_LEAVING = (
    "overloaded: and this node is about to leave the cluster, so it defers no writes; nothing was done. Ask "
    "another node"
)


def _sort(hint: Hint) -> tuple[bool, bool]:
    """What shares room with it: deferred ones, other only copies, and copies each have their own."""
    return hint.deferred, hint.only_copy and not hint.deferred


class Hints:
    """What this node keeps for others."""

    def __init__(
        self,
        group_commit: GroupCommit,
        buckets: Buckets,
        losses: Losses,
        metrics: Metrics,
        config: NodeConfig,
        debts: Debts,
        taken_by: Callable[[bytes, bytes, list[int]], bytes],
    ) -> None:
        """`debts`: where it is kept what is owed in place of a hint. `taken_by(row, head, numbers)`: the
        stores that hold this record, so far as this node knows: those of the members named, and its own."""
        self._debts = debts
        self.leaving: Callable[[], bool] = lambda: False  # this member is about to leave the cluster
        self._losses = losses
        self._taken_by = taken_by
        self._group_commit = group_commit
        self._rules, self._is_gone = buckets.rules, buckets.is_gone
        self._metrics = metrics
        self._bytes_max = config.hint_bytes_max
        self._age_ms_max = config.hint_age_s_max * 1000
        self.deferred_bytes_max = config.deferred_bytes_max
        self._peers = losses.peers
        self.piles = [Pile(peer.index, peer.name) for peer in self._peers.all]
        self._expire_at = [pile.ages for pile in self.piles]
        self._peers.watch(self._come)
        for pile in self._each():
            for key, value in self._group_commit.scan(*keyspace.hints_for(pile.name)):
                pile.add(decode_hint(value), keyspace.hinted_row(pile.name, key), 1)

    def _come(self, peer: Peer) -> None:
        pile = Pile(peer.index, peer.name)
        formers = [each for each in self.piles if each.name == pile.name]
        if formers and self._peers.named[peer.name] is peer:  # of several all but one have nothing
            former = max(formers, key=lambda each: each.count)
            self.piles[former.index] = pile
            pile.index, former.index, pile = former.index, peer.index, former
        self.piles.append(pile)
        self._expire_at.append(pile.ages)

    def _each(self) -> Iterator[Pile]:
        """One for each name."""
        return (self.piles[peer.index] for peer in self._peers.named.values())

    @property
    def formers(self) -> list[Pile]:
        """Piles in which something is left for members that have left."""
        return [pile for pile in self.piles if pile.count and self._peers.all[pile.index].gone]

    # --- keeping -----------------------------------------------------------------------------

    def keep(self, outbox: Outbox, message: Keep) -> None:
        """Store a hint, and say when it is durable; or that it cannot be kept, once the debt is: there is no
        room, or it loses to a late one, which will not be delivered."""
        self._peers.check_known((message.member, *message.takers))
        index, row = self._peers.index_of.get(message.member), message.row
        # It has left, or the bucket was dropped meanwhile: nothing is owed. Or it is not known here yet.
        if index is None or self._peers.all[index].gone or row_bucket(row) not in self._rules:
            outbox.put(Kept(message.id, message.member, False))
            return
        pile = self.piles[index]
        kept, record = self.kept(pile, row), Record(message.record)
        stores = self._taken_by(row, record.head, message.takers)
        # Known to be held by a store, it is a copy, whatever its coordinator knew when it asked.
        offered = Hint.of(record, message.only_copy and not stores, stores)
        if offered.only_copy and self.leaving():  # others would never have it
            self._metrics.count("hints_refused")
            outbox.put(Kept(message.id, message.member, False))
            return
        hint = merge_hints(self._rules[row_bucket(row)], kept, offered)
        # A late hint that wins keeps the place, and is not delivered: what loses to it would wait with it.
        loses = kept is not None and kept.late and kept.record == hint.record != record
        if loses or hint != kept:
            if loses or self._group_commit.wary or not self._has_room(pile, hint, kept, row):
                self._metrics.count("hints_refused")
                debt = self._debts.owe(pile.index, row, offered)
                refusal = Kept(message.id, message.member, False)
                self._group_commit.reply(outbox, refusal, debt, surely=True)
                return
            self._put(pile, row, kept, hint)
            self._metrics.count("hints_created", kept is None)
        # Surely: at ANY the hint may be all that there is, so no durability setting lets this leave earlier.
        taken = Kept(message.id, message.member, True)
        self._group_commit.reply(outbox, taken, pile.key(row), surely=True)

    def _has_room(self, pile: Pile, hint: Hint, kept: Hint | None, row: bytes) -> bool:
        more = self._more(pile, hint, kept, row)
        if hint.deferred:
            return self.deferred_bytes + more <= self.deferred_bytes_max
        return admits(hint, pile.used(hint), more, self._bytes_max)

    @staticmethod
    def _more(pile: Pile, hint: Hint, kept: Hint | None, row: bytes) -> int:
        """How many bytes more its sort takes with it in the place of the one that is kept."""
        same_sort = kept is not None and _sort(kept) == _sort(hint)
        return pile.size(hint, row) - (pile.size(kept, row) if kept is not None and same_sort else 0)

    def _put(self, pile: Pile, row: bytes, kept: Hint | None, hint: Hint) -> None:
        """Keep this hint in the place of the one that is kept, if any."""
        if kept is not None:
            # Before the new rows, which may have the same keys: what is staged last stands.
            self._remove(pile, kept, row)
        pile.add(hint, row, 1)
        self._group_commit.stage(pile.key(row), encode_hint(hint))
        self._group_commit.stage(pile.age_key(hint, row), b"")

    # --- deferred writes ---------------------------------------------------------------------

    def defer(self, row: bytes, record: Record, replicas: Iterable[int]) -> None:
        """Keep it for all replicas of its row, in one batch, of a write that none of them was sent;
        Overloaded, and nothing is kept, where there is no room for all of them; InvalidRequest where the
        bucket was dropped meanwhile."""
        if row_bucket(row) not in self._rules:
            raise InvalidRequest(f"{DROPPED} before the write was done; nothing was done")
        if self.leaving():
            raise Overloaded(_LEAVING)
        rule, stores = self._rules[row_bucket(row)], self._taken_by(row, record.head, [])
        offered = Hint.of(record, not stores, stores, deferred=True)
        changes, more = [], 0
        for pile in map(self.piles.__getitem__, replicas):
            kept = self.kept(pile, row)
            hint = merge_hints(rule, kept, offered)
            # A late one that wins would keep its place, and what it stands for would wait with it.
            if hint.late or not (hint.deferred or self._has_room(pile, hint, kept, row)):
                raise Overloaded(_NO_PLACE)
            more += self._more(pile, hint, kept, row) if hint.deferred else 0
            changes.append((pile, kept, hint))
        if self.deferred_bytes + more > self.deferred_bytes_max:
            raise Overloaded(
                f"overloaded: {self.deferred_bytes} bytes of deferred writes wait to be delivered, of "
                f"{self.deferred_bytes_max} (deferred_bytes_max); nothing was done. Try again later"
            )
        for pile, kept, hint in changes:
            self._put(pile, row, kept, hint)
            self._metrics.count("hints_created", kept is None)

    def taken(self, pile: Pile, row: bytes, hint: Hint) -> None:
        """The member has taken what was deferred. So what is kept of it for others is a copy from now on, be
        it that it came too late as a first delivery."""
        number = self._peers.number_of[pile.index]
        stores = self._taken_by(row, hint.record.head, [number])
        rule, offered = self._rules.get(row_bucket(row)), Hint.of(hint.record, False, stores)
        for other in self._each() if stores and rule else ():
            kept = self.kept(other, row) if other is not pile else None
            if kept is None or kept.record != hint.record or not (kept.only_copy or kept.late):
                continue
            assert rule is not None
            self._put(other, row, kept, merge_hints(rule, kept, offered)._replace(late=False))

    def lasts(self, pile: Pile, row: bytes, hint: Hint) -> bool:
        """Whether others have it, or are kept it for; or its member has it however a change of seats ends."""
        number = self._peers.number_of[pile.index]
        taken = not hint.only_copy or self._taken_by(row, hint.record.head, [number])
        return bool(taken) or len(self.of_row(row)) > 1

    @property
    def deferred_count(self) -> int:
        """How many hints are of deferred writes."""
        return sum(pile.deferred_count for pile in self.piles)

    @property
    def deferred_bytes(self) -> int:
        """What the hints of deferred writes take."""
        return sum(pile.deferred_bytes for pile in self.piles)

    def deliverable(self, row: bytes, record: Record) -> bool:
        """Whether members may take this record however old it is: this store has it, or keeps it for one that
        has not refused it."""
        return bool(self._taken_by(row, record.head, [])) or any(
            hint.record == record and not hint.late for _, hint in self.of_row(row)
        )

    def deferred_before(self, row: bytes, proposal: bytes) -> Record | None:
        """What is kept of a write that was deferred here, by what its client has proposed."""
        records = (hint.record for _, hint in self.of_row(row) if hint.deferred)
        return next((record for record in records if record.proposal == proposal), None)

    # --- what goes, and what changes ---------------------------------------------------------

    def settle(self, pile: Pile, row: bytes, hint: Hint, outcome: str) -> None:
        """The member has it, or an operator has had it decided: it goes, unless another record took its place
        meanwhile. `outcome`: what it counts as."""
        kept = self.kept(pile, row)
        if kept is not None and kept.record == hint.record:
            self._remove(pile, kept, row)
            self._metrics.count(outcome)

    def forget_dropped(self, pile: Pile, row: bytes) -> bool:
        """Whether the bucket of a row was dropped: then nobody will have the hint, and nothing is owed for
        it."""
        if not self._is_gone(row_bucket(row)):
            return False
        kept = self.kept(pile, row)
        if kept is not None:
            self._remove(pile, kept, row)
            self._metrics.count("hints_dropped")
        return True

    def hand_on(self, pile: Pile, row: bytes, hint: Hint, members: Iterable[int]) -> None:
        """The pile's member does not hold the row any more: what is kept of it is kept for these, or owed."""
        self._remove(pile, hint, row)
        self._metrics.count("hints_moved")
        rule = self._rules.get(row_bucket(row))
        for other in map(self.piles.__getitem__, members) if rule is not None else ():
            assert rule is not None
            kept = self.kept(other, row)
            merged = merge_hints(rule, kept, hint)
            if merged == kept:
                continue
            # An only copy is kept whatever room there is: it stood here before.
            if hint.only_copy or hint.late or self._has_room(other, merged, kept, row):
                self._put(other, row, kept, merged)
            else:
                self._debts.owe(other.index, row, hint)

    def damaged(self, pile: Pile, row: bytes, hint: Hint, now: Instant) -> None:
        """Its digest does not fit: it is not delivered, and what it stood for is owed, by whoever has it."""
        self._remove(pile, hint, row)
        self._debts.owe(pile.index, row, hint)
        if hint.only_copy or hint.late:
            # Another member's hint of the same write is as good; of these the last one to be found damaged
            # is the loss.
            others = [kept for _, kept in self.of_row(row)]
            if not any(kept.record.version == hint.record.version for kept in others):
                self._losses.note({row_partition(row): 0}, now)
        self._metrics.count("hints_damaged")

    def too_late(self, pile: Pile, row: bytes, hint: Hint) -> None:
        """The member takes it no more: keep it, for an operator to see, but deliver it no more."""
        if self._group_commit.get(pile.key(row)) == encode_hint(hint):
            self._put(pile, row, hint, hint._replace(late=True))
            self._metrics.count("hints_late")

    def kept(self, pile: Pile, row: bytes) -> Hint | None:
        """The hint of this row for the pile's member."""
        stored = self._group_commit.get(pile.key(row))
        return None if stored is None else decode_hint(stored)

    def only_copies(self, *, late: bool = False) -> list[int]:
        """Partitions of which only copies are kept, and their least stamps, in turn. `late`: of those that
        are not taken any more instead."""
        named: dict[int, int] = {}
        for pile in self.piles:
            for partition, (_, least) in (pile.late_since if late else pile.only_since).items():
                named[partition] = min(least, named.get(partition, least))
        return [number for each in sorted(named.items()) for number in each]

    def alone(self) -> list[int]:
        """`only_copies`, and those partitions of which there are late ones alone: at the greatest stamp, for
        these hold back nothing; but while there are any this member does not leave."""
        only, late = self.only_copies(), self.only_copies(late=True)
        named = set(only[::2])
        return only + [number for each in late[::2] if each not in named for number in (each, STAMP_MAX)]

    def _remove(self, pile: Pile, hint: Hint, row: bytes) -> None:
        pile.add(hint, row, -1)
        self._group_commit.stage(pile.key(row), None)
        self._group_commit.stage(pile.age_key(hint, row), None)

    # --- giving up ---------------------------------------------------------------------------

    def expire(self, now: Instant) -> None:
        """Give up what is too old, a bounded number at once; only copies, which are kept, are passed by."""
        before = max(0, now.wall_ms - self._age_ms_max) << COUNTER_BITS
        for at, pile in enumerate(self.piles):
            if not pile.count:
                continue
            _, end = keyspace.ages_before(pile.name, before)
            keys = list(islice(self._group_commit.scan(self._expire_at[at], end), EXPIRED_AT_ONCE))
            # Only copies are kept, and stay first in this order: the next scan begins behind them.
            self._expire_at[at] = keyspace.after(keys[-1][0]) if len(keys) == EXPIRED_AT_ONCE else pile.ages
            for key, _ in keys:
                self._give_up(pile, key, now)

    def _give_up(self, pile: Pile, age_key: bytes, now: Instant) -> None:
        """Give up the hint with this key in the order of age, unless it is to be kept; in one batch with the
        debt, so that a crash leaves the one or the other."""
        row = pile.row_of(age_key)
        hint = self.kept(pile, row)
        # The scan lacks what this step has staged; the hint may have changed since.
        if hint is None or pile.age_key(hint, row) != age_key:
            return
        if given_up(hint, now.wall_ms, self._age_ms_max):
            self._remove(pile, hint, row)
            self._debts.owe(pile.index, row, hint)
            self._metrics.count("hints_expired")

    def by_age(self, pile: Pile, start: bytes, most: int) -> Iterator[tuple[bytes, Hint]]:
        """Rows and hints, the oldest first, from the key `start` in the order of age, or of late ones."""
        _, end = keyspace.ages(pile.name, late=not start.startswith(pile.ages))
        for key, _ in list(islice(self._group_commit.scan(start, end), most)):
            row = pile.row_of(key)
            hint = self.kept(pile, row)
            if hint is not None and pile.age_key(hint, row) == key:
                yield row, hint

    # --- looking -----------------------------------------------------------------------------

    def partitions(self, pile: Pile, start: bytes, most: int) -> list[int]:
        """Those of which a pile has hints, as they are stored, from this row on, at most so many."""
        found, (_, end), begin = list[int](), keyspace.hints_for(pile.name), keyspace.hint(pile.name, start)
        while len(found) < most:
            key = next((key for key, _ in self._group_commit.scan(begin, end)), None)
            if key is None:
                break
            found.append(row_partition(keyspace.hinted_row(pile.name, key)))
            begin = keyspace.hints_of(pile.name, found[-1])[1]
        return found

    def rows(self, pile: Pile, partition: int, most: int) -> list[bytes]:
        """The first of them of a partition, at most so many, as they are stored."""
        stored = islice(self._group_commit.scan(*keyspace.hints_of(pile.name, partition)), most)
        return [keyspace.hinted_row(pile.name, key) for key, _ in stored]

    def count(self, member: int) -> int:
        """Hints kept for a member."""
        return self.piles[member].count

    def summary(self) -> list[PileSummary]:
        """What is kept for each member for which there is a hint or a debt."""
        owed = self._debts.of
        return [
            PileSummary(
                pile.index, pile.count, pile.bytes, self._oldest_ms(pile), pile.only_count, pile.late_count,
                {partition: stamp >> COUNTER_BITS for partition, stamp in sorted(owed[pile.index].items())},
                pile.deferred_count,
            )
            for pile in self.piles
            if pile.count or owed[pile.index]
        ]  # fmt: skip

    def _oldest_ms(self, pile: Pile) -> int | None:
        return next((hint.since >> COUNTER_BITS for _, hint in self.by_age(pile, pile.ages, 1)), None)

    def of_row(self, row: bytes) -> list[tuple[int, Hint]]:
        """Whom a hint for this row is kept for, and which."""
        found = ((pile.index, self._group_commit.get(pile.key(row))) for pile in self._each())
        return [(member, decode_hint(stored)) for member, stored in found if stored is not None]
