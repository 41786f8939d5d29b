"""Pair: two real nodes in one process, and what goes over the link between them.

Owns a cluster of two members with replication 2 on RocksDB stores, their clock, and the pump that
carries encoded frames from one to the other. The clock moves by hand, by the same ticks as in the
service; a sync is done between steps. So what is measured is the nodes, and neither sockets nor threads.

What goes over the link for anti-entropy is counted by the `Meter` that is attached to it:

    metadata_bytes   Roots, SameRoots, Syn, Same, Sums, Ask, Listing, Want, Taken, Certify and Abort messages,
                     and Entries without a row, as they are encoded into frames, both ways
    entry_bytes      Entries messages with rows, likewise
    frames           that held any of these; each has a header of 12 bytes besides, which heartbeats
                     and requests often share
    round_trips      half the number of times that the conversation changed sides, each frame said
                     after all that was heard before it
"""

import os
from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from basestore.cluster.outbox import Outbox
from basestore.config import BUILT_IN, ClusterConfig, Member, NodeConfig
from basestore.instant import Instant
from basestore.node import Node
from basestore.protocol.anti_entropy import (
    Abort,
    Ask,
    Certify,
    Entries,
    Listing,
    Roots,
    Same,
    SameRoots,
    Sums,
    Syn,
    Taken,
    Want,
)
from basestore.protocol.codec import Message, encode
from basestore.protocol.replication import DIRECT, Apply
from basestore.replica.identity import Fresh
from basestore.storage.engine import Engine
from basestore.storage.rocks import RocksEngine
from basestore.transport.frames import FrameReader, pack

TICK_S = 0.05
APART_S = 0.5
WALL_MS = 1_760_000_000_000
CLUSTER_KEY = bytes(range(32))
BORN_S_MAX = 10.0
TURNS_MAX = 100_000
WORDS = (Roots, SameRoots, Syn, Same, Sums, Ask, Listing, Want, Taken, Certify, Abort)


class PairFailed(Exception):
    """The nodes did not do what they are measured at; says what."""


class Meter:
    """Counts what is said in exchanges. `begun`: something was."""

    def __init__(self) -> None:
        self.metadata_bytes = 0
        self.entry_bytes = 0
        self.frames = 0
        self._flights = [0, 0]  # of the last thing that each side has heard

    def sent(self, source: int, messages: list[Message]) -> int:
        """A frame leaves. Returns which flight of the conversation it belongs to; 0: to none."""
        entries = [each for each in messages if isinstance(each, Entries) and each.rows]
        metadata = [
            each
            for each in messages
            if isinstance(each, WORDS) or (isinstance(each, Entries) and not each.rows)
        ]
        if not entries and not metadata:
            return 0
        self.frames += 1
        self.entry_bytes += len(encode(entries)) if entries else 0
        self.metadata_bytes += len(encode(metadata)) if metadata else 0
        return self._flights[source] + 1

    def heard(self, target: int, flight: int) -> None:
        self._flights[target] = max(self._flights[target], flight)

    @property
    def begun(self) -> bool:
        return self.frames > 0

    @property
    def round_trips(self) -> float:
        return max(self._flights) / 2


def two_members(partitions: int) -> ClusterConfig:
    """A cluster of n1 and n2, which both hold all."""
    members = tuple(Member(number, f"n{number}", f"127.0.0.1:{7400 + number}") for number in (1, 2))
    return ClusterConfig(bytes(16), CLUSTER_KEY, members, 2, partitions, dict(BUILT_IN))


def open_node(cluster: ClusterConfig, index: int, engine: Engine, now: Instant) -> Node:
    """Open a node on its store, as the service does: ready to be linked."""
    config = NodeConfig(cluster, cluster.members[index].name, Path("nowhere"))  # the engine knows where
    drawn = os.urandom(30)
    fresh = Fresh(drawn[:16], drawn[16:24], int.from_bytes(drawn[24:]))
    node = Node(config, engine, fresh, now, {})
    barrier = node.step(now)
    engine.sync()
    if barrier is not None:
        node.durable(barrier, now)
    return node


def apply_all(node: Node, records: Iterable[tuple[bytes, bytes]], now: Instant) -> None:
    """Rows and records as from a coordinator that is not there, in one step, durably."""
    nobody = Outbox(set())
    nobody.close()
    for row, record in records:
        node.replica.apply(nobody, Apply(1, row, record, DIRECT, 0), now.wall_ms)
    barrier = node.step(now)
    node.engine.sync()
    if barrier is not None:
        node.durable(barrier, now)


def close_node(node: Node, now: Instant) -> None:
    """A clean stop."""
    node.close(now)
    node.engine.sync()
    node.engine.close()


@dataclass(slots=True)
class _Way:
    """From one node to the other: its outbox, and frames with the flight that each belongs to."""

    outbox: Outbox
    frames: deque[tuple[bytes, int]]
    reader: FrameReader


class Pair:
    """Two linked nodes. `meter`: what counts, or None."""

    def __init__(self, nodes: list[Node], monotonic: float) -> None:
        self.nodes = nodes
        self.meter: Meter | None = None
        self._monotonic = monotonic
        self._ways = self._link()

    @classmethod
    def open(cls, directory: Path, partitions: int = 1, at_s: float = 0.0) -> Self:
        """Open both stores, at this time, and link the nodes until each counts on the other. The second
        opens a little later, so that the rounds of both do not fall together."""
        cluster = two_members(partitions)
        first = open_node(cluster, 0, RocksEngine(directory / "n1"), instant(at_s))
        at_s += APART_S
        second = open_node(cluster, 1, RocksEngine(directory / "n2"), instant(at_s))
        pair = cls([first, second], at_s)
        pair.settle()
        for _ in range(round(BORN_S_MAX / TICK_S)):
            if all(node.linked for node in pair.nodes):
                return pair
            pair.tick()
        raise PairFailed(f"the nodes did not come up: {', '.join(node.reason for node in pair.nodes)}")

    @property
    def now(self) -> Instant:
        return instant(self._monotonic)

    def close(self) -> float:
        """Stop both cleanly. Returns the time by their clock."""
        for node in self.nodes:
            close_node(node, self.now)
        return self._monotonic

    def part(self, seconds: float) -> None:
        """Break the link and make it anew so much later. What is done meanwhile comes before."""
        for index, node in enumerate(self.nodes):
            node.unlink(1 - index, self._ways[index].outbox, self.now)
        self._monotonic += seconds
        for node in self.nodes:
            node.tick(self.now)
        self._ways = self._link()
        self.settle()

    def _link(self) -> list[_Way]:
        return [
            _Way(node.link(1 - index, self.now), deque(), FrameReader())
            for index, node in enumerate(self.nodes)
        ]

    # --- motion ------------------------------------------------------------------------------

    def tick(self) -> None:
        """A twentieth of a second later."""
        self._monotonic += TICK_S
        for node in self.nodes:
            node.tick(self.now)
        self.settle()

    def settle(self) -> None:
        """Steps, syncs and frames until nothing moves. Time stands still."""
        for _ in range(TURNS_MAX):
            moved = False
            for index in (0, 1):
                moved |= self._step(index)
            for index in (0, 1):
                moved |= self._carry(index)
            if not moved:
                return
        raise PairFailed("the nodes do not come to rest")

    def _step(self, index: int) -> bool:
        node, way = self.nodes[index], self._ways[index]
        barrier = node.step(self.now)
        if barrier is not None:
            node.engine.sync()
            node.durable(barrier, self.now)
            node.step(self.now)
        if node.introductions.take_relink():
            raise PairFailed(f"{node.name} has started over: {node.reason}")
        while way.outbox.messages:
            messages = way.outbox.take()
            flight = 0 if self.meter is None else self.meter.sent(index, messages)
            way.frames.append((pack(messages), flight))
        node.ready.clear()
        return barrier is not None

    def _carry(self, index: int) -> bool:
        """What the other node has said arrives."""
        way = self._ways[1 - index]
        frames, way.frames = way.frames, deque()
        for frame, flight in frames:
            refused = self.nodes[index].receive(
                1 - index, self._ways[index].outbox, way.reader.feed(frame), self.now
            )
            if refused is not None:
                raise PairFailed(f"{self.nodes[index].name} refused a {type(refused).__name__}")
            if self.meter is not None:
                self.meter.heard(index, flight)
        return bool(frames)


def instant(monotonic: float) -> Instant:
    """A moment by the clock of a pair."""
    return Instant(WALL_MS + int(monotonic * 1000), monotonic)
