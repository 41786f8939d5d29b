"""Gauges: how a node stands at this moment, for whoever watches it. Pure: read off a `Node`."""

from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from basestore.node import Node


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
    `operation_bytes`: what the operations under way hold."""

    state: str
    whole: bool
    records: int
    damaged: int
    operations: int
    operation_bytes: int
    durable_lag: int
    unsynced_bytes: int
    peers: tuple[PeerGauges, ...]

    def facts(self) -> dict[str, str]:
        """What `basestore status` does not say already, as names and values."""
        facts = {
            "operations": str(self.operations),
            "operation bytes": str(self.operation_bytes),
            "durable lag": str(self.durable_lag),
            "unsynced bytes": str(self.unsynced_bytes),
        }
        for peer in self.peers:
            facts[f"outbox bytes {peer.name}"] = str(peer.outbox_bytes)
        return facts


def gauges(node: "Node") -> Gauges:
    """How the node stands now."""
    kept = {pile.member: pile for pile in node.handoff.summary()}
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
    journal, operations = node.journal, node.operations
    return Gauges(
        node.state, node.standing.whole, node.ledgers.records, len(node.replica.damaged), operations.count,
        operations.bytes, journal.sequence - journal.durable_sequence, journal.unsynced_bytes, tuple(peers),
    )  # fmt: skip
