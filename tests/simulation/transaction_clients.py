"""Transaction clients: loops that ask for several registers at once, or for pages of them; and, now and then,
for one, as their likes do (`register_clients.py`).

A transaction reads some of its keys, each by a read of its own, or goes by what it was told of them before;
then it is committed at one node, once: there is no repeating it. Where what it had read has changed it is
begun anew, mostly. What its client was not told for certain is not known, for good.
"""

from typing import TYPE_CHECKING, Any, NamedTuple

from basestore.consistency import Level
from basestore.errors import Conflict
from basestore.protocol.client import (
    DELETE,
    HOLDS_NOTHING,
    READ,
    SET,
    Commit,
    Committed,
    Failed,
    Page,
    Scan,
)
from basestore.protocol.codec import Message
from tests.simulation.plan import RegisterClientPlan
from tests.simulation.register_clients import (
    CAS,
    DEFINITE,
    FAILED,
    FOUND,
    GET,
    OWNED,
    PENDING,
    REFUSED,
    UNKNOWN,
    Operation,
    RegisterClient,
)

if TYPE_CHECKING:
    from tests.simulation.transaction_worlds import TransactionWorld

COMMITTED, CONFLICT, ABANDONED = "committed", "conflict", "abandoned"
SIZES = ((1, 2.0), (2, 6.0), (3, 3.0), (4, 1.0), (5, 1.0))
READS, SETS, BLIND, DELETES, BLIND_DELETE = "reads", "sets", "blind", "deletes", "blind delete"
WHAT = ((READS, 3.0), (SETS, 4.0), (BLIND, 1.5), (DELETES, 0.6), (BLIND_DELETE, 0.3))
KINDS = {READS: READ, SETS: SET, BLIND: SET, DELETES: DELETE, BLIND_DELETE: DELETE}
TIMEOUTS_MS = {1000: (200, 400, 900, 900), 3000: (400, 900, 2700), 5000: (4500,)}  # by how long any may last
BACK_OFF_S = 0.15
SWEEPS, AT_ONE, TO_LIVE, FROM_MEMORY, TOGETHER, ANEW = 0.06, 0.3, 0.06, 0.1, 0.6, 0.7
ATTEMPTS_MAX = 4
FIRST_VALUE, VALUES = 1_000_000_000, 1000  # of what transactions write each value is another one, also by far


class Part(NamedTuple):
    """What is done with a key. `expected`: as in `Commit`; `shown`: the value that was read of it, if any."""

    key: str
    what: str
    expected: bytes = b""
    shown: bytes | None = None
    value: bytes = b""
    ttl_ms: int = 0

    @property
    def kind(self) -> int:
        return KINDS[self.what]

    @property
    def reads(self) -> bool:
        return self.what in (READS, SETS, DELETES)


class Asked:
    """What is asked for once. `asked_s`: since when it is to be done."""

    may_be, client = False, 0

    def __init__(self, number: int, client: int, start: float) -> None:
        self.number, self.client, self.start = number, client, start
        self.asked_s = self.end = float("inf")
        self.outcome, self.why, self.place, self.attempts = PENDING, "", -1, 0
        self.timeout_ms, self.requests = 900, list[int]()


class Transact(Asked):
    """A transaction. `parts` in their order; `versions`: of what it has written."""

    def __init__(self, number: int, client: int, start: float) -> None:
        super().__init__(number, client, start)
        self.parts, self.versions, self.tries = list[Part](), list[bytes](), 1

    @property
    def writes(self) -> list[Part]:
        return [part for part in self.parts if part.kind != READ]

    @property
    def is_alone(self) -> bool:
        """Whether it is one write, and nothing besides: a compare-and-set."""
        return len(self.parts) == len(self.writes) == 1

    def __repr__(self) -> str:
        what = ", ".join(f"{part.what} {part.key}" for part in self.parts)
        times = f"{self.start:.4f}, {self.asked_s:.4f}..{self.end:.4f}"
        return f"T{self.number} ({what}) by c{self.client} at {times}: {self.outcome} {self.why[:80]}"


class Sweep(Asked):
    """A page of keys that begin so."""

    def __init__(self, number: int, client: int, start: float) -> None:
        super().__init__(number, client, start)
        self.asked_s = start
        self.prefix, self.level, self.limit = "", Level.QUORUM, 100
        self.rows, self.more, self.upto = list[tuple[bytes, bytes, bytes]](), False, b""

    def __repr__(self) -> str:
        times = f"{self.start:.4f}..{self.end:.4f}"
        return f"scan {self.number} {self.level.name} of {self.prefix!r} by c{self.client} at {times}"


class TransactionClient(RegisterClient):
    """One loop."""

    world: "TransactionWorld"

    def __init__(self, world: "TransactionWorld", plan: RegisterClientPlan) -> None:
        super().__init__(world, plan)
        self._timeouts_ms = TIMEOUTS_MS[world.plan.timeout_ms_max]
        self._reading: dict[int, tuple[Transact, int]] = {}  # by the number of a read: which part it is of

    # --- the loop ----------------------------------------------------------------------------

    def begin(self) -> None:
        world, stream = self.world, self.stream
        if world.clockwork.now >= world.plan.seconds:
            return
        if not stream.chance(self.plan.transacts):
            super().begin()
            return
        if stream.chance(self.plan.roams):
            self._home = stream.below(len(world.machines))
        asked = self._drawn_sweep() if stream.chance(SWEEPS) else self._drawn()
        asked.place, self._place = self._place, self._place + 1
        kept = world.plan.operations
        if kept is not None and (self.index, asked.place) not in kept:
            world.forget(asked)
            world.clockwork.after(stream.exponential(self.plan.loop_s), self.begin)
        elif isinstance(asked, Transact):
            self._read_all(asked)
        else:
            self._try(asked)  # type: ignore[arg-type]

    def operation(self, kind: str, bucket: str, key: str) -> Operation:
        operation = super().operation(kind, bucket, key)
        operation.timeout_ms = self.stream.pick(self._timeouts_ms)
        return operation

    def _drawn_sweep(self) -> Sweep:
        stream, sweep = self.stream, self.world.begin_sweep(self.index)
        sweep.prefix, sweep.limit = stream.pick(("", "k", "n")), stream.pick((2, 5, 100))
        sweep.level = Level.ONE if stream.chance(AT_ONE) else Level.QUORUM
        sweep.timeout_ms = stream.pick(self._timeouts_ms)
        return sweep

    def _drawn(self) -> Transact:
        stream = self.stream
        left = [f"{'k' if row % 3 else 'n'}{row}" for row in range(self.plan.rows)] + [
            f"k{self.index}{OWNED}"
        ]
        transact = self.world.begin_transaction(self.index)
        for _ in range(min(stream.weighted(SIZES), len(left))):
            key = left.pop(stream.below(len(left)))
            transact.parts.append(Part(key, stream.weighted(WHAT)))
        self._draw_values(transact)
        return transact

    def _draw_values(self, transact: Transact) -> None:
        stream, first = self.stream, FIRST_VALUE + VALUES * transact.number
        transact.timeout_ms = stream.pick(self._timeouts_ms)
        for at, part in enumerate(transact.parts):
            if part.kind == SET:
                ttl_ms = 40 + stream.below(900) if stream.chance(TO_LIVE) else 0
                transact.parts[at] = part._replace(value=b"%d" % (first + at), ttl_ms=ttl_ms)

    # --- reads -------------------------------------------------------------------------------

    def _read_all(self, transact: Transact) -> None:
        """Begin what it is to read, all at once or one by one."""
        for at, part in enumerate(transact.parts):
            known = self._known.get(part.key)
            alone = len(transact.parts) == 1 and part.kind == READ  # nothing is asked of that once more
            if part.reads and known and not alone and self.stream.chance(FROM_MEMORY):
                version, _ = self._recent(known)
                transact.parts[at] = part._replace(expected=version)
        together = self.stream.chance(TOGETHER)
        self._read_more(transact, len(transact.parts) if together else 1)

    def _read_more(self, transact: Transact, count: int) -> None:
        lacking = [at for at, part in enumerate(transact.parts) if part.reads and not part.expected]
        for at in lacking[:count]:
            if transact.outcome != PENDING:  # nobody was there to be asked
                return
            operation = self.operation(GET, CAS, transact.parts[at].key)
            self._reading[operation.number] = transact, at
            self._try(operation)
        if not lacking:
            transact.asked_s = self.world.clockwork.now
            self._try(transact)  # type: ignore[arg-type]

    def _has_read(self, operation: Operation, transact: Transact, at: int) -> None:
        if operation.outcome != FOUND:
            transact.why = "a read has failed"
        part = transact.parts[at]
        expected = operation.version if operation.found else HOLDS_NOTHING
        transact.parts[at] = part._replace(
            expected=expected, shown=operation.shown if operation.found else None
        )
        if any(other is transact for other, _ in self._reading.values()):
            return
        if transact.why:
            self.end(transact, ABANDONED)
        else:
            self._read_more(transact, 1)

    # --- what is said ------------------------------------------------------------------------

    def message(self, operation: Any, request: int) -> Message:
        if isinstance(operation, Sweep):
            prefix, level = operation.prefix.encode(), int(operation.level)
            return Scan(request, CAS, prefix, b"", operation.limit, level, operation.timeout_ms)
        if not isinstance(operation, Transact):
            return super().message(operation, request)
        parts = operation.parts
        return Commit(
            request, operation.timeout_ms, [CAS] * len(parts), [part.key.encode() for part in parts],
            [part.kind for part in parts], [part.expected for part in parts],
            [part.value for part in parts], [part.ttl_ms for part in parts],
        )  # fmt: skip

    def wonder(self, operation: Any) -> None:
        if isinstance(operation, Transact):
            self.end(operation, UNKNOWN)
        elif isinstance(operation, Sweep):
            self.end(operation, FAILED)
        else:
            super().wonder(operation)

    def take(self, operation: Any, message: Message) -> None:
        if isinstance(message, Committed):
            operation.versions = message.versions
            self.end(operation, COMMITTED)
        elif isinstance(message, Page):
            rows = message.rows
            operation.rows = list(zip(rows[::4], rows[1::4], rows[2::4], strict=True))
            operation.more, operation.upto = message.more, message.after
            self.end(operation, FOUND)
        elif isinstance(operation, Asked):
            assert isinstance(message, Failed)
            operation.why = message.text
            self.world.counts[f"code {message.code} of a {type(operation).__name__}"] += 1
            conflict = CONFLICT if message.code == Conflict.code else REFUSED
            outcome = conflict if message.code in (Conflict.code, *DEFINITE) else UNKNOWN
            self.end(operation, FAILED if isinstance(operation, Sweep) else outcome)
        else:
            super().take(operation, message)

    # --- what became of it -------------------------------------------------------------------

    def end(self, operation: Any, outcome: str) -> None:
        reading = None if isinstance(operation, Asked) else self._reading.pop(operation.number, None)
        if reading is None and not isinstance(operation, Asked):
            super().end(operation, outcome)
            return
        operation.outcome, operation.end = outcome, self.world.clockwork.now
        self.world.register_ended(operation)
        if reading is not None:
            self._remember(operation)
            self._has_read(operation, *reading)
            return
        if isinstance(operation, Transact) and outcome == COMMITTED:
            self._remember_all(operation)
        pause_s = self.plan.loop_s if outcome in (COMMITTED, FOUND) else BACK_OFF_S
        again = outcome == CONFLICT and operation.tries < ATTEMPTS_MAX and self.stream.chance(ANEW)
        go_on = (self._anew, operation) if again else (self.begin,)
        self.world.clockwork.after(self.stream.exponential(pause_s), *go_on)

    def _anew(self, before: Transact) -> None:
        """The same once more, by what is there now."""
        if self.world.clockwork.now >= self.world.plan.seconds:
            return
        self.world.counts["begun anew"] += 1
        transact = self.world.begin_transaction(self.index)
        transact.parts = [Part(part.key, part.what) for part in before.parts]
        transact.tries, transact.place = before.tries + 1, before.place
        self._draw_values(transact)
        self._read_all(transact)

    def _remember_all(self, transact: Transact) -> None:
        if len(transact.versions) != len(transact.writes):
            self.world.blame("answers", f"{transact} was told {len(transact.versions)} versions")
            return
        for part, version in zip(transact.writes, transact.versions, strict=True):
            known = self._known.setdefault(part.key, [])
            if part.kind == SET:
                known.append((version, part.value))
                del known[:-4]
