"""Gauges: how a node stands at this moment, for whoever watches it.

A gauge is a number that goes up and down (Prometheus's word); what only grows is counted in `metrics.py`.
Everything here is read off the rooms that it is about, and changes nothing.
"""

from typing import NamedTuple, Self

from basestore.anti_entropy.certificates import Certificates
from basestore.anti_entropy.exchanges import Exchanges
from basestore.cluster.operations import Operations
from basestore.cluster.peers import Peers
from basestore.feeds.feeds import FeedState
from basestore.handoff.hints import Hints
from basestore.instant import Instant
from basestore.intake.figures import Figures
from basestore.observe.group_watch import GroupState
from basestore.observe.register_state import RegisterState
from basestore.observe.status import state
from basestore.repair.version import COUNTER_BITS
from basestore.replica.disk_space import DiskSpace
from basestore.replica.group_commit import GroupCommit
from basestore.replica.identity import StoreIdentity
from basestore.replica.replica import Replica
from basestore.replica.summaries import Summaries

STALLED_MS = 60_000  # behind what the closed stamps' lag explains, and that each partition has its turn
TURN_MS = 150


class Lag(NamedTuple):
    """How far the stable stamps are behind.

    stable_lag_ms  how far the one that is furthest behind is behind the clock; None while none is known
    unproven       partitions that have none
    stalled_by     the members because of which, if it is further behind than it should be
    """

    stable_lag_ms: int | None
    unproven: int
    stalled_by: tuple[str, ...]

    def facts(self) -> dict[str, str]:
        """For `basestore status`, as names and values."""
        lag_ms = "" if self.stable_lag_ms is None else str(self.stable_lag_ms)
        stalled_by = " ".join(self.stalled_by)
        return {"stable lag ms": lag_ms, "unproven": str(self.unproven), "stalled by": stalled_by}

    @classmethod
    def of(
        cls,
        summaries: Summaries,
        certificates: Certificates,
        peers: Peers,
        closed_lag_ms: int,
        opened_s: float,
        now: Instant,
    ) -> Self:
        """Of all partitions. `closed_lag_ms`: how far closed stamps stay behind the clock; `opened_s`: when
        the store was opened, for then some time must pass before anything can be called stalled."""
        stables = {partition: summary.shown for partition, summary in summaries.of.items()}
        worst = min(stables, key=stables.__getitem__, default=None)
        if worst is None:
            return cls(None, 0, ())
        proven = [stable for stable in stables.values() if stable]
        time_ms = peers.clock.about_ms(now)
        lag_ms = max(0, time_ms - (min(proven) >> COUNTER_BITS)) if proven else None
        allowed_ms = closed_lag_ms + STALLED_MS + TURN_MS * len(stables)
        due_ms = time_ms - allowed_ms
        stalled: tuple[str, ...] = ()
        if stables[worst] >> COUNTER_BITS < due_ms and (now.monotonic - opened_s) * 1e3 > allowed_ms:
            stalled = tuple(
                peers.all[at].name for at in certificates.stalled_by(worst, due_ms << COUNTER_BITS)
            )
        return cls(lag_ms, len(stables) - len(proven), stalled)


class PeerGauges(NamedTuple):
    """Another member as seen from here, and what is kept for it.

    alive            whether it counts for levels; `linked`: whether a connection to it stands
    outbox_bytes     that wait to be sent to it
    clock_offset_ms  how far its clock is ahead of this node's; None while that is not known
    oldest_hint_ms   when the oldest hint was written, in ms since 1970; None if there is no hint
    debt             partitions of which it may lack writes that no hint here is kept of
    """

    name: str
    alive: bool
    linked: bool
    outbox_bytes: int
    clock_offset_ms: int | None
    hints: int
    hint_bytes: int
    oldest_hint_ms: int | None
    debt: int

    @classmethod
    def of(cls, peers: Peers, hints: Hints) -> tuple[Self, ...]:
        """Of every other member."""
        kept = {pile.member: pile for pile in hints.summary()}
        return tuple(
            cls(
                peer.name, peers.alive[peer.index], peer.linked, peer.outbox.bytes,
                peers.clock.offsets[peer.index],
                pile.count if pile else 0, pile.bytes if pile else 0, pile.oldest_ms if pile else None,
                len(pile.debt) if pile else 0,
            )
            for peer in peers.others
            for pile in (kept.get(peer.index),)
        )  # fmt: skip


class Gauges(NamedTuple):
    """One node.

    whole            whether its store counts
    damaged          records that are to be healed
    operation_bytes  what the operations under way hold
    durable_lag      commits that are not durable yet; `unsynced_bytes`: what is in them
    disk_behind      whether the disk does not keep up; `stuck_s`: since when no sync has ended, if too long
    exchanges        of anti-entropy that are open
    lossy            partitions of which writes may be lost, and nobody has accepted that
    deferred_hints   hints of deferred writes, which wait to be delivered; `deferred_bytes`: what they take,
                     of `deferred_bytes_max`
    intake           how what clients ask fares at the door
    group            how the metadata group stands
    registers        how the node stands as an acceptor of registers
    feeds            who watches here, and follows this store
    """

    state: str
    whole: bool
    records: int
    damaged: int
    operations: int
    operation_bytes: int
    durable_lag: int
    unsynced_bytes: int
    disk_behind: bool
    stuck_s: float
    exchanges: int
    lag: Lag
    peers: tuple[PeerGauges, ...]
    disk: DiskSpace
    lossy: int
    deferred_hints: int
    deferred_bytes: int
    deferred_bytes_max: int
    intake: Figures
    group: GroupState
    registers: RegisterState
    feeds: FeedState

    @classmethod
    def of(
        cls,
        identity: StoreIdentity,
        replica: Replica,
        group_commit: GroupCommit,
        operations: Operations,
        exchanges: Exchanges,
        lag: Lag,
        peers: tuple[PeerGauges, ...],
        disk: DiskSpace,
        lossy: int,
        hints: Hints,
        intake: Figures,
        group: GroupState,
        registers: RegisterState,
        feeds: FeedState,
    ) -> Self:
        """Read off these rooms; what are gauges already have their own."""
        return cls(
            state(identity), identity.counts, replica.summaries.records, len(replica.damaged),
            operations.count, operations.bytes, group_commit.sequence - group_commit.durable_sequence,
            group_commit.unsynced_bytes, group_commit.full, group_commit.stuck_s, exchanges.count, lag, peers,
            disk, lossy, hints.deferred_count, hints.deferred_bytes, hints.deferred_bytes_max,
            intake, group, registers, feeds,
        )  # fmt: skip

    def facts(self) -> dict[str, str]:
        """What `basestore status` does not say already, as names and values."""
        facts = {
            "operations": str(self.operations),
            "operation bytes": str(self.operation_bytes),
            "durable lag": str(self.durable_lag),
            "unsynced bytes": str(self.unsynced_bytes),
            "open exchanges": str(self.exchanges),
        }
        for peer in self.peers:
            facts[f"outbox bytes {peer.name}"] = str(peer.outbox_bytes)
        return facts
