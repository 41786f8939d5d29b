"""Gauges: how a node stands at this moment, for whoever watches it. Pure: read off a `Node`."""

from typing import TYPE_CHECKING, NamedTuple

from repair.version import COUNTER_BITS

if TYPE_CHECKING:
    from basestore.node import Node


STALLED_MS = 60_000  # behind what the closed stamps' lag explains, and that each partition has its turn
TURN_MS = 150


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


class Gauges(NamedTuple):
    """One node. `durable_lag`: commits that are not durable yet, `unsynced_bytes` what is in them;
    `operation_bytes`: what the operations under way hold; `exchanges` of anti-entropy that are open.
    `stable_lag_ms`: how far the stable stamp that is furthest behind is behind the clock, None while none
    is known; `unproven`: partitions that have none; `stalled_by`: the members because of which, if it is
    further behind than it should be."""

    state: str
    whole: bool
    records: int
    damaged: int
    operations: int
    operation_bytes: int
    durable_lag: int
    unsynced_bytes: int
    exchanges: int
    stable_lag_ms: int | None
    unproven: int
    stalled_by: tuple[str, ...]
    peers: tuple[PeerGauges, ...]

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


class Lag(NamedTuple):
    """As in `Gauges`."""

    stable_lag_ms: int | None
    unproven: int
    stalled_by: tuple[str, ...]

    def facts(self) -> dict[str, str]:
        """For `basestore status`, as names and values."""
        lag_ms = "" if self.stable_lag_ms is None else str(self.stable_lag_ms)
        stalled_by = " ".join(self.stalled_by)
        return {"stable lag ms": lag_ms, "unproven": str(self.unproven), "stalled by": stalled_by}


def lag(node: "Node") -> Lag:
    """How far the stable stamps were behind when the node last ticked."""
    now = node.ticked
    stables = {partition: summary.shown for partition, summary in node.summaries.of.items()}
    worst = min(stables, key=stables.__getitem__, default=None)
    if worst is None:
        return Lag(None, 0, ())
    proven = [stable for stable in stables.values() if stable]
    lag_ms = max(0, now.wall_ms - (min(proven) >> COUNTER_BITS)) if proven else None
    allowed_ms = node.config.cluster.closed_lag_ms + STALLED_MS + TURN_MS * len(stables)
    due_ms = now.wall_ms - allowed_ms
    stalled: tuple[str, ...] = ()
    if stables[worst] >> COUNTER_BITS < due_ms and (now.monotonic - node.opened_s) * 1e3 > allowed_ms:
        stalled = tuple(
            node.peers.all[at].name for at in node.certificates.stalled_by(worst, due_ms << COUNTER_BITS)
        )
    return Lag(lag_ms, len(stables) - len(proven), stalled)


def gauges(node: "Node") -> Gauges:
    """How the node stands now."""
    kept = {pile.member: pile for pile in node.delivery.summary()}
    peers = []
    for peer in node.peers.others:
        pile = kept.get(peer.index)
        peers.append(
            PeerGauges(
                peer.name, node.peers.alive[peer.index], peer.linked, peer.outbox.bytes, peer.offset_ms,
                pile.count if pile else 0, pile.bytes if pile else 0, pile.oldest_ms if pile else None,
                len(pile.debt) if pile else 0,
            )
        )  # fmt: skip
    group_commit, operations = node.group_commit, node.operations
    return Gauges(
        node.state, node.identity.whole, node.summaries.records, len(node.replica.damaged), operations.count,
        operations.bytes, group_commit.sequence - group_commit.durable_sequence, group_commit.unsynced_bytes,
        node.exchanges.count, *lag(node), tuple(peers),
    )  # fmt: skip
