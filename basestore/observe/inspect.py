"""Inspecting: what a member says of itself and some partitions when it is surveyed.

Of stable stamps only what is durable is said (`Summary.shown`); all else is as it is at this moment. Who
is asked to hurry lets exchanges and scrubs begin first (`hasten`).
"""

from typing import TYPE_CHECKING

from basestore.cluster.placement import row_partition
from basestore.instant import Instant
from basestore.protocol.operator import COUNTS, NEVER, PAGE_PARTITIONS, Inspect, Inspected
from repair.version import COUNTER_BITS

if TYPE_CHECKING:
    from basestore.node import Node

ROOT_BYTES = 8
_EXCHANGES = ("exchanges_same", "exchanges_delta", "exchanges_full")


def held(node: "Node", message: Inspect) -> list[int]:
    page = range(message.first, message.first + min(message.most, PAGE_PARTITIONS))
    return [partition for partition in page if partition in node.summaries.of]


def _age_ms(since_s: float | None, now: Instant) -> int:
    return NEVER if since_s is None else max(0, int((now.monotonic - since_s) * 1e3) + 1)


def inspect(node: "Node", message: Inspect, now: Instant) -> Inspected:
    """What this node says."""
    partitions = held(node, message)
    certificates = node.certificates
    numbers: list[int] = []
    pairs: list[int] = []
    for partition in partitions:
        summary = node.summaries.of[partition]
        begun_s, ended_s = node.maintenance.last_scrub(partition) or (None, None)
        numbers += (
            partition, summary.count, summary.shown, _age_ms(begun_s, now), _age_ms(ended_s, now),
        )  # fmt: skip
        for other in certificates.others[partition]:
            certificate = certificates.certificate(partition, other)
            last = certificates.last_exchange(partition, other)
            closed, made_ms = (certificate.my_closed, certificate.made_ms) if certificate else (0, 0)
            pairs += (partition, other, closed, made_ms, _age_ms(last.begun_s if last else None, now))
    counts = node.metrics.counts
    return Inspected(
        message.id, node.state, node.reason, node.config.durability, clock_trouble(node), now.wall_ms,
        _newest_stamp(node, now), node.config.cluster.closed_lag_ms,
        [sum(counts[name] for name in _EXCHANGES), *(counts[name] for name in COUNTS[1:])],
        numbers, [node.summaries.of[partition].root.to_bytes(16)[:ROOT_BYTES] for partition in partitions],
        pairs, _named(node.delivery.only_copies(), message),
        _named(node.delivery.only_copies(late=True), message), _damaged(node, partitions),
    )  # fmt: skip


def _newest_stamp(node: "Node", now: Instant) -> int:
    """No write that has ended has a greater stamp than this, for some member. Who is alone has seen all."""
    return node.clock.last if len(node.peers.all) == 1 else max(node.clock.last, now.wall_ms << COUNTER_BITS)


def clock_trouble(node: "Node") -> str:
    """What is wrong with this node's clock, in words; empty when nothing is known to be."""
    skew_ms = node.peers.skew_ms
    if skew_ms is not None:
        return f"it is {abs(skew_ms)} ms {'behind' if skew_ms > 0 else 'ahead of'} the majority's"
    return "it has jumped, and is being compared with the others'" if node.peers.clock_jumped else ""


def _named(kept: list[int], message: Inspect) -> list[int]:
    """Those of the page, also of partitions that this node does not hold."""
    named = zip(kept[::2], kept[1::2], strict=True)
    inside = range(message.first, message.first + min(message.most, PAGE_PARTITIONS))
    return [number for partition, stamp in named if partition in inside for number in (partition, stamp)]


def _damaged(node: "Node", partitions: list[int]) -> list[int]:
    damaged = {row_partition(row) for row in node.replica.damaged} | node.maintenance.suspect.keys()
    return sorted(damaged.intersection(partitions))
