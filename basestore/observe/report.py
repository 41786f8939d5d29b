"""Report: what one node tells of itself when it is asked, put together from its rooms.

    facts     names and values for `basestore status`, from what the rooms hold now
    counters  the same, and what was counted since the store was opened
    gauges    numbers for the metrics page

Lags are told as of the last tick: whoever asks for them brings no clock. Changes nothing.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

from basestore.anti_entropy.certificates import Certificates
from basestore.anti_entropy.exchanges import Exchanges
from basestore.anti_entropy.recovery import Recovery
from basestore.cluster.feature_level import FeatureLevel
from basestore.cluster.operations import Operations
from basestore.cluster.peers import Peers
from basestore.config import NodeConfig
from basestore.coordinator.stamper import Stamper
from basestore.feeds.feeds import Feeds
from basestore.handoff.debts import Debts
from basestore.handoff.hints import Hints
from basestore.instant import Instant
from basestore.intake.clipping import Clipping
from basestore.intake.intake import Intake
from basestore.membership.membership import Membership
from basestore.metrics import Metrics
from basestore.observe import status
from basestore.observe.gauges import Gauges, Lag, PeerGauges
from basestore.observe.group_watch import GroupWatch
from basestore.observe.record_size import RecordSize
from basestore.observe.register_state import Lying, RegisterState, UnderWay, batch_facts
from basestore.registers.acceptors import Acceptors
from basestore.replica.disk_space import DiskSpace
from basestore.replica.group_commit import GroupCommit
from basestore.replica.identity import StoreIdentity
from basestore.replica.losses import Losses
from basestore.replica.replica import Replica


@dataclass(slots=True, eq=False)
class Report:
    """Of one node. `labels` are shown in the facts as they are."""

    config: NodeConfig
    labels: Mapping[str, str]
    identity: StoreIdentity
    peers: Peers
    replica: Replica
    group_commit: GroupCommit
    operations: Operations
    exchanges: Exchanges
    certificates: Certificates
    recovery: Recovery
    hints: Hints
    debts: Debts
    metrics: Metrics
    losses: Losses
    stamper: Stamper
    disk_space: DiskSpace
    feature_level: FeatureLevel
    clipping: Clipping
    intake: Intake
    opened: Instant
    ticked: Instant
    membership: Membership
    acceptors: Acceptors
    transactions: UnderWay
    feeds: Feeds
    batches: Lying
    group: GroupWatch = field(init=False)
    record_size: RecordSize = field(init=False)

    def __post_init__(self) -> None:
        self.group = GroupWatch(self.membership, self.peers, self.opened)
        self.record_size = RecordSize(self.group_commit, self.replica.summaries)

    def gauges(self) -> Gauges:
        """How the node stands now; the stable stamps as when it last ticked."""
        return Gauges.of(
            self.identity, self.replica, self.group_commit, self.operations, self.exchanges, self._lag(),
            PeerGauges.of(self.peers, self.hints), self.disk_space,
            len({row.partition for row in self.losses.all_open}), self.hints, self.intake.figures(),
            self.group.state(self.ticked), self._registers(), self.feeds.state(self.ticked),
        )  # fmt: skip

    def facts(self) -> dict[str, str]:
        """What `basestore status` shows."""
        known = status.facts(
            self.config, self.identity, self.peers, self.replica, self.certificates, self.recovery,
            self.hints, self.debts, self.losses, self.group_commit.trouble, self.stamper.trouble(self.ticked),
        )  # fmt: skip
        known["deferred bytes max"] = str(self.hints.deferred_bytes_max)
        known["record bytes"] = str(self.record_size.mean(self.ticked) or "")
        lag, disk = self._lag().facts(), self.disk_space.facts()
        level = {"feature level": str(self.feature_level.level or "")}
        hot, door = self.clipping.facts(self.ticked), self.intake.figures().facts()
        group = self.group.state(self.ticked).facts()
        registers, feeds = self._registers().facts(), self.feeds.state(self.ticked).facts()
        known |= batch_facts(self.batches, self.ticked)
        return known | door | lag | disk | level | hot | registers | feeds | group | dict(self.labels)

    def counters(self, now: Instant) -> dict[str, str]:
        """The facts, and what was counted since this opening of the store, up to now."""
        opening = {"opening": self.group_commit.generation.hex(), "seconds": str(now.monotonic)}
        return self.facts() | opening | self.gauges().facts() | self.metrics.facts()

    def _registers(self) -> RegisterState:
        seating, store = self.certificates.seating, self.acceptors.accepts()
        return RegisterState.of(self.acceptors, self.transactions, seating, store, self.opened, self.ticked)

    def _lag(self) -> Lag:
        lag_ms = self.config.cluster.closed_lag_ms
        summaries = self.replica.summaries
        return Lag.of(summaries, self.certificates, self.peers, lag_ms, self.opened.monotonic, self.ticked)
