"""Helping: who finds an intent in his way has it settled, and then goes on. So nobody waits for a coordinator
that is dead: there is nothing that it alone knows.

    meet        a row holds an intent of transaction t, and a read or write of it waits here
    look        what was decided of t? Nothing yet, mostly: its coordinator is about to
    again       in a moment, if the row holds the intent yet: its coordinator may have undone it, without a
                word of that; and at once, if the row is settled meanwhile, and this is its home
    abort       two seconds have passed, or its coordinator is known to be down: t is not to be committed any
                more, unless it is by now
    settle      the row becomes what was decided, and all who wait for it go on

At most one of these is under way for a row, whoever waits. Two seconds count from the ballot of t, by this
node's clock, and at most from when its intent was met here, so a clock that is wrong makes nobody wait for
longer, nor anything happen that may not. Owns who waits; judges nothing of what they wait to do.
"""

from collections.abc import Callable
from typing import Final

from basestore.cluster.operations import Operation
from basestore.coordinator.context import Context
from basestore.errors import Overloaded, RequestFailed, Unavailable
from basestore.instant import Instant
from basestore.protocol.client import OUTCOME_STORED
from basestore.registers.registers import Registers
from basestore.registers.task import Done, Result, Task
from basestore.repair.compare_and_set import lies_here
from basestore.repair.intents import ABORTED, Intent, decided
from basestore.repair.version import Record
from basestore.transactions.decisions import abort, begun_ms, coordinator_of, look, settle

PATIENCE_S: Final = 2.0
STEP_S: Final = 2.0  # that one look, or one write, may take
LOOK_S: Final = 0.005  # until the first look, and the second; then twice that, and so on
LOOK_S_MAX: Final = 0.16
HELPS_MAX: Final = 1024  # rows at once
WAITING_MAX: Final = 256  # at one row
CROWDED: Final = (
    "overloaded: too many requests wait for what transactions have laid their intents on; "
    "nothing was done. Try again later"
)
Then = Callable[[RequestFailed | None, Instant], None]


class Helping:
    """Of one node, all rows."""

    def __init__(self, context: Context, registers: Registers) -> None:
        self._context, self._registers = context, registers
        self._helps: dict[bytes, Help] = {}

    def wait(self, row: bytes, record: Record, then: Then, now: Instant, *, patient: bool = True) -> None:
        """Go on with `then` once the row does not hold this intent any more; or with why that cannot be had.
        Not `patient`: the transaction is known to have had its time."""
        transaction = Intent.of(record).transaction
        known = self._helps.get(row)
        if known is not None and known.transaction != transaction:
            known.end(None, now)  # that intent is gone
            known = None
        if known is None and len(self._helps) >= HELPS_MAX:
            then(Overloaded(CROWDED), now)
        elif known is None:
            known = self._helps[row] = Help(self._context, self._registers, row, transaction, self._ended)
            known.waiting.append(then)
            known.begin(now, patient=patient)
        elif len(known.waiting) >= WAITING_MAX:
            then(Overloaded(CROWDED), now)
        else:
            known.waiting.append(then)

    def settled(self, row: bytes, now: Instant) -> None:
        """Somebody has settled it."""
        known = self._helps.get(row)
        if known is not None:
            known.end(None, now)

    def _ended(self, help_: "Help", error: RequestFailed | None, now: Instant) -> None:
        if self._helps.get(help_.row) is help_:
            del self._helps[help_.row]
        for then in help_.waiting:
            then(error, now)

    def __len__(self) -> int:
        return len(self._helps)


def is_alive(context: Context, transaction: bytes) -> bool:
    """Whether the node is that coordinates it, as far as is known here: else nobody need wait for it."""
    index = context.peers.index_of.get(coordinator_of(transaction))
    return index is not None and context.peers.alive[index]


class Help(Operation):
    """For one row, until it is settled."""

    __slots__ = (
        "_context",
        "_due_s",
        "_ended",
        "_looks",
        "_over",
        "_registers",
        "row",
        "transaction",
        "waiting",
    )

    def __init__(
        self, context: Context, registers: Registers, row: bytes, transaction: bytes,
        ended: Callable[["Help", RequestFailed | None, Instant], None],
    ) -> None:  # fmt: skip
        super().__init__(len(row))
        self._context, self._registers, self._ended = context, registers, ended
        self.row, self.transaction, self.waiting = row, transaction, list[Then]()
        self._looks, self._over = 0, False

    def begin(self, now: Instant, *, patient: bool) -> None:
        self._context.metrics.count("transaction_helps")
        age_s = (now.wall_ms - begun_ms(self.transaction)) / 1e3
        patient = patient and is_alive(self._context, self.transaction)
        self._due_s = now.monotonic + (max(0.0, min(PATIENCE_S, PATIENCE_S - age_s)) if patient else 0.0)
        self._context.operations.issue(self)
        self._wait(now)

    def end(self, error: RequestFailed | None, now: Instant) -> None:
        """Those that wait go on."""
        if not self._over:
            self._over = True
            self._context.operations.drop(self)
            self._ended(self, error, now)

    def _wait(self, now: Instant) -> None:
        if now.monotonic >= self._due_s and self._looks == 0:
            self.alarm(now)
            return
        pause_s = min(LOOK_S_MAX, LOOK_S * (1 << max(0, self._looks - 1)))
        self._context.operations.alarm_at(self.ids[0], min(now.monotonic + pause_s, self._due_s))

    def alarm(self, now: Instant) -> None:
        self._looks += 1
        task = look(self._context, self.transaction, now.monotonic + STEP_S)
        self._registers.route(task, self._looked, now)

    def _looked(self, result: Result, now: Instant) -> None:
        if self._over:
            return
        if not isinstance(result, Done):
            self._give_up(result, now)
        elif verdict := decided(result.record):
            self._settle(verdict, now)
        elif now.monotonic < self._due_s:
            task = Task(self.row, now.monotonic + STEP_S, as_is=True)
            self._registers.read(task, self._seen, now)
        else:
            task = abort(self._context, self.transaction, now.monotonic + STEP_S)
            self._registers.route(task, self._aborted, now)

    def _seen(self, result: Result, now: Instant) -> None:
        """What the row holds; nothing is decided yet."""
        if self._over:
            return
        if isinstance(result, Done) and not lies_here(result.record, self.transaction):
            self.end(None, now)
        else:
            self._wait(now)

    def _aborted(self, result: Result, now: Instant) -> None:
        if self._over:
            return
        verdict = decided(result.record) if isinstance(result, Done) else b""
        if isinstance(result, Done) and result.outcome == OUTCOME_STORED:
            self._context.metrics.count("transaction_aborts")
            verdict = ABORTED
        if verdict:
            self._settle(verdict, now)
        else:
            self._give_up(result, now)

    def _settle(self, verdict: bytes, now: Instant) -> None:
        task = settle(self._context, self.row, self.transaction, verdict, now.monotonic + STEP_S)
        self._registers.route(task, self._tried, now)

    def _tried(self, result: Result, now: Instant) -> None:
        if isinstance(result, Done):
            self.end(None, now)
        else:
            self._give_up(result, now)

    def _give_up(self, result: Result, now: Instant) -> None:
        """What must be asked is not there. Whatever was written can be written again."""
        self.end(
            Unavailable.because(
                f"a transaction has laid its intent on this key, and what became of that cannot be found "
                f"out: {result}; nothing was done. Try again, or read at one, which shows what was there"
            ),
            now,
        )


class Waiter(Operation):
    """Something that waits until a deadline, and no longer: then `late` is called."""

    __slots__ = ("_context", "_late")

    def __init__(self, context: Context, size: int, late: Callable[[Instant], None]) -> None:
        super().__init__(size)
        self._context, self._late = context, late

    def begin(self, deadline: float) -> None:
        operations = self._context.operations
        operations.alarm_at(operations.issue(self), deadline)

    def end(self) -> bool:
        """It waits no more. Whether it did."""
        waited = bool(self.ids)
        self._context.operations.drop(self)
        return waited

    def alarm(self, now: Instant) -> None:
        if self.end():
            self._late(now)
