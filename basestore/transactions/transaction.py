"""Transaction: one of them at its coordinator, the node that the client has asked to commit it.

It was prepared by its client, which has read what it liked and written nothing (optimistic concurrency
control; Kung and Robinson, 1981). Here, in this order (Tu et al., "Silo", 2013), each step in one round:

    LAY        an intent on each row that is written, if the row holds what was read
    VALIDATE   each row that was only read: it holds that still, and no intent of another
    DECIDE     COMMITTED in a register of its own (Gray and Lamport, "Consensus on Transaction Commit", 2006)
    SETTLE     the client has its answer; each intent becomes what was decided, and the register goes

A row that was read and held nothing is written, too: that it holds nothing again proves nothing of the time
between, for what is deleted has no version to compare with. At the moment before VALIDATE all rows held at
once what was read of them: so it is as if it had been done
then, alone. If anything is otherwise it is not committed: nothing was decided, nor will it ever be but by
this node, so its intents can be rolled back at once.

One write, and nothing besides, is a compare-and-set, and made as that: its row decides it.

DECIDE is an accept request under a ballot that was drawn before the first intent was laid; acceptors take
none below in that register. Whether it was taken in time for all, `abort` finds out, as any other node would.

Two that lay intents on the same rows do not wait for each other for ever: who meets an intent of one that was
begun before it gives way, and is not committed; who meets that of a later one waits (*wait-die*; Rosenkrantz,
Stearns and Lewis, 1978). One that has had its time is ended, whichever was first.
"""

import enum
from collections.abc import Callable, Sequence
from functools import partial
from typing import Final, NamedTuple

from basestore.coordinator.attempts import Content
from basestore.coordinator.context import Context
from basestore.errors import (
    ClockSkew,
    Conflict,
    InvalidRequest,
    Overloaded,
    ReadTimeout,
    RequestFailed,
    Unavailable,
)
from basestore.instant import Instant
from basestore.leases import encode_token, token_held
from basestore.protocol.client import HOLDS_NOTHING, OUTCOME_LOST, OUTCOME_STORED
from basestore.registers.outcomes import UNREAD
from basestore.registers.registers import Registers
from basestore.registers.task import Done, Result, Task
from basestore.repair.compare_and_set import Condition
from basestore.repair.intents import ABORTED, COMMITTED, Intent, proven
from basestore.repair.version import Record
from basestore.transactions.decisions import abort, begun_ms, commit, decision_row, forget, lay, settle, write
from basestore.transactions.helping import PATIENCE_S, Helping, Waiter
from basestore.transactions.outcomes import (
    changed,
    contended,
    fenced_off,
    in_the_way,
    too_slow,
    undecided,
    undone,
)

LAYING_SHARE: Final = 0.7  # of its time, in which intents are laid and reads validated
SETTLING_S: Final = 5.0
DECIDING_S_MAX: Final = 0.3  # behind its time, in which its client still waits for a node's word


class Phase(enum.Enum):
    """What it is at."""

    LAY = "laying intents"
    VALIDATE = "validating"
    DECIDE = "deciding"
    SETTLE = "settling"
    ENDED = "ended"


class Part(NamedTuple):
    """One key of it. `name`: for people; `expected` as in `Commit`; `writes`: what it becomes, or None.
    `fences`: it is the register of a lock, and what is expected is a token. `absent`: it was only read, and
    held nothing; what it becomes is that, once more."""

    row: bytes
    name: str
    expected: bytes
    writes: Content | None
    fences: bool = False
    absent: bool = False

    @property
    def size(self) -> int:
        """Bytes that it holds."""
        return len(self.row) + len(self.expected) + (len(self.writes.value) if self.writes else 0)


class Outcome(NamedTuple):
    """It was committed: the rows that it has written, and their versions, encoded."""

    rows: list[bytes]
    versions: list[bytes]


Begin = Callable[[Sequence[Part], float, Instant], None]
Report = Callable[[Outcome | InvalidRequest | RequestFailed, Instant], None]


class Transaction:
    """`id`: the ballot that it is known by; `begun_s`: when it was."""

    def __init__(
        self, context: Context, registers: Registers, helping: Helping, parts: Sequence[Part],
        timeout_s: float, report: Report, ended: Callable[["Transaction"], None],
    ) -> None:  # fmt: skip
        """`report`: is told what became of it, once; `ended`: that there is nothing more to do."""
        self._context, self._registers, self._helping = context, registers, helping
        self._writes = [part for part in parts if part.writes is not None]
        self._reads = [part for part in parts if part.writes is None]
        self._timeout_s, self._report, self._ended = timeout_s, report, ended
        self.phase, self.id, self.begun_s, self._decided_by = Phase.LAY, b"", 0.0, b""
        self._versions: dict[bytes, bytes] = {}  # of the intents that are laid, by row
        self._failure: InvalidRequest | RequestFailed | None = None
        self._waits = 0
        self._answered = False

    @property
    def rows(self) -> list[bytes]:
        """That it writes."""
        return [part.row for part in self._writes]

    def begin(self, ballot: bytes, now: Instant) -> None:
        self.id, self.begun_s = ballot, now.monotonic
        self._lay_s = now.monotonic + self._timeout_s * LAYING_SHARE
        self._deadline = now.monotonic + self._timeout_s
        if len(self._writes) == 1 and not self._reads and not self._writes[0].absent:
            self._write_alone(self._writes[0], now)
            return
        self._waits = len(self._writes) + 1  # it goes on once all have been asked
        for part in self._writes:
            assert part.writes is not None
            condition, expected = _condition(part.expected)
            task = lay(part.writes, condition, expected, ballot, self._lay_s)
            self._registers.route(task, partial(self._laid, part), now)
        self._answered_one(now)

    def _write_alone(self, part: Part, now: Instant) -> None:
        assert part.writes is not None
        task = write(part.writes, *_condition(part.expected), self.id, self._deadline)

        def after(result: Result, now: Instant) -> None:
            if isinstance(result, Done) and result.outcome == OUTCOME_STORED:
                self._answer(Outcome([part.row], [result.version]), now)
            elif isinstance(result, Done):
                self._answer(changed(part.name, result.record), now)
            elif isinstance(result, InvalidRequest | RequestFailed):
                unknown = isinstance(result, RequestFailed) and not result.definite
                self._answer(undone(part.name) if unknown else result, now)
            self._end()

        self._registers.route(task, after, now)

    def _laid(self, part: Part, result: Result, now: Instant) -> None:
        if isinstance(result, Done) and result.outcome == OUTCOME_STORED:
            self._versions[part.row] = result.version
        else:
            self._fail(part, result)
        self._answered_one(now)

    # --- what was only read ----------------------------------------------------------------------

    def _validate(self, now: Instant) -> None:
        self.phase = Phase.VALIDATE
        self._waits = len(self._reads) + 1
        for part in self._reads:
            self._look(part, now)
        self._answered_one(now)

    def _look(self, part: Part, now: Instant) -> None:
        task = Task(part.row, self._lay_s, as_is=True)
        self._registers.read(task, partial(self._looked, part), now)

    def _looked(self, part: Part, result: Result, now: Instant) -> None:
        record = result.record if isinstance(result, Done) else None
        if record is not None and record.intent:
            if now.monotonic >= self._lay_s:  # what it comes to is not known
                self._fail(part, _unread())
            elif gives_way(self.id, record, now):
                self._failure = self._failure or in_the_way(part.name)
            else:
                self._wait(part, record, now)
                return
        elif not isinstance(result, Done):
            self._fail(part, result)
        elif not self._holds(part, record, now):
            self._fail(part, result._replace(outcome=OUTCOME_LOST))
        self._answered_one(now)

    def _wait(self, part: Part, record: Record, now: Instant) -> None:
        """Until the row does not hold this intent any more, or there is no more time for it."""

        def late(now: Instant) -> None:
            self._fail(part, _unread())
            self._answered_one(now)

        def go_on(error: RequestFailed | None, now: Instant) -> None:
            if waiter.end():
                self._look_again(part, error, now)

        waiter = Waiter(self._context, len(part.row), late)
        waiter.begin(self._lay_s)
        self._helping.wait(part.row, record, go_on, now)

    def _look_again(self, part: Part, error: RequestFailed | None, now: Instant) -> None:
        if error is None and self._failure is None:
            self._look(part, now)
        else:
            self._failure = self._failure or error
            self._answered_one(now)

    def _holds(self, part: Part, record: Record | None, now: Instant) -> bool:
        """Whether the row, which holds no intent, holds what was read of it."""
        if part.fences:
            return encode_token(token_held(record)) == part.expected
        live = record is not None and not record.tombstone
        if record is not None and live and record.expires_ms:
            time_ms = self._context.peers.clock.now_ms(now)
            if time_ms is None:
                self._failure = self._failure or self._context.stamper.expiry_unknown(now)
                return True
            live = record.live(time_ms)
        return record is not None and live and record.known_as == part.expected

    # --- what is decided -------------------------------------------------------------------------

    def _answered_one(self, now: Instant) -> None:
        self._waits -= 1
        if self._waits:
            return
        if self.phase is Phase.SETTLE:
            self._end()
        elif self._failure is not None:
            self._answer(self._failure, now)
            self._settle(ABORTED, now)
        elif self.phase is Phase.LAY and self._must_validate:
            self._validate(now)
        elif self._writes:
            self._decide(now)
        else:
            self._answer(Outcome([], []), now)
            self._end()

    @property
    def _must_validate(self) -> bool:
        """What one read has found it has found at one moment; a lock may have passed on since."""
        reads = self._reads
        return bool(reads) and (bool(self._writes) or len(reads) > 1 or reads[0].fences)

    def _decide(self, now: Instant) -> None:
        self.phase = Phase.DECIDE
        self._registers.propose(commit(self._context, self.id, self.rows, self._deadline), self._decided, now)

    def _decided(self, result: Result, now: Instant) -> None:
        if isinstance(result, Done) and result.outcome == OUTCOME_STORED:
            self._commit(result.version, now)
            return
        task = abort(self._context, self.id, max(self._deadline, now.monotonic) + DECIDING_S_MAX)
        self._registers.route(task, self._doubted, now)

    def _doubted(self, result: Result, now: Instant) -> None:
        """It may not have been decided in time; others may have ended it."""
        record = result.record if isinstance(result, Done) else None
        verdict = proven(record, self.id)
        if record is not None and verdict == COMMITTED:
            self._commit(record.known_as, now)
        elif verdict == ABORTED:
            self._answer(too_slow(), now)
            self._settle(ABORTED, now)
        else:
            self._answer(undecided(), now)
            self._end()  # who meets an intent of it finds out

    def _commit(self, version: bytes, now: Instant) -> None:
        """`version`: that says so in its register."""
        self._decided_by = version
        rows = [part.row for part in self._writes if not part.absent]
        self._answer(Outcome(rows, [self._versions[row] for row in rows]), now)
        self._settle(COMMITTED, now)

    # --- what is left to do ------------------------------------------------------------------------

    def _settle(self, verdict: bytes, now: Instant) -> None:
        """Each intent becomes what was decided. Of one that may be laid yet, whoever meets it takes care."""
        self.phase, self._failure = Phase.SETTLE, None
        rows = [row for row in self.rows if row in self._versions]
        self._waits = len(rows) + 1
        settled = list[bytes]()

        def after(row: bytes, result: Result, now: Instant) -> None:
            if isinstance(result, Done):
                settled.append(row)
            if verdict == COMMITTED and len(settled) == len(rows) and isinstance(result, Done):
                self._forget(now)
            self._answered_one(now)

        for row in rows:
            task = settle(self._context, row, self.id, verdict, now.monotonic + SETTLING_S)
            self._registers.route(task, partial(after, row), now)
        self._answered_one(now)

    def _forget(self, now: Instant) -> None:
        """All that was committed is settled: nobody will ask any more."""
        self._waits += 1
        row = decision_row(self._context, self.id)
        task = forget(self._context, row, self._decided_by, now.monotonic + SETTLING_S)
        self._registers.propose(task, lambda result, now: self._answered_one(now), now)

    # --- answers -----------------------------------------------------------------------------------

    def _fail(self, part: Part, result: Result) -> None:
        """Not all of it can be done: why, by the first that shows it."""
        if self._failure is not None:
            return
        if isinstance(result, Done):
            held = result.record
            self._failure = (
                fenced_off(part.name, part.expected, held) if part.fences else changed(part.name, held)
            )
        elif isinstance(result, InvalidRequest | Conflict | Unavailable | Overloaded | ClockSkew):
            self._failure = result
        else:
            self._failure = contended(part.name, result)

    def _answer(self, result: Outcome | InvalidRequest | RequestFailed, now: Instant) -> None:
        if not self._answered:
            self._answered = True
            self._report(result, now)

    def _end(self) -> None:
        self.phase = Phase.ENDED
        self._ended(self)


def gives_way(transaction: bytes, met: Record, now: Instant) -> bool:
    """Whether it is not to wait for the one whose intent it has met."""
    other = Intent.of(met).transaction
    return other < transaction and now.wall_ms - begun_ms(other) < PATIENCE_S * 1e3


def _unread() -> ReadTimeout:
    return ReadTimeout(UNREAD, None, None, None)


def _condition(expected: bytes) -> tuple[Condition, bytes]:
    if not expected:
        return Condition.UNCONDITIONAL, b""
    if expected == HOLDS_NOTHING:
        return Condition.IF_ABSENT, b""
    return Condition.IF_VERSION, expected
