"""Clients: loops that ask, wait, repeat, and write down what they were told.

What a client asks is drawn in `workload.py`; some are in a session.

A write that may have happened is repeated with its version now and then, perhaps at another node, and one of
which no word came by what its client has proposed: it stays the same operation. What was refused for certain
and never sent before did not happen.
"""

from typing import TYPE_CHECKING

from basestore.cluster.outbox import Outbox
from basestore.consistency import Level
from basestore.coordinator.admission import CROWDED
from basestore.intake.caller import ROOM_MAX
from basestore.protocol.client import (
    UNTAKEN,
    Credit,
    Delete,
    Failed,
    Get,
    Got,
    Page,
    Scan,
    Set,
    Shed,
    Written,
)
from basestore.protocol.codec import Message, decode, encode
from basestore.protocol.handshake import Goodbye
from basestore.repair.version import PROPOSAL_BYTES
from basestore.replica.replica import DIGEST_BYTES_MIN
from basestore.results.readers import page
from basestore.results.receipts import Item
from tests.simulation import history as h
from tests.simulation import stored as s
from tests.simulation.clockwork import Stream
from tests.simulation.library import Library
from tests.simulation.plan import ClientPlan
from tests.simulation.workload import draw

if TYPE_CHECKING:
    from tests.simulation.machine import Machine
    from tests.simulation.world import PlannedWorld

GRACE_S = 0.3
BACK_OFF_S = 0.03
OUTSTANDING_MAX = 8
REPEATS_MAX = 3
SESSIONS = 0.3
SESSIONS_SOON = 0.7  # where proofs come soon: there reads of sessions may be degraded
TIMEOUTS = 7
VOLLEYS = 0.015  # so often a client asks much at once
VOLLEY_SIZES = (1, 1, 2, 3, 5, 8, 13, 34, 255)  # beside the first
VOLLEY_SHARE = 8  # of the operations that a node has room for, at most
DEFERRABLE = 0.02  # of the writes that are not at ANY anyway
EXAMINE = "examine"  # the workload of who asks in the end
STRONG_THEMES = ("races", "swaps", "ambushes")  # what they are after only quorums show
LONG = bytes(DIGEST_BYTES_MIN)
DEFINITE_CODES = {1: "InvalidRequest", 2: "Unavailable", 3: "Overloaded", h.CLOCK_SKEW: "ClockSkew"}
KEEPS_UP = "not keep up"  # how disks do that hang
WRITE_TIMEOUT, READ_TIMEOUT = 5, 6
WRITTEN = (h.STORED, h.SUPERSEDED, h.LOST, h.STORED)
IN_SESSION = [(Level.ONE, 6.0), (Level.QUORUM, 3.0), (Level.ANY, 1.0)]


class Session:
    """A client's connection to a machine, for as long as both last."""

    def __init__(self, client: "Client", machine: "Machine") -> None:
        self.client = client
        self.machine = machine
        self.life = machine.life
        self.waiting: dict[int, h.Operation] = {}
        self.leaving = False  # the machine has said goodbye
        self._last = 0.0
        self.outbox: Outbox = machine.open_client(self)

    def carry(self, messages: list[Message]) -> None:
        """Answers leave the node: judge them on the spot, deliver them in order."""
        world = self.client.world
        if world.plan.network.encoded:
            messages = decode(encode(messages))
        answers = []
        for message in messages:
            if isinstance(message, Goodbye):
                world.clockwork.after(world.client_delay(), self._hear_goodbye)
                continue
            world.counts["answered after a goodbye"] += self.machine.leaving
            request: int = message.id  # type: ignore[attr-defined]
            operation = self.waiting.pop(request, None)
            if operation is None:
                world.blame("answers", f"n{self.machine.index + 1} answered twice or unasked: {message}")
            else:
                world.witness.answered(self.machine, operation, message)
                answers.append((operation, message))
        arrival = self._last = max(world.clockwork.now + world.client_delay(), self._last + 1e-6)
        world.clockwork.at(arrival, self.client.hear, answers)

    def room(self) -> int:
        """For how many answers there is."""
        return self.client.room(self)

    @property
    def waits(self) -> bool:
        """Whether it lacks answers."""
        return bool(self.waiting)

    def heed(self, message: Shed | Credit) -> None:
        """What its node takes at once."""
        world = self.client.world
        world.clockwork.after(world.client_delay(), self.client.heed, self, message)

    def _hear_goodbye(self) -> None:
        self.leaving = True

    def lost(self) -> None:
        """The machine is gone: so are all answers that have not left."""
        world = self.client.world
        last = max(self._last, world.clockwork.now)
        world.clockwork.at(last + world.client_delay(), self.client.lose, self)


class Client:
    """One loop. Requests have numbers of their own; `Operation.requests` lists them. `tenant`: whose share of
    a node it takes; `lies`: it says what is not so; `deaf`: now and then it
    takes no answers, so that some of what it asks waits for long."""

    tenant, lies, deaf = "", False, False

    def __init__(self, world: "PlannedWorld", plan: ClientPlan) -> None:
        self.world = world
        self.plan = plan
        self.index = plan.number
        self.stream = Stream(world.plan.seed, f"client {plan.number}")
        self._sessions: dict[int, Session] = {}
        self._home = self.stream.below(len(world.machines))
        self._request = 0
        self._outstanding = 0
        self._place = 0
        self._volleys = Stream(world.plan.seed, f"volleys {plan.number}")
        self._defers = Stream(world.plan.seed, f"defers {plan.number}")
        self._degrading = Stream(world.plan.seed, f"degrading {plan.number}")
        self._beside: set[int] = set()  # places of what was asked at once with another: no loop goes on there
        self._together_s: float | None = None  # how long it all is on its way
        self._seen: dict[tuple[str, str], bytes] | None = None  # by bucket and key; None: no session
        self._untaken = set[tuple[str, str]]()  # of these what no replica is known to have taken
        sessions = SESSIONS_SOON if world.plan.hasty else SESSIONS
        sessions = 0.0 if world.plan.theme in STRONG_THEMES else sessions
        sessions = 1.0 if world.plan.theme == "sessions" else sessions
        in_session = Stream(world.plan.seed, f"session {plan.number}").chance(sessions)
        if in_session and plan.workload != EXAMINE:
            self._seen = {}
        self._page: h.Operation | None = None  # one that more may follow
        self._library: Library | None = None
        if self._seen is not None and world.plan.library:
            self._library = Library(world.cluster.id)

    def seen(self) -> dict[tuple[str, str], bytes]:
        """What its session of the library was told of, by bucket and key; nothing without one."""
        return {} if self._seen is None or self._library is None else dict(self._seen)

    def read(self, bucket: str, key: str) -> h.Operation:
        """A read in its session, at ONE and with no bound, that is yet to be asked."""
        operation = self.operation(h.GET, bucket, key, Level.ONE)
        operation.repair, operation.tell, operation.stale_ms_max = True, False, 0
        return operation

    # --- the loop ----------------------------------------------------------------------------

    def begin(self) -> None:
        """Ask something, unless the clients' time is over."""
        world = self.world
        if world.clockwork.now >= world.plan.seconds:
            return
        rest = world.plan.rest
        if rest is not None and rest[0] <= world.clockwork.now < rest[1]:
            world.clockwork.at(rest[1] + self.stream.exponential(0.05), self.begin)
            return
        if self.plan.open:
            world.clockwork.after(self.stream.exponential(self.plan.loop_s), self.begin)
            if self._outstanding >= OUTSTANDING_MAX:
                return
        if self.plan.roams and self.stream.chance(0.1):
            self._home = self.stream.below(len(world.machines))
        operation = self._turn_page() or self._draw()
        volley = [operation, *self._more(operation)]
        self._together_s = world.client_delay() if volley[1:] else None
        for place, each in enumerate(volley):
            self._begin(each, beside=place > 0)
        self._together_s = None

    def _begin(self, operation: h.Operation, *, beside: bool) -> None:
        operation.place, self._place = self._place, self._place + 1
        self._outstanding += 1
        if beside:
            self._beside.add(operation.place)
        kept = self.world.plan.operations
        if kept is None or (self.index, operation.place) in kept:
            self._try(operation)
        else:
            self.world.history.operations.remove(operation)
            self._finish(operation)

    def _more(self, first: h.Operation) -> list[h.Operation]:
        """Now and then much is asked at once, as one frame brings it; most of it has all but keys and values
        in common."""
        if self.plan.workload == EXAMINE or not self._volleys.chance(VOLLEYS):
            return []
        room = (self.world.plan.operations_max or 8 * VOLLEY_SIZES[-1]) // VOLLEY_SHARE
        more = [self._draw() for _ in range(min(room, self._volleys.pick(VOLLEY_SIZES)))]
        alike = self._volleys.chance(0.8)
        for each in more if alike else ():
            each.timeout_ms = first.timeout_ms
            if (first.level is not Level.ANY or each.writes) and not each.defer:
                each.level, each.strong = first.level, first.strong
        self.world.counts["volleys"] += 1
        return more

    def burst(self, machine: "Machine", count: int) -> None:
        """Ask so much at once."""
        for _ in range(count):
            operation = self._draw()
            operation.place, self._place = self._place, self._place + 1
            self._outstanding += 1
            self.ask(machine, operation)

    def _finish(self, operation: h.Operation) -> None:
        self._outstanding -= 1
        if operation.place in self._beside:
            self._beside.discard(operation.place)
        elif not self.plan.open:
            turned_away = operation.outcome in (h.REFUSED, h.FAILED)
            pause_s = BACK_OFF_S if turned_away else self.plan.loop_s
            self.world.clockwork.after(self.stream.exponential(pause_s), self.begin)

    def _try(self, operation: h.Operation) -> None:
        """Send it, to the home node or, if that does not run, to another."""
        machine = self.world.machines[self._home]
        if machine.node is None or self._turned_away(machine):
            self._home = self.stream.below(len(self.world.machines))
            machine = self.world.machines[self._home]
        if machine.node is None:  # nobody to ask
            self._end(operation, h.TIMEOUT if operation.stamped else h.REFUSED)
            return
        self.ask(machine, operation)

    def _turned_away(self, machine: "Machine") -> bool:
        """Whether the machine has told this client that it ends, or would take no new one."""
        session = self._sessions.get(machine.index)
        if session is None or session.life != machine.life:
            return machine.leaving
        return session.leaving or machine.gone

    def ask(self, machine: "Machine", operation: h.Operation) -> None:
        """Send a request to a machine that runs."""
        world = self.world
        session = self._sessions.get(machine.index)
        if session is None or session.life != machine.life:
            session = self._sessions[machine.index] = Session(self, machine)
        self._request += 1
        request = self._request
        operation.requests.append(request)
        operation.attempts += 1
        operation.node = machine.index
        session.waiting[request] = operation
        message = request_of(operation, request)
        if self._library is not None and operation.session:
            message = self._library.begin(request, message, operation)
        delay_s = world.client_delay() if self._together_s is None else self._together_s
        world.clockwork.after(delay_s, self._arrive, session, machine, message, operation)
        patience_s = operation.timeout_ms / 1e3 + GRACE_S
        world.clockwork.in_vain(patience_s, self._waits, self._give_up, session, request, operation)

    def _arrive(self, session: Session, machine: "Machine", message: Message, operation: h.Operation) -> None:
        if machine.paused:
            machine.enter(self._arrive, session, machine, message, operation)
            return
        if machine.life == session.life and not session.outbox.closed:
            if not self.deaf:
                self.world.witness.asked(machine, operation, message.id)  # type: ignore[attr-defined]
            if self.world.recording:
                self.world.say(machine.index, f"c{self.index} asks", repr(message))
            machine.hear_client(session.outbox, session.life, message)

    # --- answers -----------------------------------------------------------------------------

    def hear(self, answers: list[tuple[h.Operation, Message]]) -> None:
        for operation, message in answers:
            request: int = message.id  # type: ignore[attr-defined]
            if self._library is not None:
                self._library.end(request, message)
            if operation.requests[-1] == request:
                self._take(operation, message)

    def heed(self, session: Session, message: Shed | Credit) -> None:
        """Most do not."""

    def room(self, session: Session) -> int:
        """For how many answers there is, on their way through a session."""
        return ROOM_MAX

    def lose(self, session: Session) -> None:
        """The connection broke."""
        waiting, session.waiting = session.waiting, {}
        for request, operation in waiting.items():
            self._miss(request)
            if operation.requests[-1] == request and operation.outcome == h.PENDING:
                self._wonder(operation)

    def _wonder(self, operation: h.Operation) -> None:
        """No answer will come. A write is perhaps repeated as what it was proposed as, or is known by."""
        operation.stamped = operation.stamped or operation.writes
        known_by = operation.identity or proposal_of(operation)
        repeats = operation.writes and known_by and operation.attempts <= REPEATS_MAX
        if not repeats or not self.stream.chance(0.6):
            self._end(operation, h.GONE)
            return
        operation.identity = known_by
        if len(known_by) == PROPOSAL_BYTES:
            self.world.counts["repeated by its proposal"] += 1
            operation.anew = operation.bucket == "once"
        self._home = self.stream.below(len(self.world.machines))
        self.world.clockwork.after(self.stream.exponential(0.05), self._try, operation)

    def _miss(self, request: int) -> None:
        if self._library is not None:
            self._library.end(request, None)

    def _waits(self, session: Session, request: int, operation: h.Operation) -> bool:
        return self._library is not None or (
            operation.outcome == h.PENDING and operation.requests[-1] == request
        )

    def _give_up(self, session: Session, request: int, operation: h.Operation) -> None:
        self._miss(request)
        if operation.outcome == h.PENDING and operation.requests[-1] == request:
            self.world.witness.silent(session.machine, session.life, operation, request)
            self._wonder(operation)

    def _take(self, operation: h.Operation, message: Message) -> None:
        if operation.outcome != h.PENDING:
            return
        if isinstance(message, Written):
            self.world.counts["repeated by its proposal, and told"] += (
                len(operation.identity) == PROPOSAL_BYTES
            )
            operation.stamped = operation.stamped or bool(message.version)
            operation.version = message.version or operation.version
            operation.winner, operation.final = message.better, message.final
            operation.acknowledged = message.acknowledged
            self._end(operation, WRITTEN[message.outcome])
        elif isinstance(message, Got):
            operation.found, operation.value = message.found, message.value
            operation.shown, operation.final = bool(message.version), message.final
            operation.stale_ms, operation.escalated = message.stale_ms, message.escalated
            if message.degraded:
                self.world.counts["read degraded"] += 1
                operation.degraded, operation.level, operation.strong = True, Level.ONE, False
            operation.version, operation.expires_ms = message.version, message.expires_ms
            if not operation.version:
                row = self.world.row(operation.bucket, operation.key)
                operation.version = self.world.witness.holdings.purged(row)
            self._end(operation, h.FOUND)
        elif isinstance(message, Page):
            items, operation.cursor = page(message)
            operation.page = [(item.key.decode(), item.value, item.version.encode()) for item in items]
            if self._library is None or not self._revise(operation, self._library, items):
                self._end_scan(operation, h.FOUND)
        else:
            assert isinstance(message, Failed)
            self._fail(operation, message)

    def _revise(self, scan: h.Operation, library: Library, items: list[Item]) -> bool:
        """Whether the session must read some keys of a page for itself; it does."""
        keys = library.doubtful(scan, items)
        reads = [self.operation(h.GET, scan.bucket, key, scan.level) for key in keys]
        library.revise(scan, reads)
        for read in reads:
            self.world.counts["key of a page read again"] += 1
            self._try(read)
        return bool(reads)

    def _end_scan(self, scan: h.Operation, outcome: str) -> None:
        self._page = scan if scan.cursor is not None and outcome == h.FOUND else None
        if self._library is not None and outcome == h.FOUND:
            self._library.show(scan)
        self._end(scan, outcome)

    def _fail(self, operation: h.Operation, failed: Failed) -> None:
        definite = DEFINITE_CODES.get(failed.code)
        if definite:
            self.world.counts[definite] += 1
            self.world.counts["too many under way"] += failed.text.startswith(CROWDED.partition(";")[0])
            self.world.counts["refused: a disk does not keep up"] += KEEPS_UP in failed.text
        if not operation.writes:
            operation.code = failed.code
            self._end(operation, h.FAILED)
        elif failed.version:
            operation.version, operation.stamped = failed.version, True
            operation.identity = failed.identity
            if operation.attempts <= REPEATS_MAX and self.stream.chance(0.6):
                self.world.counts["repeated with its version"] += 1
                if self.stream.chance(0.5):
                    self._home = self.stream.below(len(self.world.machines))
                self.world.clockwork.after(self.stream.exponential(0.02), self._try, operation)
            else:
                self._end(operation, h.TIMEOUT if failed.code == WRITE_TIMEOUT else h.FAILED)
        elif definite or failed.code == READ_TIMEOUT:  # a first write that failed while it read
            self._end(operation, h.TIMEOUT if operation.stamped else h.REFUSED)
        else:
            operation.stamped = True
            self._end(operation, h.FAILED)

    def _end(self, operation: h.Operation, outcome: str) -> None:
        operation.outcome = outcome
        operation.end = self.world.clockwork.now
        if self._seen is not None and operation.session:
            self._note_seen(operation, self._seen)
        self.world.ended(operation)
        if self._library is not None:
            scan, whole = self._library.revised(operation)
            if scan is not None:
                if whole and scan.end == h.INF:
                    self._end_scan(scan, h.FOUND if scan.outcome == h.PENDING else h.FAILED)
                return
        self._finish(operation)

    def _note_seen(self, operation: h.Operation, seen: dict[tuple[str, str], bytes]) -> None:
        """A session remembers the newest version that it was told of."""
        at = operation.bucket, operation.key
        row = self.world.row(operation.bucket, operation.key)
        for version in h.told(operation):
            if at not in seen or s.beats(row, version, seen[at]):
                seen[at] = version
                self._untaken.discard(at)
                if operation.writes and operation.outcome == h.STORED and not operation.acknowledged:
                    self._untaken.add(at)

    # --- what to ask -------------------------------------------------------------------------

    def _turn_page(self) -> h.Operation | None:
        """The page after the last one, more often than not."""
        before, self._page = self._page, None
        if before is None or not self.stream.chance(0.7):
            return None
        operation = self.operation(h.SCAN, before.bucket, before.key, before.level)
        assert before.cursor is not None
        operation.after = before.cursor
        self.world.counts["page turned"] += 1
        return operation

    def _draw(self) -> h.Operation:
        plan = self.plan
        kind, bucket, key, level, ttl_ms = draw(
            self.stream, plan.workload, plan.all_levels, self.world.clockwork.now, self.world.plan.ttl_ms_max
        )
        if self._seen is not None:
            level = self.stream.weighted(IN_SESSION)
            level = Level.ONE if level is Level.ANY and kind in (h.GET, h.SCAN) else level
        defers = self._may_defer(kind, bucket, level)
        operation = self.operation(kind, bucket, key, Level.ANY if defers else level, ttl_ms)
        operation.defer = defers
        return operation

    def _may_defer(self, kind: str, bucket: str, level: Level) -> bool:
        """Whether a write is asked to be deferred, if its node is busy."""
        plan = self.world.plan
        if kind not in (h.SET, h.DELETE) or bucket != "default" or plan.durability != "sync":
            return False
        share = 0.5 if level is Level.ANY else 0.0 if plan.theme in STRONG_THEMES else DEFERRABLE
        return self._defers.chance(share)

    def operation(self, kind: str, bucket: str, key: str, level: Level, ttl_ms: int = 0) -> h.Operation:
        """A new operation of this client, begun now."""
        operation = self.world.history.begin(self.index, kind, bucket, key, level)
        operation.start = self.world.clockwork.now
        least_ms = 720 if self.world.plan.theme == "swaps" else 80  # there the late must count
        # Of a few lengths: only what has its timeout in common with others is done together with them.
        operation.timeout_ms = least_ms + (920 - least_ms) * self.stream.below(TIMEOUTS) // TIMEOUTS
        operation.ttl_ms = ttl_ms
        operation.session = self._seen is not None and (kind != h.SCAN or self._library is not None)
        if self._seen is not None and kind == h.GET and self._library is None:
            operation.floor = self._seen.get((bucket, key), b"")
            operation.untaken = (bucket, key) in self._untaken
            self.world.counts["read in a session"] += bool(operation.floor)
        if kind == h.SET:
            operation.value = b"%d." % operation.number
            if self.stream.chance(0.1):
                operation.value += LONG  # of these, reads ask for digests
        elif kind == h.GET:
            operation.repair = level is not Level.ONE or self.stream.chance(0.8)
            asks = self.world.plan.library and operation.repair and self.plan.workload != EXAMINE
            if asks and self.stream.chance(0.5):
                operation.tell = True
                operation.stale_ms_max = self.stream.pick((0, 0, 300, 2000, 6000))
            if self.plan.workload != EXAMINE and self._degrading.chance(0.5):
                operation.degrade_ms = self._degrading.pick((1000, 10_000, 60_000))
        elif kind == h.SCAN:
            operation.limit = 3 + self.stream.below(20)
        return operation


def proposal_of(operation: h.Operation) -> bytes:
    """What its client proposes that a write be known by. Some propose nothing."""
    return (operation.number + 1).to_bytes(PROPOSAL_BYTES) if operation.client % 4 else b""


def request_of(operation: h.Operation, request: int) -> Message:
    """The message that asks for it."""
    level, timeout_ms, key = int(operation.level), operation.timeout_ms, operation.key.encode()
    identity = operation.identity or proposal_of(operation)
    if operation.kind == h.SET:
        return Set(
            request, operation.bucket, key, operation.value, level, timeout_ms, operation.ttl_ms,
            identity, operation.identity != b"", 0, operation.defer,
        )  # fmt: skip
    if operation.kind == h.DELETE:
        repeats = operation.identity != b""
        return Delete(
            request, operation.bucket, key, level, timeout_ms, identity, repeats, 0, operation.defer
        )
    if operation.kind == h.GET:
        return Get(
            request, operation.bucket, key, level, timeout_ms,
            operation.floor + UNTAKEN * operation.untaken, operation.repair,
            operation.tell, operation.stale_ms_max,
            operation.degrade_ms if operation.strong and not operation.stale_ms_max else 0,
        )  # fmt: skip
    return Scan(request, operation.bucket, key, operation.after, operation.limit, level, timeout_ms)
