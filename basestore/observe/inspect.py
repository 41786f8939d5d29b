"""Inspect: what a member says of itself and of a page of partitions when the cluster is surveyed.

Of stable stamps only what is durable is said (`Summary.shown`), or a crash could take back what somebody
has built on; all else is as it is at this moment. What it proves is worked out at the client's
(`results/convergence.py`).
"""

from collections.abc import Iterable
from dataclasses import dataclass

from basestore.anti_entropy.certificates import Certificates
from basestore.anti_entropy.healing import Healing
from basestore.anti_entropy.maintenance import Maintenance
from basestore.anti_entropy.scheduler import Scheduler
from basestore.cluster.outbox import Outbox, weight
from basestore.cluster.peers import Peers
from basestore.config import NodeConfig
from basestore.coordinator.stamper import Stamper
from basestore.handoff.hints import Hints
from basestore.instant import Instant
from basestore.metrics import Metrics
from basestore.observe.status import RETIRED, reason, state
from basestore.protocol.operator import (
    COUNTS,
    NEVER,
    PAGE_PARTITIONS,
    Inspect,
    Inspected,
    PairRow,
    PartitionRow,
)
from basestore.protocol.replication import Rejected
from basestore.repair.clock import HybridClock
from basestore.repair.version import COUNTER_BITS
from basestore.replica.group_commit import GroupCommit
from basestore.replica.identity import StoreIdentity
from basestore.replica.losses import Losses
from basestore.replica.replica import Replica
from basestore.rows import row_partition

ROOT_BYTES = 8
_EXCHANGES = ("exchanges_same", "exchanges_delta", "exchanges_full")


def page_of(message: Inspect) -> range:
    """The partitions that are asked for, whether this node holds them or not."""
    return range(message.first, message.first + min(message.most, PAGE_PARTITIONS))


@dataclass(frozen=True, slots=True)
class Inspector:
    """Reads off these rooms of a node."""

    config: NodeConfig
    identity: StoreIdentity
    peers: Peers
    clock: HybridClock
    stamper: Stamper
    replica: Replica
    certificates: Certificates
    maintenance: Maintenance
    hints: Hints
    metrics: Metrics
    losses: Losses
    group_commit: GroupCommit

    def held(self, message: Inspect) -> list[int]:
        """The partitions of the page that this node holds."""
        return [partition for partition in page_of(message) if partition in self.replica.summaries.of]

    def inspect(self, message: Inspect, now: Instant) -> Inspected:
        """What this node says."""
        partitions, page = self.held(message), page_of(message)
        counts = self.metrics.counts
        return Inspected(
            message.id, state(self.identity), reason(self.identity, self.peers, self.certificates),
            self.config.durability,
            self.stamper.trouble(now), self.peers.clock.about_ms(now), self._newest_stamp(now),
            self.config.cluster.closed_lag_ms,
            [sum(counts[name] for name in _EXCHANGES), *(counts[name] for name in COUNTS[1:])],
            [self._row(partition, now) for partition in partitions],
            [pair for partition in partitions for pair in self._pairs(partition, now)],
            _within(page, self.hints.only_copies()), _within(page, self.hints.only_copies(late=True)),
            sorted(self._damaged().intersection(partitions)),
            [loss for partition in page for loss in self.losses.known(partition)], self.identity.birth,
            self.identity.store,
        )  # fmt: skip

    def _row(self, partition: int, now: Instant) -> PartitionRow:
        summary = self.replica.summaries.of[partition]
        begun_s, ended_s = self.maintenance.last_scrub(partition) or (None, None)
        root = summary.root.to_bytes(16)[:ROOT_BYTES]
        ages = _age_ms(begun_s, now), _age_ms(ended_s, now)
        return PartitionRow(partition, summary.count, summary.shown, *ages, root)

    def _pairs(self, partition: int, now: Instant) -> Iterable[PairRow]:
        for other in self.certificates.others[partition]:
            certificate = self.certificates.certificate(partition, other)
            closed, made_ms = (certificate.my_closed, certificate.made_ms) if certificate else (0, 0)
            last = self.certificates.last_exchange(partition, other)
            age_ms = _age_ms(last.begun_s if last else None, now)
            yield PairRow(partition, self.peers.number_of[other], closed, made_ms, age_ms)

    def _newest_stamp(self, now: Instant) -> int:
        """No write that has ended has a greater stamp than this, for some member. Who is alone has seen
        all."""
        # A write that another node stamped by its own clock need not have been heard of here.
        last = self.clock.last
        if self.peers.clock.alone:
            return last if last > self.identity.birth else 0
        return max(last, self.peers.clock.about_ms(now) << COUNTER_BITS)

    def _damaged(self) -> set[int]:
        """Partitions with damaged records, or that may have some."""
        return {row_partition(row) for row in self.replica.damaged} | self.maintenance.suspects.keys()


def _age_ms(since_s: float | None, now: Instant) -> int:
    # Rounded up: what was begun before a call must never look as if it was begun after it.
    return NEVER if since_s is None else max(0, int((now.monotonic - since_s) * 1e3) + 1)


def _within(page: range, named: list[int]) -> list[int]:
    """Those of the page, also of partitions that this node does not hold."""
    pairs = zip(named[::2], named[1::2], strict=True)
    return [number for partition, stamp in pairs if partition in page for number in (partition, stamp)]


def answer_inspect(
    inspector: Inspector, scheduler: Scheduler, healing: Healing, member: int, outbox: Outbox,
    message: Inspect, now: Instant,
) -> None:  # fmt: skip
    """What a member is told that asks for it; and what else it has asked to be done."""
    if inspector.identity.retired:
        outbox.put(Rejected(message.id, RETIRED, False))
        return
    if message.within_ms >= 0:
        scheduler.hasten(inspector.held(message), message.within_ms, now, full=message.full)
    if message.accepted:
        healing.accept_loss(message.accepted)
    answer = inspector.inspect(message, now)
    # That a loss is accepted is said once that is durable.
    if message.accepted:
        inspector.group_commit.reply(outbox, answer, None, weight(answer))
    else:
        outbox.put(answer, weight(answer))
