"""A world for real Nodes without sockets: a network, disks and a clock that move by hand.

    world = World(3)                   # three nodes on memory engines, linked, born
    call = world.set(0, "k", "v")      # a request at node 0; nothing has moved yet
    world.settle()                     # messages and syncs until all is quiet; time stands still
    call.receipt()                     # the receipt, or the error it stands for, raised

Members come and go: `add` makes a node that the cluster is told of by an entry, `start` starts it; it is
linked with those that know it by then, and with others as soon as they do.

What is held by hand: `hold(a, b)` keeps messages on that way, `freeze(i)` withholds a node's syncs,
`crash` loses what was not synced, `skew_ms` sets a node's wall clock off. Messages travel in their
encoded form, so what cannot be said on the wire cannot be said here.
"""

import math
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

from basestore.cluster.outbox import Outbox
from basestore.cluster.placement import Placement
from basestore.config import (
    BUILT_IN,
    BUILT_IN_LATER,
    BucketOptions,
    ClusterConfig,
    Durability,
    Member,
    NodeConfig,
)
from basestore.consistency import Level
from basestore.coordinator.attempts import Content
from basestore.instant import Instant
from basestore.membership.following import SINCE
from basestore.node import Node
from basestore.protocol.client import Delete, Get, Scan, Set
from basestore.protocol.codec import Message, decode, encode
from basestore.protocol.groups import singly, together
from basestore.protocol.handshake import Goodbye, Names, Renewed
from basestore.protocol.limits import SERIAL_SINCE, WIRE_HIGHEST
from basestore.protocol.membership import At
from basestore.protocol.operator import Status
from basestore.repair.clock import HybridClock
from basestore.repair.rule import Rule
from basestore.repair.seats import Seats
from basestore.repair.version import Digester, Identity, Record, Version
from basestore.replica.group_commit import GroupCommit
from basestore.replica.identity import Fresh, Place
from basestore.replica.replica import Replica
from basestore.replica.summaries import Summaries
from basestore.results.nodes import NodeState, node_state
from basestore.results.readers import page, read_result, receipt
from basestore.results.receipts import Item, ReadResult, Receipt
from basestore.storage.keyspace import DATA, SEQUENCE_BYTES
from basestore.topology.buckets import Buckets
from tests.worlds.disk import Disk

WALL_MS = 1_760_000_000_000
BORN_S = 1000.0  # of the monotonic clock, when a world begins
TICK_S = 0.05
FOUNDING_TICKS_MAX = 100
CLIENT = -1  # as an end of a message
KEY = bytes(range(32))


def number_of(index: int) -> int:
    """The number of the member at this index: ascending, and never the index itself."""
    return 7 * index + 3


class Call:
    """One request of a client, and its answer once it has come."""

    def __init__(self, client: "Client", request: int, level: Level) -> None:
        self._client = client
        self.request = request
        self.level = level

    @property
    def answer(self) -> Message | None:
        return self._client.answers.get(self.request)

    @property
    def done(self) -> bool:
        return self.answer is not None

    def reply(self) -> Message:
        """The answer, which must have come."""
        assert self.answer is not None, "no answer came"
        return self.answer

    def receipt(self) -> Receipt:
        """The receipt of a write; raises the error that came instead."""
        return receipt(self.reply(), self.level, self._client.members)

    def read(self) -> ReadResult:
        """The result of a get; raises the error that came instead."""
        return read_result(self.reply(), self.level)

    def page(self) -> tuple[list[Item], bytes | None]:
        return page(self.reply())

    def state(self) -> NodeState:
        return node_state(self.reply())


class Client:
    """A connection of a client to a node."""

    def __init__(self, outbox: Outbox, members: Names) -> None:
        self.outbox = outbox
        self.members = members
        self.answers: dict[int, Message] = {}
        self.renewed: list[Renewed] = []
        self.parted = False
        self._next = 0

    def number(self) -> int:
        self._next += 1
        return self._next

    def collect(self) -> list[Message]:
        """Take the answers that have come."""
        came = singly(travel(self.outbox.take()))
        for message in came:
            if isinstance(message, Renewed):
                self.renewed.append(message)
                self.members.update((member.number, member.name) for member in message.members)
                continue
            if isinstance(message, Goodbye):
                self.parted = True
                continue
            request: int = message.id
            assert request not in self.answers, "a request was answered twice"
            self.answers[request] = message
        return came


def travel(messages: list[Message]) -> list[Message]:
    """What arrives when these are sent."""
    return decode(encode(messages)) if messages else []


class Sent(NamedTuple):
    """A message on its way between two nodes, or a node and a client (-1)."""

    source: int
    target: int
    message: Message
    lost: bool = False


class World:
    """Nodes by index; None where one does not run."""

    def __init__(
        self,
        count: int = 3,
        *,
        replication: int | None = None,
        partitions: int = 4,
        durability: Durability = "sync",
        drift_ms_max: int = 2000,
        timeout_ms_max: int = 1000,
        buckets: dict[str, Rule] | None = None,
        hint_bytes_max: int = 1 << 20,
        hint_age_s_max: int = 3600,
        read_repair: float = 0.0,
        bucket_options: dict[str, BucketOptions] | None = None,
        deferred_bytes_max: int = 1 << 20,
        reconcile: bool = False,
        born: bool = True,
        logged: bool = False,
    ) -> None:
        """`reconcile`: anti-entropy runs by itself; otherwise only for a forgetful store. `logged`: what the
        cluster is stands in a log, which is founded first; otherwise no member speaks of one yet."""
        members = tuple(Member(number_of(i), f"n{i + 1}", f"127.0.0.1:{7400 + i}") for i in range(count))
        self.cluster = ClusterConfig(
            bytes(16), KEY, members, replication or min(3, count), partitions,
            BUILT_IN | (buckets or {}), drift_ms_max, timeout_ms_max,
        )  # fmt: skip
        self.configs = [
            NodeConfig(
                self.cluster,
                member.name,
                Path("/nowhere"),
                durability,
                hint_bytes_max,
                hint_age_s_max,
                read_repair,
                bucket_options=bucket_options or {},
                deferred_bytes_max=deferred_bytes_max,
                wire_highest=WIRE_HIGHEST if logged else SINCE - 1,
            )
            for member in members
        ]
        self.placement = Placement.of(self.cluster)
        self.digester = Digester(KEY)
        self.monotonic = BORN_S
        self.skew_ms = [0] * count
        self.engines = [self._disk() for _ in members]
        self.places: list[frozenset[Place]] = [frozenset()] * count
        self.nodes: list[Node | None] = [None] * count
        self.clients: list[Client | None] = [None] * count
        self.links: dict[tuple[int, int], Outbox] = {}
        self.ways: dict[tuple[int, int], deque[Message]] = {}
        self.held: set[tuple[int, int]] = set()
        self.cut: set[frozenset[int]] = set()
        self.frozen: set[int] = set()
        self.barriers: dict[int, int] = {}
        self.log: list[Sent] = []
        self.lose: Callable[[Sent], bool] = lambda _: False
        self.listeners: list[Callable[[Sent], None]] = []  # told of what clients and nodes say
        self.added: set[int] = set()
        self._starts = 0
        self._reconcile = reconcile
        if born:
            for index in range(count):
                self.start(index)
            self.run(0.2)
            assert all(node.linked for node in self.running), "the cluster was not born"
            if logged:
                self.found()

    def found(self) -> None:
        """Let the metadata group come to its size, and its leader do what it does at first."""
        for _ in range(FOUNDING_TICKS_MAX):
            told = [node.membership.group.topology for node in self.running]
            later = any(node.feature_level.level >= SERIAL_SINCE for node in self.running)
            names = BUILT_IN_LATER.keys() if later else set()
            if all(each is not None and each.founded and each.buckets.keys() >= names for each in told):
                for client in self.clients:
                    if client is not None:
                        client.renewed.clear()  # of what belongs to the founding
                return
            self.run(TICK_S)
        raise AssertionError("no metadata group was founded")

    # --- nodes -------------------------------------------------------------------------------

    @property
    def running(self) -> list[Node]:
        return [node for node in self.nodes if node is not None]

    def node(self, index: int) -> Node:
        node = self.nodes[index]
        assert node is not None, f"node {index} does not run"
        return node

    def now(self, index: int) -> Instant:
        return Instant(WALL_MS + int(self.monotonic * 1000) + self.skew_ms[index], self.monotonic)

    def start(self, index: int, *, link: bool = True, clock_is_right: bool = False) -> Node:
        """Open the node on its engine, as the service does, and link it with all that run."""
        self._starts += 1
        seed = self._starts.to_bytes(8)
        config = replace(self.configs[index], clock_is_right=clock_is_right)
        place = Place(self._starts, self._starts, 0) if self.engines[index].persistent else None
        fresh = Fresh(seed * 2, seed, self._starts, self.places[index], place)
        node = Node(config, self.engines[index], fresh, self.now(index), {})
        barrier = node.step(self.now(index))
        self.engines[index].sync()
        self.places[index] = frozenset({place} if place else ())
        if barrier is not None:
            node.durable(barrier, self.now(index))
        if not self._reconcile:
            node.scheduler.due_s = dict.fromkeys(node.scheduler.due_s, math.inf)
        self.nodes[index] = node
        self.clients[index] = Client(
            node.open_client(), Names(node.config.cluster.names.items(), self.cluster.id)
        )
        for other in range(len(self.nodes)):
            if link and other != index and self.nodes[other] is not None and self._know(index, other):
                self.link(index, other)
        return node

    def add(self, number: int, *, name: str = "") -> int:
        """A node with an empty disk, that is to be the member of this number, as all others' log has it or
        will; its file names it, and those that run. Returns its index here."""
        index = len(self.nodes)
        member = Member(number, name or f"n{index + 1}", f"127.0.0.1:{7400 + index}")
        members = [each.config.member for each in self.running if not each.peers.left]
        cluster = replace(self.cluster, members=(*members, member))
        self.configs.append(replace(self.configs[0], cluster=cluster, name=member.name))
        self.engines.append(self._disk())
        self.places.append(frozenset())
        self.skew_ms.append(0)
        self.nodes.append(None)
        self.clients.append(None)
        self.added.add(index)
        return index

    def member(self, index: int) -> Member:
        """Which member the node at this index is."""
        return self.configs[index].member

    def _at(self, index: int, other: int) -> int:
        """The place of a node among the members that another one knows."""
        return self.node(index).peers.index_of[self.member(other).number]

    def _know(self, a: int, b: int) -> bool:
        """Whether both know the other as a member that has not left."""
        for index, other in ((a, b), (b, a)):
            peers, number = self.node(index).peers, self.member(other).number
            if peers.left or number not in peers.index_of or peers.all[peers.index_of[number]].gone:
                return False
        return True

    def _see_to_links(self) -> None:
        """End those of members that have left, and link those that have come, as the service does."""
        for index, node in enumerate(self.nodes):
            ending = node.peers.ends(self.now(index)) if node is not None else []
            for other in range(len(self.nodes)) if ending else ():
                if (index, other) in self.links and self._at(index, other) in ending:
                    self.unlink(index, other)
        for index in self.added:
            for other in range(len(self.nodes)):
                linked = other == index or (index, other) in self.links
                if not linked and self.nodes[index] and self.nodes[other] and self._know(index, other):
                    self.link(index, other)

    def crash(self, index: int) -> None:
        """A power cut: what was not synced is lost, and all that was on its way."""
        self.engines[index].crash()
        self._leave(index)

    def stop(self, index: int) -> None:
        """A clean stop."""
        self.node(index).close(self.now(index))
        self.engines[index].sync()
        self._leave(index)

    def _leave(self, index: int) -> None:
        self.nodes[index] = None
        self.clients[index] = None
        self.barriers.pop(index, None)
        self.frozen.discard(index)
        for other in range(len(self.nodes)):
            self.unlink(index, other)

    def restart(self, index: int) -> Node:
        """Crash, and start again on what is left."""
        self.crash(index)
        return self.start(index)

    def _disk(self) -> Disk:
        """An empty one, which outlives the node unless durability is memory."""
        engine = Disk()
        engine.persistent = self.configs[0].engine != "memory"
        return engine

    def wipe(self, index: int) -> None:
        """Stop the node and give it an empty disk."""
        self._leave(index)
        self.engines[index] = self._disk()
        self.places[index] = frozenset()

    def copy_store(self, index: int) -> dict[bytes, bytes]:
        """A backup of what the node's engine holds."""
        return dict(self.engines[index].scan(b"", b"\xff" * 8))

    def restore(self, index: int, copy: dict[bytes, bytes], *, in_place: bool = True) -> None:
        """Stop the node and give it the disk of a backup: one of the blocks beneath the file system, or,
        not `in_place`, one of the files."""
        self._leave(index)
        if not in_place:
            self.move(index)
        self.engines[index] = self._disk()
        self.engines[index].apply(copy)
        self.engines[index].sync()

    def move(self, index: int) -> None:
        """The store's files are others than those that were written. The node must not run."""
        assert self.nodes[index] is None
        self.places[index] = frozenset(Place(-1 - p.inode, p.born_ns, 0) for p in self.places[index])

    def remount(self, index: int) -> None:
        """The store's file system has another id. The node must not run."""
        assert self.nodes[index] is None
        self.places[index] = frozenset(p._replace(file_system=p.file_system + 1) for p in self.places[index])

    # --- the network -------------------------------------------------------------------------

    def link(self, a: int, b: int) -> None:
        """A new connection between two nodes, also where one stands."""
        if frozenset((a, b)) in self.cut:
            return
        for source, target in ((a, b), (b, a)):
            self.links[source, target] = self.node(source).link(self._at(source, target), self.now(source))
            self.ways[source, target] = deque()

    def unlink(self, a: int, b: int) -> None:
        """The connection breaks, with all that was on its way."""
        for source, target in ((a, b), (b, a)):
            outbox = self.links.pop((source, target), None)
            self.ways.pop((source, target), None)
            node = self.nodes[source]
            if outbox is not None and node is not None:
                node.unlink(self._at(source, target), outbox, self.now(source))

    def part(self, a: int, b: int) -> None:
        """Break the connection, and let no new one be made until `join`."""
        self.cut.add(frozenset((a, b)))
        self.unlink(a, b)

    def join(self, a: int, b: int) -> None:
        self.cut.discard(frozenset((a, b)))
        self.link(a, b)

    def hold(self, source: int, target: int) -> None:
        """Keep what is said on this way until `release`; it is not lost."""
        self.held.add((source, target))

    def release(self, source: int, target: int) -> None:
        self.held.discard((source, target))

    def isolate(self, index: int) -> None:
        """Keep all that this node says and is told: it is slow, not known to be dead."""
        for other in range(len(self.nodes)):
            self.hold(index, other)
            self.hold(other, index)

    def rejoin(self, index: int) -> None:
        for other in range(len(self.nodes)):
            self.release(index, other)
            self.release(other, index)

    def freeze(self, *indices: int) -> None:
        """Withhold the syncs of these nodes."""
        self.frozen.update(indices)

    def thaw(self, *indices: int) -> None:
        self.frozen.difference_update(indices)

    def adopt(self, seats: Mapping[int, Seats], epoch: int, *indices: int) -> None:
        """These nodes, or all, begin to use these seats, as by the entry that makes this epoch, in one step;
        the others hear so on their links. `epoch`: later than that of the log, which has come to rest."""
        for index in indices or range(len(self.nodes)):
            node = self.nodes[index]
            if node is None:
                continue
            node.admission.adopt(epoch, seats)
            node.recovery.adopt(seats, 0, self.now(index))
            held = node.membership.group.allegiance
            said = At(held.group, held.formers, held.voter, True, False, False, epoch, 0, 0, [])
            for peer in node.peers.others:
                peer.outbox.put(said)
            node.admission.begin_anew(self.now(index))

    # --- motion ------------------------------------------------------------------------------

    def settle(self) -> None:
        """Steps, syncs and deliveries until nothing moves. Time stands still."""
        for _ in range(10_000):
            if not self.turn():
                return
        raise AssertionError("the world does not come to rest")

    def turn(self) -> bool:
        """Let every node step once, and deliver what is on its way. Whether anything moved."""
        moved = False
        for index, node in enumerate(self.nodes):
            if node is not None:
                moved |= self._step(index, node)
        for way in list(self.ways):
            moved |= self._deliver(*way)
        return moved

    def _step(self, index: int, node: Node) -> bool:
        now = self.now(index)
        moved = bool(node.ready)
        barrier = node.step(now)
        moved |= node.scheduler.unfinished
        if barrier is not None and index not in self.frozen:
            self.engines[index].sync()
            node.durable(barrier, now)
            node.step(now)
            moved = True
        if node.introductions.take_relink():
            moved = True
            for other in range(len(self.nodes)):
                if (index, other) in self.links:
                    self.unlink(index, other)
                    self.link(index, other)
        client = self.clients[index]
        assert client is not None
        for message in client.collect():
            self._tell(Sent(index, CLIENT, message))
        for (source, target), outbox in list(self.links.items()):
            if source == index:
                for message in travel(outbox.take()):
                    sent = Sent(source, target, message)
                    self.log.append(sent)
                    lost = self.lose(sent)
                    self._tell(sent._replace(lost=lost))
                    if not lost:
                        self.ways[source, target].append(message)
        node.ready.clear()
        return moved

    def _tell(self, sent: Sent) -> None:
        for listener in self.listeners:
            listener(sent)

    def _deliver(self, source: int, target: int) -> bool:
        queue = self.ways.get((source, target))
        if not queue or (source, target) in self.held:
            return False
        messages = list(queue)
        queue.clear()
        outbox = self.links[target, source]
        at = self._at(target, source)
        refused = self.node(target).receive(at, outbox, messages, self.now(target))
        assert refused is None, f"{refused} was refused"
        return True

    def run(self, seconds: float) -> None:
        """Let time pass, tick by tick."""
        for _ in range(max(1, round(seconds / TICK_S))):
            self.monotonic += TICK_S
            for index, node in enumerate(self.nodes):
                if node is not None:
                    node.tick(self.now(index))
            self._see_to_links()
            self.settle()

    # --- clients -----------------------------------------------------------------------------

    def ask(self, at: int, make: Callable[[int], Message], level: Level = Level.QUORUM) -> Call:
        """Put a request to a node. Nothing moves yet."""
        client = self.clients[at]
        assert client is not None
        request = client.number()
        messages = travel([make(request)])
        self._tell(Sent(CLIENT, at, messages[0]))
        refused = self.node(at).receive_client(client.outbox, messages, self.now(at))
        assert refused is None
        return Call(client, request, level)

    def ask_together(self, at: int, requests: Sequence[Any], level: Level = Level.QUORUM) -> list[Call]:
        """Put requests to a node as a client's library sends them at once. Nothing moves yet."""
        client = self.clients[at]
        assert client is not None
        numbered = [request._replace(id=client.number()) for request in requests]
        refused = self.node(at).receive_client(client.outbox, travel(together(numbered)), self.now(at))
        assert refused is None
        return [Call(client, request.id, level) for request in numbered]

    def set(
        self,
        at: int,
        key: str,
        value: str,
        level: Level = Level.QUORUM,
        *,
        bucket: str = "default",
        timeout_s: float = 1.0,
        ttl_s: float = 0,
        version: Version | None = None,
        after: int = 0,
        identity: Identity | bytes = b"",
    ) -> Call:
        ms, ttl_ms = round(timeout_s * 1000), round(ttl_s * 1000)
        content = self.content(bucket, key, value.encode(), ttl_ms)
        known, again = self._known(content, version, identity)
        return self.ask(
            at,
            lambda r: Set(r, bucket, key.encode(), value.encode(), level, ms, ttl_ms, known, again, after),
            level,
        )

    def delete(
        self,
        at: int,
        key: str,
        level: Level = Level.QUORUM,
        *,
        bucket: str = "default",
        timeout_s: float = 1.0,
        version: Version | None = None,
        identity: Identity | bytes = b"",
    ) -> Call:
        ms = round(timeout_s * 1000)
        known, again = self._known(self.content(bucket, key, tombstone=True), version, identity)
        return self.ask(at, lambda r: Delete(r, bucket, key.encode(), level, ms, known, again), level)

    def content(
        self, bucket: str, key: str, value: bytes = b"", ttl_ms: int = 0, *, tombstone: bool = False
    ) -> Content:
        return Content(self.row(key, bucket), value, ttl_ms, tombstone, Rule.LAST_WRITE_WINS)

    def known(self, content: Content, version: Version) -> Identity:
        """What a write of this content is known by, if it was given this version."""
        return Identity.of(content.proposal, content.again(self.digester, version).blob)

    def _known(
        self, content: Content, version: Version | None, identity: Identity | bytes
    ) -> tuple[bytes, bool]:
        """What a write is known by, and whether it is one over again: by the version of an earlier attempt,
        or by its identity; bytes are what a client proposes for a new one."""
        if version is not None:
            return self.known(content, version).encode(), True
        if isinstance(identity, Identity):
            return identity.encode(), True
        return identity, False

    def get(
        self,
        at: int,
        key: str,
        level: Level = Level.QUORUM,
        *,
        bucket: str = "default",
        timeout_s: float = 1.0,
        floor: Version | None = None,
        repair: bool = True,
    ) -> Call:
        ms = round(timeout_s * 1000)
        seen = floor.encode() if floor else b""
        return self.ask(at, lambda r: Get(r, bucket, key.encode(), level, ms, seen, repair), level)

    def scan(
        self,
        at: int,
        prefix: str = "",
        level: Level = Level.QUORUM,
        *,
        bucket: str = "default",
        after: bytes = b"",
        limit: int = 100,
        timeout_s: float = 1.0,
    ) -> Call:
        ms = round(timeout_s * 1000)
        return self.ask(at, lambda r: Scan(r, bucket, prefix.encode(), after, limit, level, ms), level)

    @property
    def names(self) -> Names:
        """Of all that are, or were, members."""
        members = [self.member(index) for index in range(len(self.nodes))]
        return Names(((member.number, member.name) for member in members), self.cluster.id)

    def state(self, at: int) -> NodeState:
        call = self.ask(at, Status)
        self.settle()
        return call.state()

    def take_as_is(self, *indices: int) -> None:
        """An operator says that these stores are the newest there are."""
        for index in indices:
            self.ask(index, lambda request: Status(request, True))
        self.settle()

    def put(self, at: int, key: str, value: str, level: Level = Level.QUORUM, **options: str) -> Receipt:
        """Set, let all settle, and give the receipt."""
        call = self.set(at, key, value, level, bucket=options.get("bucket", "default"))
        self.settle()
        return call.receipt()

    def look(self, at: int, key: str, level: Level = Level.QUORUM, **options: str) -> ReadResult:
        """Get, let all settle, and give the result."""
        call = self.get(at, key, level, bucket=options.get("bucket", "default"))
        self.settle()
        return call.read()

    # --- what is on the disks ----------------------------------------------------------------

    def row(self, key: str, bucket: str = "default") -> bytes:
        return self.placement.row(bucket.encode(), key.encode())

    def replicas(self, key: str, bucket: str = "default") -> tuple[int, ...]:
        return self.placement.replicas[int.from_bytes(self.row(key, bucket)[:2])]

    def outsider(self, key: str) -> int:
        """A running node that is no replica of the key."""
        replicas = self.replicas(key)
        return next(i for i, node in enumerate(self.nodes) if node is not None and i not in replicas)

    def stored(self, index: int, key: str, bucket: str = "default") -> Record | None:
        """What a node's engine holds for a key."""
        stored = self.engines[index].get(DATA + self.row(key, bucket))
        return None if stored is None else Record(stored[:-SEQUENCE_BYTES])

    def values(self, key: str, bucket: str = "default") -> list[bytes | None]:
        """What every node's engine holds for a key, by node."""
        records = [self.stored(index, key, bucket) for index in range(len(self.nodes))]
        return [None if record is None else record.value for record in records]

    def plant(
        self,
        index: int,
        key: str,
        value: str,
        version: Version,
        *,
        bucket: str = "default",
        tombstone: bool = False,
        expires_ms: int = 0,
    ) -> Record:
        """Put a record into a node's store behind everyone's back, durably."""
        row = self.row(key, bucket)
        record = Record.seal(
            self.digester, row, version, value.encode(), tombstone=tombstone, expires_ms=expires_ms
        )
        replica, group_commit = self._replica(index)
        held = replica.mark(row)
        # private: the door that checks nothing, for what came by no message
        replica._store(row, record.blob, held)
        replica.summaries.summary_log.write()
        group_commit.commit()
        self.engines[index].sync()
        group_commit.durable(group_commit.sequence)
        return record

    def _replica(self, index: int) -> tuple[Replica, GroupCommit]:
        """The door to a node's data: its own, or, while it does not run, one made for the moment."""
        node = self.nodes[index]
        if node is not None:
            return node.replica, node.group_commit
        group_commit = GroupCommit(self.engines[index], b"", waits=False)
        summaries = Summaries(group_commit, self.placement.held_by(index))
        buckets = Buckets(self.cluster.buckets)
        return Replica(group_commit, summaries, buckets, self.digester, HybridClock(0, 2000)), group_commit

    def spoil(self, index: int, key: str, bucket: str = "default") -> None:
        """Change one byte of a stored record, as a disk might."""
        row = DATA + self.row(key, bucket)
        stored = self.engines[index].get(row)
        assert stored is not None
        at = len(stored) - SEQUENCE_BYTES - 1
        self.engines[index].apply({row: stored[:at] + bytes((stored[at] ^ 1,)) + stored[at + 1 :]})
        self.engines[index].sync()
        node = self.nodes[index]
        if node is not None:
            node.replica.marks.clear()

    def stamp(self, offset_ms: int = 10) -> Version:
        """A version near this moment, by default just after it, that no node has made."""
        return Version((WALL_MS + int(self.monotonic * 1000) + offset_ms) << 16, 99, 1)

    def sent(self, kind: type[Message], source: int | None = None) -> list[Sent]:
        """What was said of one kind of message, by one node or by all."""
        return [s for s in self.log if isinstance(s.message, kind) and source in (None, s.source)]
