"""Machine: one member of a simulated cluster: a node with a disk and two clocks.

It drives the node as the service does: a turn follows a burst of events, one sync at a time, answers leave
behind the turn. While it is paused whatever reaches it waits, and its clocks go on: as a virtual machine that
is moved, or a process that collects garbage. It never crashes.

The disk is memory that says of itself that it lasts (`Engine.persistent`). That is true of a drill, for no
store outlives it and no machine loses one; and it must be said, for what a store in memory says proves
nothing, and it votes for no register. Syncs take time, as on a disk.
"""

from collections import deque
from collections.abc import Callable
from typing import Any

from basestore.cluster.outbox import Outbox
from basestore.config import NodeConfig
from basestore.drill.clockwork import Chance, Clockwork
from basestore.instant import Instant
from basestore.node import Node
from basestore.observe.rest import TICK_S
from basestore.protocol.codec import Message
from basestore.protocol.envelopes import unsealed
from basestore.replica.identity import Fresh, Place
from basestore.storage.memory import MemoryEngine

WALL_MS = 1_767_225_600_000  # what a clock that is right shows when a drill begins
BASE_S = 1000.0  # the same, of one that only goes on
TURN_S = 0.0001
SYNC_S_MIN, SYNC_S_MAX = 0.0005, 0.003
ALARM_S_MIN = 0.0005  # between two alarms

Receive = Callable[[list[Message]], None]
Carry = Callable[["Machine", "Machine", list[Message]], None]


class Disk(MemoryEngine):
    """It loses nothing."""

    persistent = True


class Machine:
    """`offset_ms`: by how much its wall clock is wrong."""

    def __init__(
        self, at: int, config: NodeConfig, clockwork: Clockwork, chance: Chance, offset_ms: int
    ) -> None:
        self.name, self.offset_ms = config.name, offset_ms
        self.number = config.member.number
        self._clockwork, self._chance = clockwork, chance
        self._backlog: deque[tuple[Callable[..., None], tuple[Any, ...]]] = deque()
        self._paused = self._turning = self._syncing = False
        self._alarm_s = float("inf")
        self._ends: dict[Outbox, Receive] = {}  # in the order in which they were opened
        self._links: dict[Machine, Outbox] = {}
        place = Place(at + 1, at + 1, 0)
        fresh = Fresh(chance.bytes(16), chance.bytes(8), int.from_bytes(chance.bytes(6)), frozenset(), place)
        self.disk = Disk()
        self.node = Node(config, self.disk, fresh, self.instant(), {})
        barrier = self.node.step(self.instant())
        self.disk.sync()
        if barrier is not None:
            self.node.durable(barrier, self.instant())
        clockwork.after(chance.uniform(0, TICK_S), self._tick)

    def instant(self) -> Instant:
        """What its clocks show."""
        now_s = self._clockwork.now_s
        return Instant(WALL_MS + int(now_s * 1000) + self.offset_ms, BASE_S + now_s)

    def sees(self, other: "Machine") -> bool:
        """Whether the other counts for levels, as far as its node knows."""
        peers = self.node.peers
        return peers.alive[peers.index_of[other.number]]

    # --- what reaches it -----------------------------------------------------------------------

    def enter(self, action: Callable[..., None], *arguments: Any) -> None:
        """Something reaches it, now or when it is no longer paused."""
        if self._paused:
            self._backlog.append((action, arguments))
        else:
            action(*arguments)

    def pause(self) -> None:
        self._paused = True

    def resume(self) -> None:
        """All that has come meanwhile is taken in, late."""
        self._paused = False
        while self._backlog:
            action, arguments = self._backlog.popleft()
            action(*arguments)

    def open_link(self, other: "Machine", carry: Carry) -> None:
        """What its node says to the other is carried from now on."""
        outbox = self.node.link(self.node.peers.index_of[other.number], self.instant())
        self._links[other] = outbox
        self._ends[outbox] = lambda messages: carry(self, other, messages)
        self._wake()

    def hear(self, source: "Machine", messages: list[Message]) -> None:
        """Messages of another node."""
        member = self.node.peers.index_of[source.number]
        unexpected = self.node.receive(member, self._links[source], messages, self.instant())
        assert unexpected is None, f"{source.name} said {unexpected} to {self.name}"
        self._wake()

    def open_client(self, receive: Receive) -> Outbox:
        """A client connects: what it is answered it is to `receive`."""
        outbox = self.node.open_client()
        self._ends[outbox] = receive
        return outbox

    def hear_client(self, outbox: Outbox, requests: list[Message]) -> None:
        """A client has asked."""
        self.node.intake.offer(outbox, unsealed(requests), self.instant())
        self._wake()

    # --- what it does by itself ----------------------------------------------------------------

    def _tick(self) -> None:
        self._clockwork.after(TICK_S, self._tick)
        if not self._paused:
            self.node.tick(self.instant())
            self._wake()

    def _alarm(self) -> None:
        self._alarm_s = float("inf")
        self.node.operations.tick(self.instant())
        self._wake()

    def _wake(self) -> None:
        """A turn follows, once for all that comes until then."""
        if not self._turning:
            self._turning = True
            self._clockwork.after(TURN_S, self.enter, self._turn)

    def _turn(self) -> None:
        self._turning = False
        node, now = self.node, self.instant()
        newest = node.step(now)
        assert not node.introductions.take_relink(), f"{self.name} believes that it has lost something"
        if newest is not None and not self._syncing and node.sync_watch.begins(now):
            self._syncing = True
            took_s = self._chance.uniform(SYNC_S_MIN, SYNC_S_MAX)
            self._clockwork.after(took_s, self.enter, self._synced, newest)
        if node.intake.ready or node.scheduler.unfinished:
            self._wake()
        self._flush()
        due_s = max(node.operations.alarm_due_s - BASE_S, self._clockwork.now_s + ALARM_S_MIN)
        if due_s < self._alarm_s:
            self._alarm_s = due_s
            self._clockwork.at(due_s, self.enter, self._alarm)

    def _synced(self, barrier: int) -> None:
        self._syncing = False
        self.disk.sync()
        self.node.durable(barrier, self.instant())
        self._wake()

    def _flush(self) -> None:
        """What lies in the outboxes leaves."""
        ready = [outbox for outbox in self._ends if outbox in self.node.ready]
        self.node.ready.clear()
        for outbox in ready:
            while outbox.messages:
                self._ends[outbox](outbox.take())
