"""Register clients: loops that ask for registers alone, wait, repeat, and write down what they were told.

    cas       set, compared with an absence, a version or a value; increment; delete, compared or not; reads
              at quorum, and at one
    agreed    the first write wins; reads

A write that may have happened is repeated as itself, at once or much later, at its node or another: by what
its client was told that it is known by, or by nothing but what the client has proposed. It stays one
operation, from when it was first asked until its last answer.
"""

from typing import TYPE_CHECKING

from basestore.consistency import Level
from basestore.errors import Contended, InvalidRequest, Overloaded, Unavailable, VersionLost
from basestore.intake.caller import ROOM_MAX
from basestore.protocol.client import (
    ADD,
    IF_ABSENT,
    IF_VALUE,
    IF_VERSION,
    NO_CONDITION,
    OUTCOME_LOST,
    Credit,
    Delete,
    Failed,
    Get,
    Got,
    Set,
    Shed,
    Written,
)
from basestore.protocol.codec import Message, decode, encode
from basestore.protocol.handshake import Goodbye
from basestore.repair.version import PROPOSAL_BYTES
from tests.simulation.clients import GRACE_S, Session
from tests.simulation.clockwork import Stream
from tests.simulation.history import CLOCK_SKEW
from tests.simulation.plan import RegisterClientPlan

if TYPE_CHECKING:
    from tests.simulation.machine import Machine
    from tests.simulation.register_worlds import RegisterWorld

PENDING, STORED, LOST, REFUSED, UNKNOWN, FOUND, FAILED = (
    "pending", "stored", "lost", "refused", "unknown", "found", "failed",
)  # fmt: skip
DEFINITE = {InvalidRequest.code, Unavailable.code, Overloaded.code, CLOCK_SKEW, Contended.code}
CAS, AGREED = "cas", "agreed"
GET, SET, DELETE = "get", "set", "delete"
BACK_OFF_S = 0.02
AGAIN_S = 0.01
OWN, OWNED = 0.15, " own"
REPEATS_MAX = 4
LEFT_MAX = 8  # writes whose outcome is not known, and which may be repeated one day
KNOWN_MAX = 4  # versions of a row that a client remembers
WHAT = (
    ("read", 25.0), ("one", 4.0), ("set", 10.0), ("version", 22.0), ("absent", 8.0), ("value", 8.0),
    ("add", 12.0), ("delete", 3.0), ("delete version", 4.0), ("again", 4.0),
)  # fmt: skip
TIMEOUTS_MS = (120, 400, 900, 900)
LEVELS = (Level.QUORUM, Level.QUORUM, Level.SERIAL, Level.ALL, Level.ONE)


class Operation:
    """One, with all its attempts. `version`: what a write is known by, or a read has shown, or stands in the
    place that a write has lost."""

    __slots__ = (
        "attempts", "client", "condition", "end", "expected", "found", "identity", "kind", "known_by",
        "level", "may_be", "number", "order", "outcome", "place", "proposal", "requests", "row", "shown",
        "start", "timeout_ms", "ttl_ms", "value", "version", "why",
    )  # fmt: skip

    def __init__(self, number: int, client: int, kind: str, row: tuple[str, str], start: float) -> None:
        self.number, self.client, self.kind, self.row, self.start = number, client, kind, row, start
        self.end, self.outcome = float("inf"), PENDING
        self.condition, self.expected, self.value, self.ttl_ms = NO_CONDITION, b"", b"", 0
        self.level, self.timeout_ms, self.proposal = Level.QUORUM, 900, b""
        self.identity = b""  # as which it is repeated
        self.known_by = b""  # the version behind that
        self.version = self.shown = self.order = b""
        self.found = False
        self.may_be = False  # some attempt may have been taken
        self.attempts, self.place, self.why = 0, -1, ""
        self.requests: list[int] = []

    def __repr__(self) -> str:
        what = f"{self.kind}/{self.condition} {self.level.name} of {self.row[1]} by c{self.client}"
        return f"{what} at {self.start:.4f}..{self.end:.4f}: {self.outcome} {self.version.hex()[:40]}"


class RegisterSession(Session):
    """A connection; its answers go to a client of registers."""

    def carry(self, messages: list[Message]) -> None:
        """Answers leave the node, in order."""
        world = self.client.world
        if world.plan.network.encoded:
            messages = decode(encode(messages))
        answers = []
        for message in messages:
            if isinstance(message, Goodbye):
                self.leaving = True
                continue
            operation = self.waiting.pop(message.id, None)  # type: ignore[attr-defined]
            if operation is None:
                world.blame("answers", f"n{self.machine.index + 1} answered twice or unasked: {message}")
            else:
                answers.append((operation, message))
        arrival = self._last = max(world.clockwork.now + world.client_delay(), self._last + 1e-6)
        world.clockwork.at(arrival, self.client.hear, answers)


class RegisterClient:
    """One loop."""

    tenant, lies, deaf = "", False, False

    def __init__(self, world: "RegisterWorld", plan: RegisterClientPlan) -> None:
        self.world, self.plan, self.index = world, plan, plan.number
        self.stream = Stream(world.plan.seed, f"registers {plan.number}")
        self._sessions: dict[int, RegisterSession] = {}
        self._home = self.stream.below(len(world.machines))
        self._request = self._place = 0
        self._known: dict[str, list[tuple[bytes, bytes]]] = {}  # versions and values that it was told of
        self._left: list[Operation] = []
        self._floors: dict[tuple[str, str], bytes] | None = {} if self.stream.chance(0.3) else None

    # --- the loop ----------------------------------------------------------------------------

    def begin(self) -> None:
        """Ask for something, unless the clients' time is over."""
        world, stream = self.world, self.stream
        if world.clockwork.now >= world.plan.seconds:
            return
        if stream.chance(self.plan.roams):
            self._home = stream.below(len(world.machines))
        what = stream.weighted(WHAT)
        if what == "again" and self._left:
            operation = self._left.pop(stream.below(len(self._left)))
            world.counts["repeated much later"] += 1
            operation.outcome, operation.end = PENDING, float("inf")
            self._try(operation)
            return
        operation, kept = self._draw(what), world.plan.operations
        operation.place, self._place = self._place, self._place + 1
        if kept is None or (self.index, operation.place) in kept:
            self._try(operation)
        else:
            world.asked.remove(operation)
            world.clockwork.after(stream.exponential(self.plan.loop_s), self.begin)

    def _draw(self, what: str) -> Operation:
        stream = self.stream
        if stream.chance(0.12):
            key = f"a{int(self.world.clockwork.now * 6)}-{stream.below(2)}"
            kind = GET if what in ("read", "one") else SET
            operation = self.operation(kind, AGREED, key)
        else:
            kind = GET if what in ("read", "one") else DELETE if what.startswith("delete") else SET
            # Now and then one that nobody else asks for: there what is repeated may still be found.
            own = stream.chance(OWN)
            row = self.index if own else stream.below(self.plan.rows)
            # One of three rows counts: there mostly numbers are added.
            counts = row % 3 == 0
            if counts and kind == SET and not stream.chance(0.06):
                what = "add"
            elif what == "add" and not counts and not stream.chance(0.05):
                what = "set"
            operation = self.operation(kind, CAS, f"{'n' if counts else 'k'}{row}{OWNED * own}")
            self._condition(operation, what)
        if operation.kind == GET:
            operation.level = Level.ONE if what == "one" else stream.pick(LEVELS[:4])
        else:
            operation.level = stream.pick(LEVELS)
        return operation

    def _condition(self, operation: Operation, what: str) -> None:
        stream = self.stream
        known = self._known.get(operation.row[1], ())
        if what.endswith("version"):
            operation.condition = IF_VERSION if known else IF_ABSENT
            operation.expected = self._recent(known)[0] if known else b""
        elif what == "absent":
            operation.condition = IF_ABSENT
        elif what == "value" and known:
            operation.condition, operation.expected = IF_VALUE, self._recent(known)[1]
        elif what == "add":
            operation.condition, operation.value = ADD, b"%d" % (stream.below(9) - 3)
        if operation.kind == SET and operation.condition != ADD and stream.chance(0.06):
            operation.ttl_ms = 40 + stream.below(900)

    def _recent(self, known: list[tuple[bytes, bytes]]) -> tuple[bytes, bytes]:
        return known[-1] if self.stream.chance(0.8) else self.stream.pick(known)

    def operation(self, kind: str, bucket: str, key: str) -> Operation:
        """A new one, begun now."""
        operation = self.world.begin_operation(self.index, kind, bucket, key)
        stream, number = self.stream, operation.number
        operation.timeout_ms = stream.pick(TIMEOUTS_MS)
        if kind != GET and not stream.chance(0.1):
            operation.proposal = (number + 1).to_bytes(PROPOSAL_BYTES)
        if kind == SET:
            few = key.startswith("k") and stream.chance(0.3)  # values that come again
            operation.value = b"%d" % (number % 2 if few else number)
        return operation

    def _try(self, operation: Operation) -> None:
        """Send it, to the home node or, if that does not run, to another."""
        machine = self.world.machines[self._home]
        if machine.node is None or machine.leaving or machine.gone:
            self._home = self.stream.below(len(self.world.machines))
            machine = self.world.machines[self._home]
        if machine.node is None:
            self.end(operation, UNKNOWN if operation.may_be else REFUSED)
            return
        self.ask(machine, operation)

    def ask(self, machine: "Machine", operation: Operation) -> None:
        """Send a request to a machine that runs."""
        world = self.world
        session = self._sessions.get(machine.index)
        if session is None or session.life != machine.life:
            session = self._sessions[machine.index] = RegisterSession(self, machine)  # type: ignore[arg-type]
        self._request += 1
        request = self._request
        operation.requests.append(request)
        operation.attempts += 1
        session.waiting[request] = operation  # type: ignore[assignment]
        message = self.message(operation, request)
        world.clockwork.after(world.client_delay(), self._arrive, session, machine, message)
        patience_s = operation.timeout_ms / 1e3 + GRACE_S
        world.clockwork.in_vain(patience_s, self._waits, self._give_up, request, operation)

    def message(self, operation: Operation, request: int) -> Message:
        bucket, key = operation.row[0], operation.row[1].encode()
        level, timeout_ms = int(operation.level), operation.timeout_ms
        if operation.kind == GET:
            floor = b"" if self._floors is None else self._floors.get(operation.row, b"")
            return Get(request, bucket, key, level, timeout_ms, floor, True)
        identity = operation.identity or operation.proposal
        repeats = operation.attempts > 1 and operation.may_be
        if operation.kind == DELETE:
            return Delete(
                request, bucket, key, level, timeout_ms, identity, repeats,
                condition=operation.condition, expected=operation.expected,
            )  # fmt: skip
        return Set(
            request, bucket, key, operation.value, level, timeout_ms, operation.ttl_ms, identity, repeats,
            condition=operation.condition, expected=operation.expected,
        )  # fmt: skip

    def _arrive(self, session: RegisterSession, machine: "Machine", message: Message) -> None:
        if machine.paused:
            machine.enter(self._arrive, session, machine, message)
        elif machine.life == session.life and not session.outbox.closed:
            if self.world.recording:
                self.world.say(machine.index, f"c{self.index} asks", repr(message))
            machine.hear_client(session.outbox, session.life, message)

    # --- answers -----------------------------------------------------------------------------

    def hear(self, answers: list[tuple[Operation, Message]]) -> None:
        for operation, message in answers:
            if self._waits(message.id, operation):  # type: ignore[attr-defined]
                self.take(operation, message)

    def heed(self, session: Session, message: Shed | Credit) -> None:
        """It does not."""

    def room(self, session: Session) -> int:
        return ROOM_MAX

    def lose(self, session: Session) -> None:
        """The connection broke."""
        waiting, session.waiting = session.waiting, {}
        for request, operation in waiting.items():
            self._give_up(request, operation)  # type: ignore[arg-type]

    def _waits(self, request: int, operation: Operation) -> bool:
        return operation.outcome == PENDING and operation.requests[-1] == request

    def _give_up(self, request: int, operation: Operation) -> None:
        if self._waits(request, operation):
            self.wonder(operation)

    def wonder(self, operation: Operation) -> None:
        """No answer will come."""
        if operation.kind == GET:
            self.end(operation, FAILED)
            return
        self._doubt(operation, operation.identity or operation.proposal)

    def _doubt(self, operation: Operation, identity: bytes) -> None:
        """A write may have happened: perhaps it is asked for again."""
        stream, operation.may_be = self.stream, True
        operation.identity = identity
        if not identity:
            self.end(operation, UNKNOWN)
        elif operation.attempts <= REPEATS_MAX and stream.chance(0.6):
            by = "its proposal" if len(identity) == PROPOSAL_BYTES else "its version"
            self.world.counts[f"repeated by {by}"] += 1
            if stream.chance(0.5):
                self._home = stream.below(len(self.world.machines))
            wait_s = stream.exponential(AGAIN_S * 3 ** min(operation.attempts, 4))
            self.world.clockwork.after(wait_s, self._try, operation)
        else:
            self.end(operation, UNKNOWN)
            if operation.attempts <= 2 * REPEATS_MAX and len(self._left) < LEFT_MAX:
                self._left.append(operation)

    def take(self, operation: Operation, message: Message) -> None:
        if isinstance(message, Written):
            operation.order, operation.found, operation.shown = message.order, message.held, message.value
            if message.outcome == OUTCOME_LOST:
                operation.version = message.better
                self.end(operation, LOST)
            else:
                operation.version = operation.known_by = message.version
                operation.proposal = operation.proposal or message.identity[:PROPOSAL_BYTES]
                self.end(operation, STORED)
        elif isinstance(message, Got):
            operation.found, operation.shown = message.found, message.value
            operation.version, operation.order = message.version, message.order
            self.end(operation, FOUND)
        else:
            assert isinstance(message, Failed)
            self._fail(operation, message)

    def _fail(self, operation: Operation, failed: Failed) -> None:
        self.world.counts[f"code {failed.code}"] += 1
        operation.why = failed.text
        if operation.kind == GET:
            floor = (self._floors or {}).get(operation.row, b"")
            row = self.world.row(*operation.row)
            chains = self.world.chains
            if failed.code == VersionLost.code and not (chains and chains.may_be_gone(row, floor)):
                self.world.blame("sessions", f"{operation}: {failed.text[:120]}")
            self.end(operation, FAILED)
        elif failed.code in DEFINITE:
            self.end(operation, UNKNOWN if operation.may_be else REFUSED)
        else:
            identity = failed.identity
            operation.proposal = operation.proposal or identity[:PROPOSAL_BYTES]
            if operation.identity[PROPOSAL_BYTES:] and not identity[PROPOSAL_BYTES:]:
                identity = operation.identity
            if identity[PROPOSAL_BYTES:]:
                operation.known_by = identity[PROPOSAL_BYTES : PROPOSAL_BYTES + 24]
                if self.stream.chance(0.15) and operation.proposal:  # it forgets what it was told
                    identity = operation.proposal
            self._doubt(operation, identity)

    def end(self, operation: Operation, outcome: str) -> None:
        operation.outcome, operation.end = outcome, self.world.clockwork.now
        self._remember(operation)
        self.world.register_ended(operation)
        turned_away = outcome in (REFUSED, FAILED)
        pause_s = BACK_OFF_S if turned_away else self.plan.loop_s
        self.world.clockwork.after(self.stream.exponential(pause_s), self.begin)

    def _remember(self, operation: Operation) -> None:
        if operation.order and self._floors is not None:
            row = operation.row
            self._floors[row] = max(self._floors.get(row, b""), operation.order)
        if not operation.version or operation.outcome not in (STORED, LOST, FOUND):
            return
        value = operation.shown if operation.found else operation.value
        known = self._known.setdefault(operation.row[1], [])
        known.append((operation.version, value))
        del known[:-KNOWN_MAX]
