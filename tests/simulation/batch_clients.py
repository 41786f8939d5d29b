"""Batch clients: loops that write atomic batches, and now and then one key beside them; on few keys, so that
they meet.

What may have happened is repeated as itself, at any node, by what the client was told that it is known by, or
by nothing but what it has drawn: that writes nothing, but has the batch brought to its end. What its client
was not told for certain is not known, for good.
"""

from typing import TYPE_CHECKING, NamedTuple

from basestore.consistency import Level
from basestore.errors import InvalidRequest, Overloaded, Unavailable
from basestore.intake.caller import ROOM_MAX
from basestore.protocol.client import (
    DELETE,
    OUTCOME_STORED,
    SET,
    BatchWritten,
    Credit,
    Delete,
    Failed,
    Get,
    Got,
    Set,
    Shed,
    WriteBatch,
    Written,
)
from basestore.protocol.codec import Message
from basestore.repair.version import PROPOSAL_BYTES
from tests.simulation.clients import GRACE_S, Session
from tests.simulation.clockwork import Stream
from tests.simulation.history import CLOCK_SKEW
from tests.simulation.register_clients import RegisterSession

if TYPE_CHECKING:
    from tests.simulation.batch_worlds import BatchWorld
    from tests.simulation.machine import Machine

PENDING, STORED, REFUSED, UNKNOWN, SUPERSEDED = "pending", "stored", "refused", "unknown", "superseded"
FOUND = "found"  # of a read: whatever there is
DEFINITE = {InvalidRequest.code, Unavailable.code, Overloaded.code, CLOCK_SKEW}
BUCKET = "default"
BATCH, ALONE, READ = "batch", "alone", "read"
SIZES = ((1, 1.0), (2, 4.0), (3, 4.0), (5, 2.0), (8, 1.0))
BATCHES, DELETES, TO_LIVE, AT_ALL, ROAMS = 0.65, 0.4, 0.05, 0.1, 0.2
TIMEOUTS = (0.2, 0.5, 0.9, 0.9)  # of how long any may last
REPEATS_MAX, REPEATED = 5, 0.7
IMPATIENT = 0.15  # so often an answer is not waited for to its end
FORGETS = 0.2  # so often only what was drawn is remembered
BACK_OFF_S, AGAIN_S = 0.05, 0.05


class BatchPlan(NamedTuple):
    """Of a client: of how many keys it writes; the time between two requests."""

    number: int
    keys: int
    loop_s: float


class Asked:
    """What is asked for, with all its attempts. `writes`: by key, None to delete."""

    def __init__(self, number: int, client: int, kind: str, start: float) -> None:
        self.number, self.client, self.kind, self.start = number, client, kind, start
        self.end, self.outcome, self.why = float("inf"), PENDING, ""
        self.writes = dict[str, bytes | None]()
        self.level, self.timeout_ms, self.ttl_ms = Level.QUORUM, 900, 0
        self.proposal = (number + 1).to_bytes(PROPOSAL_BYTES)
        self.identity = self.proposal
        self.versions, self.attempts, self.may_be = list[bytes](), 0, False
        self.requests = list[int]()

    def __repr__(self) -> str:
        times = f"{self.start:.4f}..{self.end:.4f}"
        what = f"{self.kind} {self.number} of {', '.join(self.writes)} by c{self.client}"
        return f"{what} at {times}: {self.outcome} {self.why[:120]}"


class BatchClient:
    """One loop."""

    tenant, lies, deaf = "", False, False

    def __init__(self, world: "BatchWorld", plan: BatchPlan) -> None:
        self.world, self.plan, self.index = world, plan, plan.number
        self.stream = Stream(world.plan.seed, f"batches {plan.number}")
        self._sessions: dict[int, RegisterSession] = {}
        self._home = self.stream.below(len(world.machines))
        self._request = 0

    # --- the loop ----------------------------------------------------------------------------

    def begin(self) -> None:
        """Ask for something, unless the clients' time is over, or they rest."""
        now, rest = self.world.clockwork.now, self.world.plan.rest
        if now >= self.world.plan.seconds:
            return
        if rest is not None and rest[0] <= now < rest[1]:
            self.world.clockwork.at(rest[1] + self.stream.exponential(0.05), self.begin)
            return
        if self.stream.chance(ROAMS):
            self._home = self.stream.below(len(self.world.machines))
        self._try(self._draw())

    def _draw(self) -> Asked:
        stream, world = self.stream, self.world
        asked = world.begin_asked(self.index, BATCH if stream.chance(BATCHES) else ALONE)
        count = min(self.plan.keys, stream.weighted(SIZES)) if asked.kind == BATCH else 1
        while len(asked.writes) < count:
            value = None if stream.chance(DELETES) else b"%d" % asked.number
            asked.writes[f"b{stream.below(self.plan.keys)}"] = value
        asked.timeout_ms = round(stream.pick(TIMEOUTS) * world.plan.timeout_ms_max)
        if stream.chance(TO_LIVE):
            asked.ttl_ms = 100 + stream.below(900)
        if stream.chance(AT_ALL):
            asked.level = Level.ALL
        return asked

    def read(self, key: str) -> None:
        """Once, at all replicas: what is damaged is found."""
        asked = self.world.begin_asked(self.index, READ)
        asked.writes[key], asked.level = None, Level.ALL
        self._try(asked)

    def _try(self, asked: Asked) -> None:
        """Send it, to the home node or, if that does not run, to another."""
        machine = self.world.machines[self._home]
        if machine.node is None or machine.leaving or machine.gone:
            self._home = self.stream.below(len(self.world.machines))
            machine = self.world.machines[self._home]
        if machine.node is None:
            self._end(asked, UNKNOWN if asked.may_be else REFUSED)
            return
        self._ask(machine, asked)

    def _ask(self, machine: "Machine", asked: Asked) -> None:
        world = self.world
        session = self._sessions.get(machine.index)
        if session is None or session.life != machine.life:
            session = self._sessions[machine.index] = RegisterSession(self, machine)  # type: ignore[arg-type]
        self._request += 1
        asked.requests.append(self._request)
        asked.attempts += 1
        session.waiting[self._request] = asked  # type: ignore[assignment]
        message = self._message(asked, self._request)
        world.clockwork.after(world.client_delay(), self._arrive, session, machine, message)
        patience_s = asked.timeout_ms / 1e3 + GRACE_S
        if asked.kind == BATCH and self.stream.chance(IMPATIENT):  # then it is under way twice
            patience_s = self.stream.random() * asked.timeout_ms / 1e3
        world.clockwork.in_vain(patience_s, self._waits, self._give_up, self._request, asked)

    def _message(self, asked: Asked, request: int) -> Message:
        level, timeout_ms, keys = int(asked.level), asked.timeout_ms, [key.encode() for key in asked.writes]
        values = list(asked.writes.values())
        if asked.kind == READ:
            return Get(request, BUCKET, keys[0], level, timeout_ms, b"", True)
        if asked.kind == ALONE:
            if values[0] is None:
                return Delete(request, BUCKET, keys[0], level, timeout_ms, asked.proposal)
            return Set(request, BUCKET, keys[0], values[0], level, timeout_ms, asked.ttl_ms, asked.proposal)
        ttls_ms = [0 if value is None else asked.ttl_ms for value in values]
        kinds = [DELETE if value is None else SET for value in values]
        return WriteBatch(
            request, level, timeout_ms, asked.identity, asked.may_be, [BUCKET] * len(keys), keys, kinds,
            [value or b"" for value in values], ttls_ms,
        )  # fmt: skip

    def _arrive(self, session: RegisterSession, machine: "Machine", message: Message) -> None:
        if machine.paused:
            machine.enter(self._arrive, session, machine, message)
        elif machine.life == session.life and not session.outbox.closed:
            if self.world.recording:
                self.world.say(machine.index, f"c{self.index} asks", repr(message))
            machine.hear_client(session.outbox, session.life, message)

    # --- answers -----------------------------------------------------------------------------

    def hear(self, answers: list[tuple[Asked, Message]]) -> None:
        for asked, message in answers:
            if self._waits(message.id, asked):  # type: ignore[attr-defined]
                self._take(asked, message)

    def heed(self, session: Session, message: Shed | Credit) -> None:
        """It does not."""

    def room(self, session: Session) -> int:
        return ROOM_MAX

    def lose(self, session: Session) -> None:
        """The connection broke."""
        waiting, session.waiting = session.waiting, {}
        for request, asked in waiting.items():
            self._give_up(request, asked)  # type: ignore[arg-type]

    def _waits(self, request: int, asked: Asked) -> bool:
        return asked.outcome == PENDING and asked.requests[-1] == request

    def _give_up(self, request: int, asked: Asked) -> None:
        """No answer will come."""
        if self._waits(request, asked):
            self._doubt(asked, b"")

    def _doubt(self, asked: Asked, identity: bytes) -> None:
        """It may have happened: perhaps it is followed."""
        stream, asked.may_be = self.stream, True
        if len(identity) > PROPOSAL_BYTES:
            asked.identity = asked.proposal if stream.chance(FORGETS) else identity
        if asked.kind != BATCH or asked.attempts > REPEATS_MAX or not stream.chance(REPEATED):
            self._end(asked, UNKNOWN)
            return
        by = "its proposal" if len(asked.identity) == PROPOSAL_BYTES else "its version"
        self.world.counts[f"followed by {by}"] += 1
        if stream.chance(0.5):
            self._home = stream.below(len(self.world.machines))
        self.world.clockwork.after(
            stream.exponential(AGAIN_S * 3 ** min(asked.attempts, 4)), self._try, asked
        )

    def _take(self, asked: Asked, message: Message) -> None:
        if isinstance(message, BatchWritten):
            asked.versions = message.versions
            self._end(asked, STORED)
        elif isinstance(message, Got):
            self._end(asked, FOUND)
        elif isinstance(message, Written):
            asked.versions = [message.version]
            self._end(asked, STORED if message.outcome == OUTCOME_STORED else SUPERSEDED)
        else:
            assert isinstance(message, Failed)
            asked.why = message.text
            self.world.counts[f"code {message.code} of a {asked.kind}"] += 1
            # Of what may have happened only that it was given up is one. It names the batch; what is said of
            # an attempt alone does not.
            if message.code in DEFINITE and (message.identity or not asked.may_be):
                self._end(asked, REFUSED)
            else:
                self._doubt(asked, message.identity)

    def _end(self, asked: Asked, outcome: str) -> None:
        asked.outcome, asked.end = outcome, self.world.clockwork.now
        self.world.asked_ended(asked)
        pause_s = BACK_OFF_S if outcome == REFUSED else self.plan.loop_s
        self.world.clockwork.after(self.stream.exponential(pause_s), self.begin)
