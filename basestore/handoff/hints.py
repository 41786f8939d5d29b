"""Hints: writes kept for members that missed them, and the debt that is left where none is kept.

    hint   member, row            one for each row: the rule's winner
    age    member, stamp, row     the same hints by age; those that come too late have an order of their own
    debt   member, partition      since which stamp the member may lack writes of the partition

A hint counts, and is reported, only once it is durable. One that there is no room for, or that has
become too old, leaves a debt in the same batch: nothing is dropped in silence. Only copies (writes
at ANY that no replica has) have a share of their own, and do not age.
"""

from collections.abc import Callable, Iterator, Mapping
from itertools import islice

from basestore.cluster.outbox import Outbox
from basestore.cluster.peers import Peers
from basestore.cluster.placement import row_bucket, row_partition
from basestore.config import NodeConfig
from basestore.handoff.pile import Pile, PileSummary, decode_hint, encode_hint
from basestore.instant import Instant
from basestore.metrics import Metrics
from basestore.protocol.replication import Keep, Kept
from basestore.replica.group_commit import GroupCommit
from basestore.storage import keyspace
from basestore.storage.keyspace import STAMP_BYTES
from repair.rule import Rule
from repair.version import COUNTER_BITS, Record
from repair.write_repair import Hint, admits, given_up, merge_hints

EXPIRED_AT_ONCE = 256


class Hints:
    """What this node keeps for others."""

    def __init__(
        self,
        group_commit: GroupCommit,
        rules: Mapping[bytes, Rule],
        peers: Peers,
        metrics: Metrics,
        config: NodeConfig,
        taken_by: Callable[[bytes, bytes, list[int]], bytes],
    ) -> None:
        """`taken_by(row, head, members)`: the stores that hold this record, so far as this node knows: those
        of the members named, and its own."""
        self._taken_by = taken_by
        self._group_commit = group_commit
        self._rules = rules
        self._metrics = metrics
        self._bytes_max = config.hint_bytes_max
        self._age_ms_max = config.hint_age_s_max * 1000
        self.piles = [Pile(peer.index, peer.name) for peer in peers.all]
        self._expire_at = [pile.ages for pile in self.piles]
        self._marked: dict[tuple[int, int], int] = {}  # by member and partition: the latest write owed
        for pile in self.piles:
            for key, value in self._group_commit.engine.scan(*keyspace.hints_for(pile.name)):
                pile.add(decode_hint(value), keyspace.hinted_row(pile.name, key), 1)
            self._load_debt(pile)

    # --- keeping -----------------------------------------------------------------------------

    def keep(self, outbox: Outbox, message: Keep) -> None:
        """Store a hint, and say when it is durable; or that it cannot be kept, once the debt is: there is no
        room, or it loses to a late one, which will not be delivered."""
        pile, row = self.piles[message.member], message.row
        stored = self._group_commit.get(pile.key(row))
        kept = None if stored is None else decode_hint(stored)
        record = Record(message.record)
        stores = self._taken_by(row, record.head, message.takers)
        offered = Hint.of(record, message.only_copy and not stores, stores)
        hint = merge_hints(self._rules[row_bucket(row)], kept, offered)
        loses = kept is not None and kept.late and kept.record == hint.record != record
        if loses or hint != kept:
            if loses or self._group_commit.full or not self._has_room(pile, hint, kept, row):
                self._metrics.count("hints_refused")
                self._owe(pile, row, offered)
                refusal = Kept(message.id, message.member, False)
                self._group_commit.reply(outbox, refusal, self._debt_key(pile, row), surely=True)
                return
            if kept is not None:
                self._remove(pile, kept, row)
            pile.add(hint, row, 1)
            self._group_commit.stage(pile.key(row), encode_hint(hint))
            self._group_commit.stage(pile.age_key(hint, row), b"")
            self._metrics.count("hints_created", kept is None)
        taken = Kept(message.id, message.member, True)
        self._group_commit.reply(outbox, taken, pile.key(row), surely=True)

    def _has_room(self, pile: Pile, hint: Hint, kept: Hint | None, row: bytes) -> bool:
        same_sort = kept is not None and kept.only_copy == hint.only_copy
        more = pile.size(hint, row) - (pile.size(kept, row) if kept is not None and same_sort else 0)
        used = pile.only_bytes if hint.only_copy else pile.bytes - pile.only_bytes
        return admits(hint, used, more, self._bytes_max)

    def settle(self, pile: Pile, row: bytes, hint: Hint) -> None:
        """The member has it: keep it no longer, unless another took its place meanwhile."""
        if self._group_commit.get(pile.key(row)) == encode_hint(hint):
            self._remove(pile, hint, row)
            self._metrics.count("hints_delivered")

    def too_late(self, pile: Pile, row: bytes, hint: Hint) -> None:
        """The member takes it no more: keep it, for an operator to see, but deliver it no more."""
        if self._group_commit.get(pile.key(row)) == encode_hint(hint):
            self._remove(pile, hint, row)
            late = hint._replace(late=True)
            pile.add(late, row, 1)
            self._group_commit.stage(pile.key(row), encode_hint(late))
            self._group_commit.stage(pile.age_key(late, row), b"")
            self._metrics.count("hints_late")

    def kept(self, pile: Pile, row: bytes) -> Hint | None:
        """The hint of this row for the pile's member."""
        stored = self._group_commit.get(pile.key(row))
        return None if stored is None else decode_hint(stored)

    def decide(self, pile: Pile, row: bytes, hint: Hint, outcome: str) -> None:
        """An operator has had a late hint decided: it goes, unless another took its place meanwhile.
        `outcome`: what it counts as."""
        if self._group_commit.get(pile.key(row)) == encode_hint(hint):
            self._remove(pile, hint, row)
            self._metrics.count(outcome)

    def only_copies(self, *, late: bool = False) -> list[int]:
        """Partitions of which only copies are kept, and their least stamps, in turn. `late`: of those that
        are not taken any more instead."""
        named: dict[int, int] = {}
        for pile in self.piles:
            for partition, (_, least) in (pile.late_since if late else pile.only_since).items():
                named[partition] = min(least, named.get(partition, least))
        return [number for each in sorted(named.items()) for number in each]

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
            keys = list(islice(self._group_commit.engine.scan(self._expire_at[at], end), EXPIRED_AT_ONCE))
            self._expire_at[at] = keyspace.after(keys[-1][0]) if len(keys) == EXPIRED_AT_ONCE else pile.ages
            for key, _ in keys:
                self._give_up(pile, key, now)

    def _give_up(self, pile: Pile, age_key: bytes, now: Instant) -> None:
        """Give up the hint with this key in the order of age, unless it is to be kept."""
        row = pile.row_of(age_key)
        stored = self._group_commit.get(pile.key(row))
        hint = None if stored is None else decode_hint(stored)
        if hint is None or pile.age_key(hint, row) != age_key:
            return
        if given_up(hint, now.wall_ms, self._age_ms_max):
            self._remove(pile, hint, row)
            self._owe(pile, row, hint)
            self._metrics.count("hints_expired")

    def by_age(self, pile: Pile, start: bytes, most: int) -> Iterator[tuple[bytes, Hint]]:
        """Rows and hints, the oldest first, from the key `start` in the order of age, or of late ones."""
        keys = []
        _, end = keyspace.ages(pile.name, late=not start.startswith(pile.ages))
        for key, _ in self._group_commit.engine.scan(start, end):
            keys.append(key)
            if len(keys) >= most:
                break
        for key in keys:
            row = pile.row_of(key)
            stored = self._group_commit.get(pile.key(row))
            hint = None if stored is None else decode_hint(stored)
            if hint is not None and pile.age_key(hint, row) == key:
                yield row, hint

    # --- debt that has ended -----------------------------------------------------------------

    def debts(self) -> set[int]:
        """Partitions of which any member is owed something."""
        return {partition for pile in self.piles for partition in pile.debt}

    def end_debt(self, partition: int, stable: int) -> None:
        """Up to this stamp all replicas of the partition hold the same: what was owed up to then is not
        lacking any more."""
        for pile in self.piles:
            if (
                pile.debt.get(partition, stable + 1) <= stable
                and self._marked.get((pile.index, partition), stable + 1) <= stable
            ):
                del pile.debt[partition]
                self._group_commit.stage(keyspace.debt(pile.name, keyspace.partition_prefix(partition)), None)
                self._metrics.count("debts_ended")

    def mark_debts(self, stamp: int) -> None:
        """Debts of which this opening does not know when they were last added to: now, at the latest."""
        for pile in self.piles:
            for partition in pile.debt:
                self._marked.setdefault((pile.index, partition), stamp)

    # --- debt --------------------------------------------------------------------------------

    def _debt_key(self, pile: Pile, row: bytes) -> bytes:
        return keyspace.debt(pile.name, row[: keyspace.PARTITION_BYTES])

    def _owe(self, pile: Pile, row: bytes, hint: Hint) -> None:
        """Mark that the member may lack what the hint stands for, and later writes of the partition."""
        partition, stamp = row_partition(row), hint.since
        at = (pile.index, partition)
        self._marked[at] = max(self._marked.get(at, 0), hint.record.stamp)
        if stamp < pile.debt.get(partition, stamp + 1):
            pile.debt[partition] = stamp
            self._group_commit.stage(self._debt_key(pile, row), stamp.to_bytes(STAMP_BYTES))
            self._metrics.count("debt_marks")

    def _load_debt(self, pile: Pile) -> None:
        pile.debt = {
            keyspace.indebted_partition(key): int.from_bytes(stamp)
            for key, stamp in self._group_commit.engine.scan(*keyspace.debts_of(pile.name))
        }

    # --- looking -----------------------------------------------------------------------------

    def count(self, member: int) -> int:
        """Hints kept for a member."""
        return self.piles[member].count

    def debt(self, member: int) -> int:
        """Partitions of which a member may lack writes that no hint is kept of."""
        return len(self.piles[member].debt)

    def owed(self) -> dict[int, set[int]]:
        """By member: the partitions of which it may lack writes."""
        return {pile.index: set(pile.debt) for pile in self.piles if pile.debt}

    def summary(self) -> list[PileSummary]:
        """What is kept for each member for which there is a hint or a debt."""
        return [
            PileSummary(
                pile.index, pile.count, pile.bytes, self._oldest_ms(pile), pile.only_count, pile.late_count,
                {partition: stamp >> COUNTER_BITS for partition, stamp in sorted(pile.debt.items())},
            )
            for pile in self.piles
            if pile.count or pile.debt
        ]  # fmt: skip

    def _oldest_ms(self, pile: Pile) -> int | None:
        for _, hint in self.by_age(pile, pile.ages, 1):
            return hint.since >> COUNTER_BITS
        return None

    def of_row(self, row: bytes) -> list[tuple[int, Hint]]:
        """Whom a hint for this row is kept for, and which."""
        found = ((pile.index, self._group_commit.get(pile.key(row))) for pile in self.piles)
        return [(member, decode_hint(stored)) for member, stored in found if stored is not None]
