"""Transactions: what this node does for them: it commits those that its clients ask it to (`transaction.py`),
and has settled what is in the way of others (`helping.py`), or was left by those that have died
(`leftovers.py`, `ended_leases.py`).

Owns who waits here for an intent to be settled, each for as long as its own time lasts; and which
transactions are under way.
"""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, Final

from basestore.cluster.operations import Operation
from basestore.cluster.outbox import SMALL_BYTES, Outbox
from basestore.consistency import Level
from basestore.coordinator.context import Context, park, refuse
from basestore.errors import ClockSkew, InvalidRequest, Overloaded, ReadTimeout, RequestFailed
from basestore.instant import Instant
from basestore.metrics import FAILURES
from basestore.protocol.client import Commit, Committed
from basestore.registers.outcomes import UNREAD, contended, doubting
from basestore.registers.registers import Registers
from basestore.registers.task import Blocked, Report, Task
from basestore.repair.clock import NotYet
from basestore.repair.version import Identity
from basestore.replica.replica import Replica
from basestore.rows import row_partition
from basestore.transactions.admission import admit
from basestore.transactions.ended_leases import EndedLeases
from basestore.transactions.helping import Helping, Waiter
from basestore.transactions.leftovers import Leftovers
from basestore.transactions.outcomes import in_the_way
from basestore.transactions.transaction import Outcome, Part, Transaction, gives_way
from basestore.transactions.transaction import Report as ReportOutcome

Refuse = Callable[[RequestFailed], None]
TRANSACTIONS_MAX: Final = 1024
CROWDED: Final = (
    f"overloaded: this node has {TRANSACTIONS_MAX} transactions under way; nothing was done. Try again later"
)
SENT: Final = "what was sent before a transaction came in its way may have been done"


class Transactions:
    """Of one node. `open`: those under way, and what weighs what they hold."""

    def __init__(self, context: Context, registers: Registers, replica: Replica) -> None:
        self._context, self._registers = context, registers
        self.helping = Helping(context, registers)
        self._leftovers = Leftovers(context, registers, replica, registers.laid, self.helping)
        self._ended_leases = EndedLeases(context, replica, self._begin_own)
        registers.blocked, registers.settled = self._blocked, self.helping.settled
        self.open: dict[Transaction, Operation] = {}
        self._parked = 0
        self.requests: Mapping[type, Callable[[Outbox, Any, Instant], None]] = {Commit: self.commit}

    def tick(self, now: Instant) -> None:
        """Time has passed; nothing is stalled."""
        self._leftovers.tick(now)
        self._ended_leases.tick(now)

    @property
    def count(self) -> int:
        """How many are under way, or wait until this clock may stamp."""
        return len(self.open) + self._parked

    @property
    def oldest_s(self) -> float | None:
        """When the oldest of them was begun."""
        return next((each.begun_s for each in self.open), None)

    @property
    def blocked(self) -> int:
        """How many rows have requests that wait for an intent."""
        return len(self.helping)

    @property
    def intents(self) -> int:
        """How many rows of this store hold one."""
        return len(self._registers.laid.rows)

    @property
    def locks(self) -> int:
        """How many are held, of those whose register this node writes."""
        return self._ended_leases.held

    # --- what clients ask ------------------------------------------------------------------------

    def commit(self, outbox: Outbox, request: Commit, now: Instant) -> None:
        """Begin it, or refuse it: then nothing was done."""
        try:
            if self.count >= TRANSACTIONS_MAX:
                raise Overloaded(CROWDED)
            parts = admit(self._context, request, now)
        except (InvalidRequest, RequestFailed) as error:
            self._refuse(outbox, request, error)
            return
        begun_s = now.monotonic
        self._begin(
            parts, begun_s + request.timeout_ms / 1e3, partial(self._answer, outbox, request, begun_s),
            partial(self._refuse, outbox, request), now,
        )  # fmt: skip

    def _begin(
        self, parts: Sequence[Part], ends_s: float, report: ReportOutcome, refuse: Refuse, now: Instant
    ) -> None:
        """Once this clock may stamp; it waits for that no longer than it may last."""
        try:
            ballot = self._context.stamper.ballot(now)
        except NotYet:
            self._park(parts, ends_s, report, refuse)
        except (ClockSkew, Overloaded) as error:
            refuse(error)
        else:
            self._open(parts, ends_s - now.monotonic, report, ballot, now)

    def _park(self, parts: Sequence[Part], ends_s: float, report: ReportOutcome, refuse: Refuse) -> None:
        self._parked += 1

        def again(now: Instant) -> None:
            self._parked -= 1
            self._begin(parts, ends_s, report, refuse, now)

        def late(error: Overloaded, now: Instant) -> None:
            self._parked -= 1
            refuse(error)

        park(self._context, sum(part.size for part in parts), ends_s, again, late)

    def _begin_own(self, parts: Sequence[Part], timeout_s: float, now: Instant) -> None:
        """One that nobody has asked for, and to which somebody comes back where it fails."""
        self._begin(parts, now.monotonic + timeout_s, lambda result, now: None, lambda error: None, now)

    def _open(
        self, parts: Sequence[Part], timeout_s: float, report: ReportOutcome, ballot: bytes, now: Instant
    ) -> None:
        transaction = Transaction(
            self._context, self._registers, self.helping, parts, timeout_s, report, self._ended
        )
        held = self.open[transaction] = Operation(sum(part.size for part in parts))
        self._context.operations.issue(held)
        transaction.begin(ballot, now)

    def _ended(self, transaction: Transaction) -> None:
        self._context.operations.drop(self.open.pop(transaction))

    def _answer(
        self, outbox: Outbox, request: Commit, begun_s: float,
        result: Outcome | InvalidRequest | RequestFailed, now: Instant,
    ) -> None:  # fmt: skip
        metrics, seconds = self._context.metrics, now.monotonic - begun_s
        if isinstance(result, Outcome):
            metrics.answered("transaction", Level.SERIAL, "committed", seconds)
            size = SMALL_BYTES + 32 * len(result.versions)
            quorums, partitions = self._context.placement.quorums, list(map(row_partition, result.rows))
            required = [quorums[partition][Level.SERIAL].required for partition in partitions]
            outbox.put(Committed(request.id, result.versions, partitions, required), size)
        else:
            metrics.answered("transaction", Level.SERIAL, FAILURES[result.code], seconds)
            refuse(self._context, outbox, request.id, result)

    def _refuse(self, outbox: Outbox, request: Commit, error: InvalidRequest | RequestFailed) -> None:
        self._context.metrics.refused("transaction", Level.SERIAL, error.code)
        refuse(self._context, outbox, request.id, error)

    # --- what is in the way ------------------------------------------------------------------------

    def _blocked(self, task: Task, blocked: Blocked, report: Report, now: Instant) -> None:
        """A read or write has met an intent, here at the home of its row."""
        if task.write is not None:
            lays = task.write.attempt.lays
            if lays and gives_way(lays, blocked.record, now):
                report(in_the_way(self._context.buckets.row_name(task.row)), now)
                return
            assert blocked.attempt is not None
            task = task._replace(write=task.write._replace(attempt=blocked.attempt))
            if blocked.attempt.meant:
                report = doubting(report, Identity(blocked.attempt.proposal), SENT)

        def late(now: Instant) -> None:
            read = ReadTimeout(UNREAD, None, None, None)
            report(read if task.write is None else contended(), now)

        def go_on(error: RequestFailed | None, now: Instant) -> None:
            if not waiter.end():
                return
            if error is not None:
                report(error, now)
            elif blocked.attempt is not None and blocked.attempt.begun:  # who has sent it knows most of it
                self._registers.enter(task, report, now)
            else:  # another may be the home by now
                self._registers.route(task, report, now)

        waiter = Waiter(self._context, task.size, late)
        waiter.begin(task.deadline)
        self.helping.wait(task.row, blocked.record, go_on, now)
