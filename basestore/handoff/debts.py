"""Debts: what members may lack that no hint here is kept of, and when that is proven to have ended.

    member, partition      since which stamp the member may lack writes of the partition

A debt is left where a hint was refused or given up (`hints.py`). Anti-entropy compares what is owed first.
A debt ends once the partition's stable stamp has passed the *last* write that is owed, for then all
replicas hold it, or a better one. When debts were last added to is not stored: of those that an opening
finds it is taken to be that moment.

    a hint of stamp 50 is given up          owed since 50, the last at 50
    one of stamp 70 is refused              owed since 50, the last at 70
    the stable stamp is 60                  the write of stamp 70 may still be lacking
    the stable stamp is 72                  the debt has ended

Of partitions that this node holds its own summary tells how far they are stable, while its store is whole;
of others a whole replica is asked, with a read of a row that cannot be. What is owed to a member that has
left ends with that. Owns the debts; compares nothing, and delivers nothing.
"""

from functools import partial

from basestore.cluster.operations import Once, Operations
from basestore.cluster.peer import Peer
from basestore.cluster.peers import Peers
from basestore.cluster.placement import Placement
from basestore.consistency import Level
from basestore.instant import Instant
from basestore.metrics import Metrics
from basestore.protocol.replication import Held, Read
from basestore.repair.clock import HybridClock
from basestore.repair.version import COUNTER_BITS
from basestore.repair.write_repair import Hint
from basestore.replica.group_commit import GroupCommit
from basestore.replica.summaries import Summaries
from basestore.rows import row_partition
from basestore.storage import keyspace
from basestore.storage.keyspace import STAMP_BYTES

ROUND_S = 5.0
ASKED_AT_ONCE = 64
PATIENCE_S = 4.0


class Debts:
    """What is owed. `of`: by member, by partition, a stamp."""

    def __init__(self, group_commit: GroupCommit, peers: Peers, metrics: Metrics) -> None:
        self._group_commit = group_commit
        self._metrics = metrics
        self._names = [keyspace.member_prefix(peer.name) for peer in peers.all]
        self._last: dict[tuple[int, int], int] = {}  # by member and partition: the last write owed
        # What is stored by a name that two have had is the later one's.
        self.of = [self._load(peer.name) if peers.named[peer.name] is peer else {} for peer in peers.all]
        for former in (peer for peer in peers.all if peer.gone):
            self._forgive_all(former)
        peers.watch(self._come, lambda peer, now: self._forgive_all(peer))

    def _load(self, name: str) -> dict[int, int]:
        return {
            keyspace.indebted_partition(key): int.from_bytes(stamp)
            for key, stamp in self._group_commit.scan(*keyspace.debts_of(keyspace.member_prefix(name)))
        }

    def _come(self, peer: Peer) -> None:
        """It is new, so nothing is owed to it."""
        self._names.append(keyspace.member_prefix(peer.name))
        self.of.append({})

    def _forgive_all(self, peer: Peer) -> None:
        """It has left."""
        for partition in list(self.of[peer.index]):
            self.forgive(peer.index, partition)

    def owe(self, member: int, row: bytes, hint: Hint) -> bytes:
        """The member may lack what the hint stands for, and later writes of the partition. Returns the key
        of the debt."""
        partition, stamp, owed = row_partition(row), hint.since, self.of[member]
        at = (member, partition)
        self._last[at] = max(self._last.get(at, 0), hint.record.stamp)
        if stamp < owed.get(partition, stamp + 1):
            owed[partition] = stamp
            self._group_commit.stage(self._key(member, partition), stamp.to_bytes(STAMP_BYTES))
            self._metrics.count("debt_marks")
        return self._key(member, partition)

    def end(self, partition: int, stable: int) -> None:
        """Up to this stamp all replicas of the partition hold the same: what was owed up to then is not
        lacking any more."""
        for member, owed in enumerate(self.of):
            # Where the last write is not known the debt stays: it never ends on what nobody knows.
            if (
                owed.get(partition, stable + 1) <= stable
                and self._last.get((member, partition), stable + 1) <= stable
            ):
                del owed[partition]
                self._group_commit.stage(self._key(member, partition), None)
                self._metrics.count("debts_ended")

    def forgive(self, member: int, partition: int) -> None:
        """It does not hold the partition any more."""
        if self.of[member].pop(partition, None) is not None:
            self._last.pop((member, partition), None)
            self._group_commit.stage(self._key(member, partition), None)
            self._metrics.count("debts_ended")

    def mark(self, stamp: int) -> None:
        """Debts of which this opening does not know when they were last added to: now, at the latest."""
        for member, owed in enumerate(self.of):
            for partition in owed:
                self._last.setdefault((member, partition), stamp)

    def _key(self, member: int, partition: int) -> bytes:
        return keyspace.debt(self._names[member], keyspace.partition_prefix(partition))

    @property
    def partitions(self) -> set[int]:
        """Those of which any member is owed something."""
        return {partition for owed in self.of for partition in owed}


class DebtCheck:
    """Ends the debts of one node."""

    def __init__(
        self,
        debts: Debts,
        summaries: Summaries,
        placement: Placement,
        peers: Peers,
        operations: Operations,
        clock: HybridClock,
        now: Instant,
    ) -> None:
        self._debts = debts
        self._summaries = summaries
        self._placement = placement
        self._peers = peers
        self._operations = operations
        self._due_s = now.monotonic + ROUND_S
        self._after = -1  # of partitions that others hold: where the next round begins
        # Nothing that was owed before can be newer, wherever this clock stands now: what was repeated for
        # others was ahead of the last stamp by the bound at most.
        newest_ms = max(clock.last >> COUNTER_BITS, now.wall_ms) + clock.drift_ms_max
        debts.mark((newest_ms + 1) << COUNTER_BITS)

    def tick(self, now: Instant) -> None:
        """Every few seconds: see which debts have ended."""
        if now.monotonic < self._due_s:
            return
        self._due_s = now.monotonic + ROUND_S
        elsewhere = []
        for partition in sorted(self._debts.partitions):
            summary = self._summaries.of.get(partition)
            if summary is None:
                elsewhere.append(partition)
            elif self._peers.alive[self._peers.me]:
                # `shown` is durable: a debt must not end by a stamp that a crash could take back.
                self._debts.end(partition, summary.shown)
        # On from where the last round ended, then from the start, none twice: each gets its turn.
        later = [partition for partition in elsewhere if partition > self._after]
        page = (later + elsewhere)[: min(ASKED_AT_ONCE, len(elsewhere))]
        for partition in page:
            self._ask(partition, now)
            self._after = partition

    def _ask(self, partition: int, now: Instant) -> None:
        """Ask the first replica that is whole, of those that stay."""
        lasting = self._placement.quorums[partition][Level.ONE].lasting
        replicas = [r for r in lasting if self._peers.alive[r]]
        if replicas:
            asking = Once(self._operations, 0, replicas[0], partial(self._told, partition))
            request = self._operations.issue(asking)
            nothing = keyspace.partition_prefix(partition) + b"\0"  # a row has a bucket and a key
            self._operations.alarm_at(request, now.monotonic + PATIENCE_S)
            self._peers.send(replicas[0], Read(request, nothing, 0, False, False, True))

    def _told(self, partition: int, answer: object, now: Instant) -> None:
        """A replica has said how far the partition is stable, or it has not: it is asked again."""
        if isinstance(answer, Held) and answer.stable:
            self._debts.end(partition, answer.stable)
