"""Machine: one member of the simulated cluster: a real Node with a disk, two clocks and a life.

It does what `basestore.server.service` does: a turn follows a burst of events, one sync at a time, answers
leave after the turn. While it is paused events queue up; when it crashes they are gone, and so is
what the disk had not synced. A failed fsync stops it.
"""

import math
from collections import deque
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any

from basestore.anti_entropy.scheduler import ROUND_S_MIN
from basestore.cluster.outbox import Outbox
from basestore.config import NodeConfig
from basestore.coordinator.context import failure
from basestore.coordinator.get import BROWNOUT_DEGRADING
from basestore.errors import LeftCluster, Overloaded
from basestore.instant import Instant
from basestore.intake.brownout import Brownout
from basestore.node import Node
from basestore.protocol.client import Credit, Delete, Failed, Set, Shed
from basestore.protocol.codec import Message
from basestore.protocol.envelopes import unsealed
from basestore.protocol.groups import singly, together
from basestore.protocol.handshake import Goodbye, Renewed
from basestore.protocol.heartbeats import Ping, Pong, Remembered
from basestore.protocol.limits import ProtocolError
from basestore.protocol.replication import Accept, Applied, Apply, Forward, Hinted, Peek, Prepare
from basestore.replica.identity import Fresh, Place
from basestore.server.connections import STOPPING
from tests.simulation.clockwork import Stream
from tests.simulation.log_watch import GROUP
from tests.simulation.losses import held_in, may_doubt
from tests.simulation.network import Link
from tests.simulation.plan import MachinePlan
from tests.simulation.room import SIZE, Room
from tests.worlds.disk import Disk

if TYPE_CHECKING:
    from tests.simulation.callers import Liar
    from tests.simulation.clients import Session
    from tests.simulation.operators import Line
    from tests.simulation.world import PlannedWorld

WALL_MS = 1_760_000_000_000
TICK_S = 0.05
RESTING_TICK_S = 0.2  # while nobody asks anything; a node that misses a second takes itself for paused
ALARMS = 2  # in a tick
_new = tuple.__new__
RETRY_S = 0.3
BROWNOUTS = 0.05, 0.3  # so many lives of machines are hard pressed all along; and where proofs come soon
BROWNED_PROOF_MS = 1500  # so old proofs grow there, before they are renewed
LONG_STALL_S = 1.0
STALLED_ROWS_MAX = 100
HASTE_MS = 100
HASTE_TICKS = 3  # in place of a second between two rounds: in step, some pairs would never have one
LISTEN_S = 0.6
COPIES_MAX = 10
ROOM_S = 0.2
HELD_S = 1.0
TOLD = frozenset((Accept, Applied, Apply, Forward, Hinted, Peek, Prepare))  # what the triggers look at
HEARD = frozenset(
    (Apply, Goodbye, Hinted, Ping, Pong, Remembered)
)  # what the witness looks at when it arrives
BUSY, BUSY_S = 0.5, 0.4  # how often a machine is, and for how long
FLUSH = (5000, 150, 1)  # the summary log, after so many bytes, in slices of so many bytes and nodes
COUNTED = (
    "exchanges_same", "exchanges_delta", "exchanges_full", "exchanges_aborted", "mismatches", "records_taken",
    "records_dropped", "partitions_scrubbed", "hints_late", "debts_ended", "disk_stalls",
)  # fmt: skip

SHED = "overloaded: this node is asked for more than it can do; nothing was done"


class BrownedOut(Brownout):
    """Of a node that has too much to do for as long as it lives."""

    def __init__(self) -> None:
        super().__init__()
        self.level = BROWNOUT_DEGRADING

    def tick(self, now_s: float) -> None:
        """It does not end."""


class Machine:
    """`node` is None while it does not run; `life` counts what the machine has been started or has
    ended, so that an event meant for an earlier life finds nobody."""

    def __init__(self, world: "PlannedWorld", index: int, config: NodeConfig, plan: MachinePlan) -> None:
        self.world = world
        self._clockwork = world.clockwork
        self._seen_s, self._seen_ms = -1.0, 0
        self._instant: Instant
        self.index = index
        self.config = config
        self.plan = plan
        self._rate = plan.rate
        self.room: Room | None = None  # None: there is always enough
        self._insert(Disk())
        self.node: Node | None = None
        self.life = 0
        self.turned_s = 0.0  # when the last turn was
        self.paused = False
        self.pauses = 0
        self.pause_in_turn = False
        self.offset_ms = plan.offset_ms
        self.failing = False  # the next fsync fails
        self.leaving = False  # it has said goodbye
        self._hung = 0  # for how many reasons no sync ends
        self._held: tuple[int, int, int] | None = None  # the sync that would have ended
        self.hung_since = math.inf  # when it would have
        self.full_until_s = 0.0  # the disk takes nothing, or takes something now and then
        self.slow_s = 0.0
        self.sync_s = plan.sync_s
        self._stalled: tuple[float, int] | None = None  # since when, and how many rows were refused then
        self.stalls = 0.005  # how often a sync takes forty times as long
        self.replaced = False  # its disk, until its store is whole again
        self.impaired_since = -1.0  # when the store lost something, until it is whole again
        self._told_s = 0.0
        self.gone = False  # by what is decided it has left the cluster
        self.ended = False  # it is never started again
        self.away = False  # it is down, and called dead: what only it holds may be lost
        self.buried = False  # it came back when it was called so already
        self.announced = False  # at the next start an operator says that the store may be an old copy
        self._doubted = False
        self.spoilt: set[bytes] = set()
        self.torn: set[bytes] = set()  # keys of hints that were spoilt
        self.former: list[Disk] = []  # those that were replaced since the store was whole last
        self.held = 0  # what the file beside the store says of how many batches it holds
        self._held_due_s = 0.0
        self.copies: deque[dict[bytes, bytes]] = deque(maxlen=COPIES_MAX)
        self._stream = Stream(world.plan.seed, f"machine {index}")
        self._backlog: deque[tuple[Callable[..., None], tuple[Any, ...]]] = deque()
        self._ends: dict[Outbox, Link | Session | Line | Liar] = {}
        self._frames: dict[Outbox, list[Message]] = {}  # of clients, until the next turn
        self._order: dict[Outbox, int] = {}
        self._turning = False
        self._syncing = False
        self._base_s = self._stream.uniform(10, 1000)

    def _insert(self, disk: Disk) -> None:
        self.disk = disk
        disk.persistent = self.config.engine != "memory"
        disk.watch = partial(self.world.witness.replaced, self)
        if self.world.chains is not None:
            disk.settled = partial(self.world.chains.settled, self)
            self.world.chains.lost(self)
        if self.room is not None:
            self.give_room(self.room)

    def instant(self) -> Instant:
        now, offset_ms = self._clockwork.now, self.offset_ms
        if now != self._seen_s or offset_ms != self._seen_ms:  # many things happen at one moment
            self._seen_s, self._seen_ms = now, offset_ms
            elapsed = now * self._rate
            # As `Instant(...)`, without a call of Python: there is one for each event.
            self._instant = _new(Instant, (WALL_MS + int(elapsed * 1000) + offset_ms, self._base_s + elapsed))
        return self._instant

    def sent_s(self, sent_us: int) -> float:
        """When this machine's own clock, which only goes on, stood there."""
        return (sent_us / 1e6 - self._base_s) / self.plan.rate

    @property
    def listen_s(self) -> float:
        """For how long it waits, after a start, for all others to name their only copies."""
        return LISTEN_S if self.world.plan.hasty else self.lag_s

    @property
    def lag_s(self) -> float:
        """How far behind the clock it closes itself to direct writes."""
        lag_ms: int = self.config.cluster.closed_lag_ms
        return (self.world.plan.drift_ms_max + HASTE_MS if self.world.plan.hasty else lag_ms) / 1e3

    # --- life --------------------------------------------------------------------------------

    def start(self) -> None:
        """Open the store, as the service does."""
        if self.node is not None or self.ended or (self.away and not self.gone):
            return
        if self._hung:
            self.world.clockwork.after(RETRY_S, self.start)
            return
        if self.room is not None and not self.room.opens():
            self.world.counts["refused to open: no room"] += 1
            self.world.clockwork.after(RETRY_S, self.start)
            return
        self.life += 1
        if self.disk.get(GROUP) is None:
            self.world.roster.refile(self)
        bits = self._stream.bytes
        place = Place(self.life, self.index, 0) if self.disk.persistent else None
        held = self.held if self.disk.persistent else 0
        fresh = Fresh(bits(16), bits(8), int.from_bytes(bits(6)), self.disk.places, place, held)
        config = replace(self.config, requests_max=self.world.requests_max)
        config = replace(config, forgetful=True) if self.announced else config
        try:
            node = Node(config, self.disk, fresh, self.instant(), {})
        except LeftCluster as error:
            self.world.roster.refused(self, error)
            return
        node.operations.operations_max = self.world.operations_max
        brownouts = BROWNOUTS[self.world.plan.hasty]
        if Stream(self.world.plan.seed, f"brownout {self.index} {self.life}").chance(brownouts):
            node.intake.brownout = BrownedOut()
            node.context.load.brownout = node.intake.brownout.level
        barrier = node.step(self.instant())
        if barrier is None:  # the disk takes nothing: nobody hears of this opening
            self.world.counts["refused to open"] += 1
            self.world.clockwork.after(RETRY_S, self.start)
            return
        self.disk.sync()
        self.disk.accept_loss()
        self.disk.places = frozenset({place} if place else ())
        self.announced = False
        node.durable(barrier, self.instant())
        self.held = node.group_commit.sequence
        summary_log = node.summaries.summary_log
        summary_log.checkpoint_at_bytes, summary_log.slice_bytes, summary_log.slice_nodes = FLUSH
        node.scheduler.browned_proof_ms_max = BROWNED_PROOF_MS
        if not self.world.plan.rounds:
            node.scheduler.due_s = dict.fromkeys(node.scheduler.due_s, math.inf)
        if self.world.plan.hasty:
            # private: a hasty world closes sooner than any configuration may ask for
            node.closed_stamps._lag_ms = int(self.lag_s * 1000)
            # private: the same
            node.closed_stamps._begin_s = self.instant().monotonic + LISTEN_S
        self.node = node
        self._frames = {}
        self._tell_room()
        self.world.witness.timekeeping.started(self)
        self.world.witness.stamps.started(self)
        self.world.refusals.started(self, fresh.incarnation)
        self.world.say(self.index, "start", node.state)
        self.world.clockwork.after(self._stream.uniform(0, TICK_S), self._tick, self.life)
        for other in self.world.machines:
            if other.index > self.index:
                self.world.network.dial(self, other, self.life)
            elif other.index < self.index:
                self.world.network.dial(other, self, other.life)

    def crash(self, why: str, *, noticed_s: float = 0.02) -> None:
        """Gone at once; the disk keeps what was synced and some of the rest."""
        if self.node is None:
            return
        kept = self._stream.below(len(self.disk.pending) + 1)
        if self.room is not None and self.room.broken and not self.room.closed:
            self._leave_broken_log()
        self.world.history.crashed()
        self.world.moved.crashed(self)
        self.world.say(self.index, "crash", f"{why}; {kept} of {len(self.disk.pending)} batches kept")
        self.disk.cut(kept)
        if self.world.chains is not None:
            self.world.chains.lost(self)
        if not self.disk.persistent:
            self._insert(Disk())
        self._leave(noticed_s)

    def _leave_broken_log(self) -> None:
        """Its log ends inside a batch, of which nothing was told: the store that is opened looks as if more
        were lost."""
        if may_doubt(self.world, self):
            self.world.counts["broken log left by a crash"] += 1
            self.disk.loss, self.in_doubt = "the log was cut", True

    def stop(self) -> None:
        """A clean end."""
        if self.node is None or self.paused:
            return
        if self._hung:
            self.crash("it cannot end while its disk hangs")
            return
        self.world.say(self.index, "stop", "")
        self.node.close(self.instant())
        self.disk.sync()
        self.held = self.node.group_commit.sequence
        if not self.disk.persistent:
            self.world.history.crashed()
            self._insert(Disk())
        self._leave(0.002)

    def _leave(self, noticed_s: float) -> None:
        self.count()
        self.world.log_watch.left(self)
        self.life += 1
        self.node = None
        self.paused = self.pause_in_turn = self._turning = self._syncing = self.failing = False
        self.leaving, self._held, self.hung_since = False, None, math.inf
        self._stalled = None
        self._backlog.clear()
        self._order.clear()
        ends, self._ends = self._ends, {}
        for end in ends.values():
            if not isinstance(end, Link):
                end.lost()
        self.world.network.leave(self, noticed_s)

    def count(self) -> None:
        """What this life has counted of its exchanges."""
        if self.node is None:
            return
        counted = self.node.metrics.counts
        for name in COUNTED:
            self.world.counts[name] += counted.get(name, 0)
        summaries = self.node.summaries
        self.world.counts["flush begun"] += summaries.summary_log.checkpoints
        self.world.counts["life ended in a flush"] += summaries.summary_log.checkpointing
        self.world.counts["partition with a floor"] += sum(each.floor > 0 for each in summaries.of.values())
        self.world.counts["partition spilled"] += sum(each.spilled > 0 for each in summaries.of.values())

    def pause(self) -> None:
        if self.node is not None:
            self.paused = True
            self.pauses += 1

    def resume(self) -> None:
        """All that came meanwhile is taken in, late."""
        self.paused = False
        if self._held is not None:  # its node has not seen that it hung
            self.hung_since = self._clockwork.now
        while self._backlog and not self.paused:
            action, arguments = self._backlog.popleft()
            action(*arguments)

    def replace_disk(
        self, copy: dict[bytes, bytes] | None, loss: str = "", places: frozenset[Place] = frozenset(),
        *, keeps_held: bool = False,
    ) -> None:  # fmt: skip
        """Another disk: a backup (`Disk.restored`), or an empty one. Only while it does not run.
        `keeps_held`: its files are the same, but for the log."""
        assert self.node is None
        self.world.counts["log: voter lost its store"] += self.world.log_watch.votes(self)
        self.world.log_watch.losing(self)
        self.world.seating.losing(self)
        self.former.append(self.disk)
        self._insert(Disk() if copy is None else Disk.restored(copy, places))
        self.held = self.held if keeps_held else held_in(copy)
        self.disk.loss = loss
        self.world.witness.stamps.lost(self)
        self.impaired_since = self.world.clockwork.now
        self.world.history.stores_lost = self.replaced = True

    def give_room(self, room: Room) -> None:
        """From now on its disk is as large as this."""
        self.room = room
        self.disk.make_room = room.take

    def stored_bytes(self) -> int:
        """What its disk holds."""
        return sum(len(key) + len(value) for key, value in self.disk.scan(b"", b"\xff" * 8))

    def _tell_room(self) -> None:
        """As the service does, now and then."""
        room, now = self.room, self._clockwork.now
        if room is not None and self.node is not None and now >= self._told_s:
            self._told_s = now + ROOM_S
            self.node.disk_space.tell(room.free, SIZE)
            for what in room.seen:
                self.world.counts[what] += 1
            room.seen.clear()

    def move(self, places: frozenset[Place]) -> None:
        """The same disk, elsewhere. Only while it does not run."""
        assert self.node is None
        self.disk.places, self.in_doubt = places, True

    def return_to(self, copy: dict[bytes, bytes], places: frozenset[Place]) -> None:
        """Its disk as it was once, from when nothing was lost. Only while it does not run."""
        assert self.node is None
        self.world.log_watch.losing(self)
        self._insert(Disk.restored(copy, places))
        self.held = held_in(copy)

    @property
    def in_doubt(self) -> bool:
        """Whether the store, of which nothing is lost, may take itself for a copy."""
        if self._doubted and self.node is not None and self.node.identity.counts:
            self._doubted = False
        return self._doubted

    @in_doubt.setter
    def in_doubt(self, doubted: bool) -> None:
        self._doubted = doubted
        self.world.doubted |= doubted
        if doubted:
            self.world.log_watch.losing(self)

    def quicken(self) -> None:
        """The disk is no longer slow."""
        self.slow_s = 0.0

    def hang(self) -> None:
        """From now on no sync ends, until it may go on as often as this was said."""
        self._hung += 1

    def go_on(self, *, wholly: bool = False) -> None:
        """Syncs end again, unless something else keeps them."""
        self._hung = 0 if wholly else max(0, self._hung - 1)
        if not self._hung and self._held is not None:
            held, self._held, self.hung_since = self._held, None, math.inf
            self._synced(*held)

    @property
    def impaired(self) -> bool:
        """Whether the store may lack what it once acknowledged, or others must do without it."""
        if self.away:
            return True
        if self.impaired_since >= 0 and self.node is not None:
            whole = self.node.identity.counts and self.node.linked and not self.node.replica.damaged
            if whole and not self.spoilt:
                since_s, self.impaired_since = self.impaired_since, -1.0
                self.world.witness.stamps.whole(self)
                if self.replaced:  # and not only a record spoilt
                    self.world.witness.promises.whole(self, since_s)
                    self.former.clear()
                self.replaced = False
        return self.impaired_since >= 0

    # --- events ------------------------------------------------------------------------------

    def enter(self, action: Callable[..., None], *arguments: Any) -> None:
        """Something reaches the machine, now or when it is no longer paused."""
        if self.paused:
            self._backlog.append((action, arguments))
        else:
            action(*arguments)

    def _tick(self, life: int) -> None:
        if self.life != life or self.node is None:
            return
        resting = (self.world.resting or self.world.network.calm) and not self.node.operations.count
        self.world.clockwork.after(RESTING_TICK_S if resting else TICK_S, self._tick, life)
        if not self.paused:
            self._tell_room()
            if self.world.plan.changes:
                self._part(self.node)
            if self._clockwork.now >= self._held_due_s:  # as the service does, once a second
                self._held_due_s = self._clockwork.now + HELD_S
                self.held = max(self.held, self.node.group_commit.durable_sequence)
            hasty = self.world.plan.hasty and self.world.plan.rounds
            # As the service does: a node at rest is ticked less often, and then rounds could not be hastened.
            if hasty or self.instant().monotonic >= self.node.rest.next_tick()[1] - TICK_S / 2:
                self.node.tick(self.instant())
                if hasty:
                    self._hasten(self.node, RESTING_TICK_S if resting else TICK_S)
                self.wake()
            if self.node.operations.count:
                for step in range(1, ALARMS):
                    self.world.clockwork.after(TICK_S * step / ALARMS, self._alarms, life)

    def _part(self, node: Node) -> None:
        """As the service does, end the links with members that have left, or all, if its own has."""
        ends = {node.peers.number_of[at] for at in node.peers.ends(self.instant())}
        for number in sorted(ends):
            self.world.network.break_between(self.index, self.world.index_of[number])

    def place(self, other: int) -> int | None:
        """Of another machine among the members that its node knows."""
        assert self.node is not None
        return self.node.peers.index_of.get(self.world.numbers[other])

    def knows(self, other: int) -> bool:
        """Whether another machine is a member, and this one too, as far as its node knows."""
        place = self.place(other) if self.node is not None else None
        return place is not None and self.node is not None and self.node.peers.wanted(place)

    def _hasten(self, node: Node, tick_s: float) -> None:
        """Rounds that were put off just now come sooner, and as far from each other in ticks."""
        now_s, due_s = self.instant().monotonic, node.scheduler.due_s
        for member, at in due_s.items():
            if at - now_s >= ROUND_S_MIN:
                due_s[member] = now_s + (at - now_s) * HASTE_TICKS * tick_s

    def _alarms(self, life: int) -> None:
        """Between two ticks, while requests are under way."""
        node = self.node
        if (
            self.life == life
            and node is not None
            and not self.paused
            and node.operations.tick(self.instant())
        ):
            self.wake()

    def wake(self) -> None:
        """A turn follows, once for all that comes until then."""
        if not self._turning:
            self._turning = True
            self._clockwork.after(self.plan.turn_s, self._turn, self.life)

    def _turn(self, life: int) -> None:
        node = self.node
        if self.paused:
            self._backlog.append((self._turn, (life,)))
            return
        if self.life != life or node is None:
            return
        self._turning = False
        self.turned_s = self._clockwork.now
        now = self.instant()
        self._hear_frames(now)
        newest = node.step(now)
        self.world.log_watch.look(self)
        if node.intake.broken:
            self._disconnect(node)
        if node.intake.ready or node.scheduler.unfinished:
            self.wake()
        if node.group_commit.stalled or self._stalled is not None:
            self._judge_stall(node)
        if newest is not None and not self._syncing:
            self._sync(node, newest, now)
        if node.introductions.take_relink():
            self.world.counts["rollback noticed"] += 1
            self.world.network.break_all(self)
        if self.pause_in_turn:
            self.pause()
            self.pause_in_turn = False
        if self.paused:
            self._backlog.append((self._flush, (life,)))
        else:
            self._flush(life)

    def _flush(self, life: int) -> None:
        """The outboxes leave."""
        node = self.node
        if self.life != life or node is None:
            return
        if not node.ready:
            return
        order = self._order
        ready = [outbox for outbox in node.ready if outbox in order]
        node.ready.clear()
        if len(ready) > 1:
            ready.sort(key=order.__getitem__)
        for outbox in ready:
            while outbox.messages and self.life == life:
                self._send(outbox)

    def _send(self, outbox: Outbox) -> None:
        end = self._ends[outbox]
        messages = outbox.take()
        if isinstance(end, Link):
            target = end.other(self).index
            world = self.world
            world.trace(self.index, target, messages)
            world.network.carry(end, self, messages)
            messages = singly(messages)
            says, armed, sent = world.witness.says, world.triggers.armed, world.sent
            for message in messages:
                kind = type(message)
                sent[kind] += 1
                look = says.get(kind)
                if look is not None:
                    look(self, target, message)
                if armed and kind in TOLD:
                    world.triggers.sent(self, target, message)
        else:
            self.world.trace(self.index, -1 - end.client.index, messages)
            told = self._told_singly(outbox, end, messages)
            if told:
                end.carry(told)
                self.world.triggers.answered(self, told)

    def _told_singly(
        self, outbox: Outbox, end: "Session | Line | Liar", messages: list[Message]
    ) -> list[Message]:
        """What each request is told: of those that were shed, that nothing was done."""
        told: list[Message] = []
        if self.world.plan.requests_max:
            self.world.refusals.told(self, outbox, messages)
        for message in singly(messages):
            if isinstance(message, Shed | Credit):
                end.heed(message)
            if isinstance(message, Shed):
                self.world.counts["shed"] += sum(message.ranges[1::2])
                for first, count in zip(message.ranges[::2], message.ranges[1::2], strict=True):
                    lost = range(first, first + count)
                    told += (Failed(each, Overloaded.code, SHED, b"", []) for each in lost)
            elif not isinstance(message, Credit | Renewed):  # of members and buckets clients here know all
                told.append(message)
        return told

    # --- the disk ----------------------------------------------------------------------------

    def _judge_stall(self, node: Node) -> None:
        """While a batch is refused it does not grow by what others ask for, nor by what goes on by itself.
        But each request that was under way may still want a hint to be kept."""
        rows, now = node.group_commit.held, self._clockwork.now
        if not node.group_commit.stalled:
            if self._stalled is not None and now - self._stalled[0] > LONG_STALL_S:
                self.world.counts["batch taken after long"] += 1
            self._stalled = None
        elif self._stalled is None:
            self._stalled = (now, rows + node.operations.count)
            self.world.counts["batch refused"] += 1
        elif rows > self._stalled[1] + STALLED_ROWS_MAX:
            self.world.blame("stalls", f"n{self.index + 1} has a refused batch that grows: {rows}")
            self._stalled = (now, rows)

    def _sync(self, node: Node, newest: int, now: Instant) -> None:
        if self.config.syncs == "never":
            self.disk.sync()
            node.durable(newest, now)
            self.wake()
        elif node.sync_watch.begins(now):
            self._syncing = True
            if self.sync_s < TICK_S:
                seconds = self._stream.tail(self.sync_s, self.stalls) + 1e-4 + self.slow_s
            else:  # so slow a disk does not also hang for half a minute
                seconds = self.sync_s * self._stream.uniform(0.7, 1.3) + self.slow_s
            pending = len(self.disk.pending)
            self.world.clockwork.after(seconds, self._synced, self.life, newest, pending)

    def _synced(self, life: int, barrier: int, pending: int) -> None:
        if self.life != life:
            return
        if self._hung:
            self.world.counts["sync hung"] += 1
            self._held, self.hung_since = (life, barrier, pending), self._clockwork.now
            return
        if self.failing:
            self.world.counts["stopped by a failed fsync"] += 1
            self.crash("fsync failed")
            self.world.clockwork.after(0.3, self.start)
            return
        self.disk.settle(pending)
        self.enter(self._flushed, life, barrier)

    def _flushed(self, life: int, barrier: int) -> None:
        if self.life == life and self.node is not None:
            self._syncing = False
            self.node.durable(barrier, self.instant())
            self.wake()

    # --- links and clients -------------------------------------------------------------------

    def _register(self, outbox: Outbox, end: "Link | Session | Line | Liar") -> Outbox:
        self._ends[outbox] = end
        self._order[outbox] = self.world.number()
        return outbox

    def open_link(self, link: Link) -> Outbox:
        assert self.node is not None
        place = self.place(link.other(self).index)
        assert place is not None
        outbox = self.node.link(place, self.instant())
        self.world.witness.linked(self, link.other(self).index)
        self.wake()
        return self._register(outbox, link)

    def close_link(self, link: Link, outbox: Outbox) -> None:
        assert self.node is not None
        place = self.place(link.other(self).index)
        assert place is not None
        self.node.unlink(place, outbox, self.instant())
        self._ends.pop(outbox, None)
        self._order.pop(outbox, None)
        self.wake()

    def tell_all(self, message: Message) -> None:
        """It is about to end: everybody who is connected is told."""
        self.leaving = True
        for outbox in self._ends:
            outbox.put(message)
        self.wake()

    @property
    def awaited(self) -> bool:
        """Whether some client has no answer yet."""
        return any(end.waits for end in self._ends.values() if not isinstance(end, Link))

    def open_client(self, session: "Session | Line | Liar") -> Outbox:
        assert self.node is not None
        outbox = self.node.open_client(tenant=session.client.tenant, room=session.room)
        return self._register(outbox, session)

    def hear(self, member: int, outbox: Outbox, messages: list[Message]) -> None:
        """Messages of a peer."""
        if self.node is None:
            return
        now = self.instant()
        for message in singly(messages):
            if type(message) in HEARD:
                self.world.witness.heard(self, member, message)
        try:
            place = self.node.peers.index_of[self.world.numbers[member]]
            unexpected = self.node.receive(place, outbox, messages, now)
        except ProtocolError as error:
            unexpected = None
            self.world.blame("protocol", f"n{self.index + 1} refused what n{member + 1} said: {error}")
        if unexpected is not None:
            self.world.blame("protocol", f"n{member + 1} said {unexpected}")
        self.wake()

    def hear_client(self, outbox: Outbox, life: int, message: Message) -> None:
        if self.node is None or self.life != life:
            return
        if self.leaving:
            self.world.counts["refused after a goodbye"] += 1
            outbox.put(failure(getattr(message, "id", 0), Overloaded(STOPPING)))
            self.wake()
        elif (
            isinstance(message, Set | Delete)
            and message.defer
            and not self.world.plan.requests_max
            and self._busy
        ):
            self.node.deferred_writes.defer(outbox, message, self.instant())
            self.wake()
        else:
            self._frames.setdefault(outbox, []).append(message)
            self.wake()

    @property
    def _busy(self) -> bool:
        """Whether it has too much to do just now, as it says to those who may be put off."""
        moment = int(self._clockwork.now / BUSY_S)
        return Stream(self.world.plan.seed, f"busy {self.index} {moment}").chance(BUSY)

    def _hear_frames(self, now: Instant) -> None:
        """What clients have asked since the last turn comes as their library sends it."""
        assert self.node is not None
        frames, self._frames = self._frames, {}
        for outbox, messages in frames.items():
            if outbox not in self._ends:
                continue
            asked = sorted(messages, key=lambda each: each.id)  # type: ignore[attr-defined]
            if self.world.plan.requests_max:
                intake = self.node.intake
                shut = partial(intake.shut, intake.caller(outbox))
                intake.offer(outbox, self.world.refusals.frames(self, outbox, asked, shut), now)
            else:  # in groups, but only of what is in a frame anyway
                cut = [frame._replace(requests=together(frame.requests)) for frame in unsealed(asked)]
                self.node.intake.offer(outbox, cut, now)

    def hear_sealed(self, outbox: Outbox, data: bytes) -> None:
        """A frame of a client, as it stands on the wire."""
        assert self.node is not None
        self.node.intake.offer(outbox, [self.world.refusals.frame(self, outbox, data)], self.instant())
        self.wake()

    def close_client(self, outbox: Outbox) -> None:
        """A client ends its connection."""
        if self._ends.pop(outbox, None) is not None and self.node is not None:
            del self._order[outbox]
            self.node.intake.close(outbox)

    def _disconnect(self, node: Node) -> None:
        """As the service does, those whose frames are not what they seemed."""
        for outbox, reason in list(node.intake.broken.items()):
            end = self._ends.pop(outbox)
            del self._order[outbox]
            node.intake.close(outbox)
            assert not isinstance(end, Link)
            if not end.client.lies:
                self.world.blame("envelopes", f"n{self.index + 1} disconnects who says what is so: {reason}")
            end.lost()
