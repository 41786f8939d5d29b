"""Intake: the one door for what clients ask. A frame waits here unopened, and is begun or refused as a whole.

    offer     what was read from a client: into the queue of its class, behind what else its tenant asks
    admit     in each step: refuse what has waited too long; open the next ones as long as there is room
    settle    behind each step: what was answered makes room, and callers are told how much there is for them

What there is room for, and whose turn it is, `room.py` says; while another node does not keep up the house
counts as full. What is refused was neither opened nor stamped, and cost next to nothing: the node says so in
one `Shed` for all that a caller loses in a step. Of a tenant of whom so much waits that more would be refused
at once (WAITING_ROOMS), the rest is not even kept when it is read (`shut`).

Between nodes nothing is refused here: the client of that work was let in. Callers whose answers there is no
room for, for they do not take them, are begun no further; what waits for them costs the others nothing.

A frame is held against its envelope when it is opened. Who lies, or says what no client may, is named in
`broken`, and is to be disconnected.
"""

from collections.abc import Callable, Collection, Iterable
from typing import Any, Final

from basestore.cluster.outbox import Outbox
from basestore.config import REQUESTS_MAX_DEFAULT
from basestore.errors import InvalidRequest
from basestore.instant import Instant
from basestore.intake.brownout import Brownout
from basestore.intake.caller import DEFERRED, Caller, Lane, Opened, Tenant, unbounded
from basestore.intake.fair_queue import STANDING_WAIT_S_MAX, FairQueue, Waiting, class_in
from basestore.intake.figures import UNKNOWN, Door, Figures, Lately
from basestore.intake.most_shed import MostShed
from basestore.intake.room import Room
from basestore.intake.windows import Windows
from basestore.protocol.client import Failed, Shed
from basestore.protocol.codec import Decoder, Message
from basestore.protocol.envelopes import ADMIN, CLASSES, DEFERRABLE, READ, WRITE, Sealed, Skimmed, Unsealed
from basestore.protocol.groups import first, requests_in, with_less
from basestore.protocol.limits import ProtocolError, UnknownKind

UNOPENED_BYTES_MAX: Final = 1 << 20  # of a caller
ALL_UNOPENED_BYTES_MAX: Final = 64 << 20  # of a node
WAITING_ROOMS: Final = 4  # may wait of a tenant and class; what comes beyond that is refused at once
LATE: Final = 8  # a request that has waited more than this part of its time is told to take less

Begin = Callable[[Outbox, list[Any], Instant], Any]
Defer = Callable[[Outbox, list[Any], Instant], int]
Frame = Sealed | Skimmed | Unsealed


class Intake:
    """Of one node. `offered`, `begun` and `shed` count requests, by class."""

    def __init__(self, begin: Begin, defer: Defer, requests_max: int = REQUESTS_MAX_DEFAULT) -> None:
        """`begin`: has the node begin requests; what it returns no client may say. `defer`: has it keep for
        later what may be deferred of them, and refuse the rest: how many."""
        self._begin_requests = begin
        self._defer_requests = defer
        self._waiting_max = WAITING_ROOMS * requests_max
        self.windows = Windows(requests_max)
        self.brownout = Brownout()
        self.broken: dict[Outbox, str] = {}
        self.offered, self.begun, self.shed = [0] * 4, [0] * 4, [0] * 4
        self._shed_lately, self._most_shed = Lately(), MostShed()
        self._opening = ADMIN, 0  # of the frame that was opened last: its class, and how many ms it waited
        self.unopened_bytes = 0
        self._queues = [FairQueue() for _ in CLASSES]
        self.room = Room(self._queues, requests_max)
        self._callers: dict[Outbox, Caller] = {}
        self._tenants: dict[str, Tenant] = {}
        self._asked: dict[Caller, None] = {}  # of whom something is under way
        self._clogged: dict[Caller, None] = {}
        self._losers: dict[Caller, None] = {}

    # --- who asks ----------------------------------------------------------------------------

    def open(
        self, outbox: Outbox, tenant: str = "", decoder: Decoder | None = None,
        room: Callable[[], int] = unbounded,
    ) -> Caller:  # fmt: skip
        """A client has connected."""
        decoder = decoder or Decoder()
        outbox.version = decoder.version
        shared = self._tenants.setdefault(tenant, Tenant(tenant))
        shared.callers += 1
        caller = self._callers[outbox] = Caller(outbox, shared, decoder, room)
        return caller

    def tell(self, message: Message, versions: range, size: int) -> None:
        """Say something to all clients that speak one of these versions."""
        for outbox in self._callers:
            if outbox.version in versions:
                outbox.put(message, size, 0)

    def caller(self, outbox: Outbox) -> Caller:
        """Whose answers come in there."""
        return self._callers[outbox]

    def close(self, outbox: Outbox) -> None:
        """It is gone. What is under way for it goes on, and takes room until it is answered."""
        outbox.close()
        caller = self._callers.pop(outbox, None)
        if caller is None:
            return
        for queue in self._queues:
            for waiting in queue.drop(caller, caller.tenant):
                self._unqueue(waiting)
        for waiting in caller.behind:
            self._unqueue(waiting)
        caller.behind.clear()  # at once: what it refers to refers to it
        caller.rest = READ, [], 0
        self._clogged.pop(caller, None)
        self._losers.pop(caller, None)
        self.broken.pop(outbox, None)
        if caller not in self._asked:
            self._part(caller.tenant)

    def _part(self, tenant: Tenant) -> None:
        """A caller of it is gone, and all that it has asked is answered."""
        tenant.callers -= 1
        if not tenant.callers:
            self._most_shed.collect(tenant)
            del self._tenants[tenant.name]

    def offer(self, outbox: Outbox, frames: Iterable[Frame], now: Instant) -> bool:
        """Frames that were read just now. False if there is no room for more of this caller: what was beyond
        it is refused, and it should not be read from for a while."""
        caller = self._callers[outbox]
        caller.heard_s = now.monotonic
        roomy = True
        for frame in frames:
            kind, asks = class_in(frame), frame.asks
            self.offered[kind] += asks
            queue = self._queues[kind]
            if isinstance(frame, Skimmed) or (
                self._crowded(queue, caller.tenant) and not frame.kind & DEFERRABLE
            ):
                self.brownout.refused()
                self._lose(caller, kind, frame.first, asks)
            elif self.unopened_bytes > ALL_UNOPENED_BYTES_MAX:
                roomy = False
                self.brownout.refused()
                self._lose(caller, kind, frame.first, asks)
            elif caller.bytes > UNOPENED_BYTES_MAX:  # its own affair: this node may have nothing to do
                roomy = False
                self._lose(caller, kind, frame.first, asks)
            else:
                size = frame.size
                caller.bytes += size
                self.unopened_bytes += size
                queue.put(caller.tenant, Waiting(caller, frame, now.monotonic))
        return roomy

    def shut(self, caller: Caller) -> Collection[int]:
        """The classes of which no more of its tenant may wait, as envelopes name them: who reads from it need
        not keep those frames."""
        return [kind for kind, queue in enumerate(self._queues) if self._crowded(queue, caller.tenant)]

    def _crowded(self, queue: FairQueue, tenant: Tenant) -> bool:
        """Whether so much of a tenant waits there that what comes is refused at once."""
        return queue.asks > self._waiting_max and queue.asks_of(tenant) > self._waiting_max

    @property
    def waiting(self) -> int:
        """How many requests wait to be begun."""
        return sum(queue.asks for queue in self._queues)

    @property
    def ready(self) -> bool:
        """Whether something waits that there is room for: the next step should come at once."""
        return self.room.asked_for

    @property
    def at_rest(self) -> bool:
        """Whether nothing waits."""
        for queue in self._queues:  # in each step: a generator would take four times as long
            if queue.asks:
                return False
        return not self._clogged

    # --- in each step ------------------------------------------------------------------------

    def admit(self, now: Instant, backlog: int = 0) -> None:
        """Refuse what has waited too long, and begin what there is room for. `backlog`: how many bytes wait
        to be sent to the node that takes least."""
        self.room.heed(backlog)
        if self.at_rest and not self._losers:
            return
        if self._clogged:
            self._unclog(now)
        for queue in self._queues:
            if queue.asks:
                for waiting in queue.overdue(now.monotonic):
                    self._unqueue(waiting)
                    if self._short_of_room(waiting, now.monotonic):
                        self.brownout.refused()
                    self._refuse(waiting, now)
        while (entering := self.room.next()) is not None:
            caller = entering.caller
            if caller.clogged:
                caller.behind.append(entering)
            else:
                self._open(entering, now)
        if self._losers:
            self._tell_losers()

    def _open(self, waiting: Waiting, now: Instant) -> None:
        """Begin what is in a frame."""
        self._unqueue(waiting)
        if waiting.hopeless(now.monotonic):  # it stood behind one with more time
            self._refuse(waiting, now)
            return
        requests = self._opened(waiting)
        waited_ms = int((now.monotonic - waiting.read_s) * 1e3)
        if waited_ms * LATE > waiting.frame.timeout_ms > 0:
            requests = [with_less(each, waited_ms) for each in requests]
        kind, _ = self._opening = class_in(waiting.frame), waited_ms
        if requests:
            self._begin(waiting.caller, (kind, requests, waiting.frame.size), now)

    def _opened(self, waiting: Waiting) -> list[Any]:
        """The requests in a frame; none where that is wrong, and its caller is told, or disconnected."""
        caller, frame, _ = waiting
        try:
            requests: list[Any] = frame.open(caller.decoder)
            return requests
        except UnknownKind as error:
            text = f"{error}, and this node cannot do it: upgrade it, or ask another one; nothing was done"
            for request in range(frame.first, frame.first + frame.asks):
                caller.outbox.put(Failed(request, InvalidRequest.code, text, b"", []))
        except ProtocolError as error:
            self.broken[caller.outbox] = str(error)
        return []

    def _begin(self, caller: Caller, opened: Opened, now: Instant) -> None:
        """As many as there is room for the answers of."""
        kind, requests, size = opened
        taken, rest = first(requests, max(0, caller.room()))
        count, later_bytes = requests_in(taken), 0
        if rest:
            self._clogged[caller] = None
            later = requests_in(rest)
            later_bytes = size * later // (count + later)
        caller.rest = kind, rest, later_bytes
        if not taken:
            return
        self.begun[kind] += count
        self._count(caller, kind, count, size - later_bytes)
        unexpected = self._begin_requests(caller.lane(kind), taken, now)
        if unexpected is not None:
            what = type(unexpected).__name__
            self.broken[caller.outbox] = f"a {what} message is not for this kind of connection"

    def _count(self, caller: Caller, lane: int, count: int, size: int) -> None:
        caller.asked += count
        caller.lane(lane).under_way.append((count, size))
        self._asked[caller] = None
        self.room.take(caller.tenant, lane, count, size)

    def _unclog(self, now: Instant) -> None:
        for caller in list(self._clogged):
            while caller.behind and caller.behind[0].hopeless(now.monotonic):
                self._open(caller.behind.popleft(), now)
            while caller.clogged and caller.room() > 0:
                if caller.rest[1]:
                    self._opening = caller.rest[0], UNKNOWN
                    self._begin(caller, caller.rest, now)
                else:
                    self._open(caller.behind.popleft(), now)
            if not caller.clogged:
                del self._clogged[caller]

    # --- what is refused ---------------------------------------------------------------------

    def _unqueue(self, waiting: Waiting) -> None:
        size = waiting.frame.size
        waiting.caller.bytes -= size
        self.unopened_bytes -= size

    def _short_of_room(self, waiting: Waiting, now_s: float) -> bool:
        """Whether it was refused for this node does not keep up: not for it had next to no time, nor for its
        caller takes no answers, nor for operators ask too much at once."""
        if class_in(waiting.frame) == ADMIN:
            return False
        return not self.room.plenty or now_s - waiting.read_s > STANDING_WAIT_S_MAX

    def _refuse(self, waiting: Waiting, now: Instant) -> None:
        """It has waited too long: do nothing of it, or keep for later what may be kept."""
        frame, caller = waiting.frame, waiting.caller
        if not frame.kind & DEFERRABLE:
            self._lose(caller, class_in(frame), frame.first, frame.asks)
            return
        requests = self._opened(waiting)
        if requests:
            self._count(caller, DEFERRED, frame.asks, frame.size)
            refused = self._defer_requests(caller.lane(DEFERRED), requests, now)
            self.begun[WRITE] += frame.asks - refused
            self.shed[WRITE] += refused
            caller.tenant.shed += refused

    def _lose(self, caller: Caller, kind: int, first_id: int, asks: int) -> None:
        self.shed[kind] += asks
        caller.tenant.shed += asks
        caller.lose(first_id, asks)
        self._losers[caller] = None

    def _tell_losers(self) -> None:
        """One answer for all that a caller has lost."""
        retry_ms = self.windows.retry_ms
        for caller in self._losers:
            lost, caller.lost = caller.lost, []
            caller.window = self.windows.of(caller)
            caller.outbox.put(Shed(lost, retry_ms, caller.window))
        self._losers.clear()

    # --- behind each step --------------------------------------------------------------------

    def settle(self) -> None:
        """What was answered is under way no more, whether or not its caller takes the answers."""
        for caller in list(self._asked):
            settled = False
            for kind, lane in caller.lanes.items():
                if lane.answered != lane.settled:
                    settled = True
                    count, size = lane.settle()
                    self.room.take(caller.tenant, kind, -count, -size)
            if settled and caller.under_way <= 0:
                del self._asked[caller]
                if caller.outbox.closed:
                    self._part(caller.tenant)
            if settled and not caller.outbox.closed:
                credit = self.windows.changed(caller)
                if credit is not None:
                    caller.outbox.put(credit)

    def tick(self, now: Instant) -> int:
        """Look how many ask, and whether too much was asked for; the brownout's level."""
        self.brownout.tick(now.monotonic)
        self._shed_lately.tick(self.shed, now.monotonic)
        self._most_shed.tick(self._tenants.values(), now.monotonic)
        self.windows.tick(self._callers.values(), sum(self.offered), sum(self.begun), now.monotonic)
        return self.brownout.level

    def figures(self) -> Figures:
        """How it stands."""
        return Figures(
            tuple(self.offered), tuple(self.begun), tuple(self.shed), self._shed_lately.of(self.shed),
            tuple(self.room.under_way), tuple(queue.asks for queue in self._queues), self.room.requests_max,
            self.unopened_bytes, min(map(self.windows.of, self._callers.values()), default=None),
            self.brownout.level, self.windows.retry_ms, self._most_shed.of(self._tenants.values()),
        )  # fmt: skip

    def door(self, outbox: Outbox) -> Door:
        """How the request has fared that is being begun, of this caller."""
        caller = self._callers.get(outbox.outbox if isinstance(outbox, Lane) else outbox)
        return Door(*self._opening, self.windows.of(caller) if caller else UNKNOWN, self.brownout.level)
