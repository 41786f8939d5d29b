"""Registers: what clients ask of buckets whose rule is serial, at the node that they ask, and at the home of
the row.

    Set, Delete     to the home of the row (`forwarded.py`), there in the queue of the row (`proposer.py`)
    Get             asked of a quorum by this node itself; what that does not decide goes to the home as well
    Scan            as in any bucket (`coordinator/range_scan.py`), but that a row on which replicas do not
                    agree is read at its home
    Get at one      what one replica has learned, as in any bucket (`coordinator/get.py`)

All else, and other buckets, are the coordinator's. What finds an intent of a transaction in its way is handed
to `blocked`, and comes back once that is settled (`basestore/transactions`). Owns the queues, of which each
row has one while anything is asked of it here, and has finished what acceptors of this node were left with.
"""

from collections import deque
from collections.abc import Callable, Mapping
from functools import partial
from hashlib import blake2b
from typing import Any, Final

from basestore.cluster.finishing import Finishing
from basestore.cluster.outbox import SMALL_BYTES, Outbox
from basestore.consistency import APPLIED, Level, Quorum
from basestore.coordinator.admission import CROWDED, admit_get, admit_write
from basestore.coordinator.context import TOO_MUCH_ASKED, Context, refuse
from basestore.coordinator.coordinator import OPERATIONS, receive
from basestore.coordinator.finding import Finding, gone
from basestore.coordinator.quorum_read import read as quorum_read
from basestore.coordinator.range_scan import Report as ReadReport
from basestore.coordinator.range_scan import scan
from basestore.errors import InvalidRequest, Overloaded, RequestFailed, Unavailable
from basestore.instant import Instant
from basestore.metrics import FAILURES, WRITE_OUTCOMES
from basestore.protocol.client import FINAL, IF_ABSENT, OUTCOME_LOST, Delete, Get, Got, Scan, Set, Written
from basestore.protocol.replication import Forward
from basestore.registers.acceptors import Acceptors
from basestore.registers.announcements import Announcements
from basestore.registers.forwarded import Forwarded, answer_to, task_of
from basestore.registers.laid_intents import LaidIntents
from basestore.registers.outcomes import checked, doubting, unknown
from basestore.registers.proposer import Proposer
from basestore.registers.skipped_prepares import SkippedPrepares
from basestore.registers.task import Blocked, Done, Report, Result, Task, Write
from basestore.repair.compare_and_set import Attempt, Condition
from basestore.repair.rule import Rule
from basestore.repair.version import NO_PROPOSAL, PROPOSAL_BYTES, VERSION_BYTES, Identity, Version
from basestore.replica.admission import Admission
from basestore.replica.replica import Replica
from basestore.rows import row_bucket, row_partition

QUEUE_MAX: Final = 64  # operations at one row that one more write may find, besides the one under way
READERS_MAX: Final = 1024  # that one more read may find: what one finds is told to all
FINISHING_MAX: Final = 16
FINISHING_S: Final = 5.0
CROWDED_ROW: Final = (
    "overloaded: too many requests wait for this register; nothing was done. Try again later, or share the "
    "work among several keys"
)
SLOW_HOME: Final = "its disk does not keep up; nothing was done. Try again later, or ask another node"
EARLIER: Final = "an earlier attempt may have done it"
IN_MEMORY: Final = (
    "this node keeps no bucket whose replicas agree on each write, for its durability is memory, and it "
    'would forget what it has promised; nothing was done. Set durability = "sync" in its file, or ask a node '
    "that has it"
)


class Registers:
    """Of one node."""

    def __init__(
        self, context: Context, replica: Replica, accepts: Callable[[], bytes], finishing: Finishing,
        admission: Admission, seed: bytes,
    ) -> None:  # fmt: skip
        """`accepts`: by which id this store does; `seed`: random bytes, for what writes are known by whose
        client has drawn nothing."""
        self._context, self._seed = context, seed
        self.acceptors = acceptors = Acceptors(
            replica, context.group_commit, accepts, finishing.seating, admission, context.metrics
        )
        self.laid = LaidIntents(replica, context.group_commit)
        self._seating, finishing.unfinished = finishing.seating, acceptors.unfinished
        finishing.floor, finishing.raise_floor = acceptors.floors.of, acceptors.raise_floor
        self._drawn = 0
        self._skips, self._announcements = SkippedPrepares(replica.summaries), Announcements(context.peers)
        self.tell = self._announcements.tell
        self._rows: dict[bytes, deque[Proposer]] = {}
        self._turning: set[bytes] = set()  # rows of which one is just being begun
        self._finishing: set[bytes] = set()
        acceptors.finish = self._finish
        self.blocked: Callable[[Task, Blocked, Report, Instant], None] = _nobody_settles
        self.settled: Callable[[bytes, Instant], None] = lambda row, now: None  # an intent on this row is
        self.handlers: Mapping[type, Callable[[int, Outbox, Any, Instant], None]] = {
            Forward: self.hear, **acceptors.handlers,
        }  # fmt: skip

    def tick(self, now: Instant) -> None:
        """Time has passed; nothing is stalled."""
        self.acceptors.tick(now)

    # --- what clients ask ----------------------------------------------------------------------

    def receive(self, outbox: Outbox, request: Any, now: Instant) -> None:
        """Begin a client's request, of any bucket."""
        begin = _BEGINS.get(type(request))
        bucket = self._context.buckets.asked_for(request.bucket) if begin is not None else None
        if bucket is None or begin is None or not bucket.rule.serial:
            receive(self._context, outbox, request, now)
            return
        try:
            if not self._context.group_commit.engine.persistent:
                raise InvalidRequest(IN_MEMORY)
            begin(self, outbox, request, now)
        except (InvalidRequest, RequestFailed) as error:
            self._context.metrics.refused(OPERATIONS[type(request)], request.level, error.code)
            if isinstance(error, RequestFailed) and getattr(request, "repeats", False):
                error = unknown(Identity.decode(request.identity), None, EARLIER, error)
            refuse(self._context, outbox, request.id, error)

    def _write(self, outbox: Outbox, request: Set | Delete, now: Instant) -> None:
        _, content, repeated = admit_write(self._context, request, now)
        if not content.proposal:
            content = content._replace(proposal=self._draw())
        condition = Condition(IF_ABSENT if content.rule.immutable else request.condition)
        identity = repeated.record.blob[:VERSION_BYTES] if repeated and repeated.record else b""
        attempt = Attempt(
            condition, request.expected, content.proposal, identity, again=repeated is not None,
            final=content.rule.immutable, by=content.value,
        )  # fmt: skip
        task = Task(content.row, now.monotonic + request.timeout_ms / 1e3, Write(content, attempt))
        report: Report = partial(self._answer_write, outbox, request.id, task, now.monotonic)
        if repeated is not None:
            report = doubting(report, Identity.decode(request.identity), EARLIER)
        self.route(task, report, now)

    def _draw(self) -> bytes:
        self._drawn += 1
        drawn = blake2b(self._seed + self._drawn.to_bytes(8), digest_size=PROPOSAL_BYTES).digest()
        return drawn if drawn != NO_PROPOSAL else self._draw()

    def _read(self, outbox: Outbox, request: Get, now: Instant) -> None:
        if request.level == Level.ONE.value:
            receive(self._context, outbox, request, now)
            return
        _, row, rule = admit_get(self._context, request, now)
        task = Task(row, now.monotonic + request.timeout_ms / 1e3)
        self.read(task, partial(self._answer_read, outbox, request, rule, now), now)

    def read(self, task: Task, report: Report, now: Instant) -> None:
        """A read: asked of a quorum by this node itself; at the home what that does not decide."""

        def after(result: Result, now: Instant) -> None:
            if result is None or isinstance(result, Blocked):
                self.route(task, report, now)
            else:
                report(result, now)

        self._proposer(task._replace(hands_over=True), after, now).begin(now)

    def _scan(self, outbox: Outbox, request: Scan, now: Instant) -> None:
        at_one = request.level == Level.ONE.value
        scan(self._context, outbox, request, now, quorum_read if at_one else self._read_row)

    def _read_row(
        self, context: Context, row: bytes, rule: Rule, level: Level, deadline: float, report: ReadReport,
        now: Instant,
    ) -> None:  # fmt: skip
        """Of a scan, one on which replicas do not agree."""

        def after(result: Result, now: Instant) -> None:
            if isinstance(result, Done):
                report(Finding(result.record, result.required, result.required, False, 0), now)
            else:
                assert isinstance(result, RequestFailed)
                report(result, now)

        self.route(Task(row, deadline), after, now)

    # --- where it is done ----------------------------------------------------------------------

    def route(self, task: Task, report: Report, now: Instant) -> None:
        """Have it done at the home of its row."""
        peers = self._context.peers
        for replica in self._context.placement.replicas[row_partition(task.row)]:
            if replica == peers.me:
                break
            if peers.alive[replica] and not peers.disk_behind[replica]:
                Forwarded(self._context, task, replica, report, self.route, self.enter).begin(now)
                return
        self.enter(task, report, now)

    def enter(self, task: Task, report: Report, now: Instant) -> None:
        """Do it here, behind what is asked of the row already."""
        row, waiting = task.row, self._rows.get(task.row)
        settles = task.write is not None and task.write.attempt.condition is Condition.SETTLE
        most = READERS_MAX if task.write is None else QUEUE_MAX
        if waiting is not None and len(waiting) > most and not settles:
            report(Overloaded(CROWDED_ROW), now)
            return

        def after(result: Result, now: Instant) -> None:
            if isinstance(result, Blocked):
                self.blocked(task, result, report, now)
            else:
                report(checked(task, result), now)
            self._go_on(row, proposer, now)
            if settles and isinstance(result, Done):
                self.settled(row, now)

        proposer = self._proposer(task, after, now)
        if waiting is not None:
            waiting.append(proposer)
        else:
            self._rows[row] = deque((proposer,))
            self._take_turns(row, now)

    def propose(self, task: Task, report: Report, now: Instant) -> None:
        """Do it here, and at once."""
        self._proposer(task, report, now).begin(now)

    def _proposer(self, task: Task, report: Report, now: Instant) -> Proposer:
        """One that waits to be begun."""
        proposer = Proposer(self._context, self._skips, self._announcements, task, report)
        proposer.queue(now)
        return proposer

    def _go_on(self, row: bytes, ended: Proposer, now: Instant) -> None:
        """The next of the row, if this was the one whose turn it was."""
        waiting = self._rows[row]
        if waiting[0] is not ended:  # its time was over before its turn had come
            waiting.remove(ended)
            return
        waiting.popleft()
        begins = row not in self._turning
        if ended.shown is not None:
            self._turning.add(row)
            for each in tuple(waiting):
                each.see(ended.shown, now)
        if begins:
            self._take_turns(row, now)

    def _take_turns(self, row: bytes, now: Instant) -> None:
        """Begin the first of the row, and those behind it as long as each ends at once."""
        waiting = self._rows[row]
        self._turning.add(row)
        while waiting:
            first = waiting[0]
            first.begin(now)
            if waiting and waiting[0] is first:
                break
        self._turning.discard(row)
        if not waiting:
            del self._rows[row]

    def hear(self, member: int, outbox: Outbox, message: Forward, now: Instant) -> None:
        """Another node's client has asked."""
        report = partial(self._tell, outbox, message)
        rule = self._context.buckets.rules.get(row_bucket(message.row))
        size = len(message.row) + len(message.value)
        try:
            condition = Condition(message.condition)
        except ValueError:
            condition = None
        if rule is None or not rule.serial or condition is None:
            reason, _ = self._context.buckets.refusal(message.row)
            why = f"{reason}; nothing was done. Try again, or ask another node"
            report(Unavailable.because(why), now)
        elif self._context.group_commit.full:
            report(Unavailable.because(SLOW_HOME), now)
        elif not self._context.operations.has_room(size, now):
            report(Overloaded(CROWDED), now)
        else:
            task = task_of(message, rule, condition, self._context.timeout_ms_max, now)
            self.enter(task, report, now)

    def _tell(self, outbox: Outbox, asked: Forward, result: Result, now: Instant) -> None:
        """What became of it, to the node that has asked."""
        assert result is not None  # nothing that is asked for elsewhere is handed over
        assert not isinstance(result, Blocked)  # that is settled here
        answer = answer_to(asked, result, self._context.load.retry_ms())
        outbox.put(answer, SMALL_BYTES + len(answer.record))

    # --- answers -------------------------------------------------------------------------------

    def _answer_write(
        self, outbox: Outbox, request: int, task: Task, begun_s: float, result: Result, now: Instant
    ) -> None:
        """Send the receipt, or the error."""
        write, context, seconds = task.write, self._context, now.monotonic - begun_s
        assert write is not None
        assert result is not None
        assert not isinstance(result, Blocked)
        content, operation = write.content, "delete" if write.content.tombstone else "set"
        if not isinstance(result, Done):
            context.metrics.answered(operation, Level.SERIAL, FAILURES[result.code], seconds)
            refuse(context, outbox, request, result)
            return
        outcome, version, order, record, required, replicas = result
        context.metrics.answered(operation, Level.SERIAL, WRITE_OUTCOMES[outcome], seconds)
        acknowledged = replicas[1::2].count(APPLIED.value) if replicas else required
        identity = write.named(context.digester, version).encode() if version else content.proposal
        lost = outcome == OUTCOME_LOST
        held = record is not None and lost
        # Another write may stand in its place by now: what it has added to is not known then.
        mine = record is not None and record.known_as == version
        added = mine and write.attempt.condition is Condition.ADD and not lost
        value = record.value if record is not None and (held or added) else b""
        better = record.known_as if record is not None and held else b""
        final = FINAL if content.rule.immutable else 0
        written = Written(
            request, outcome, final, identity, required, acknowledged, replicas, better,
            row_partition(content.row), order=order, value=value, held=held or added,
        )  # fmt: skip
        outbox.put(written, SMALL_BYTES + len(value))

    def _answer_read(
        self, outbox: Outbox, request: Get, rule: Rule, begun: Instant, result: Result, now: Instant
    ) -> None:
        """Send what was found, or the error. Expiry is judged by the time at which the request came."""
        context, seconds = self._context, now.monotonic - begun.monotonic
        assert result is not None
        assert not isinstance(result, Blocked)
        if isinstance(result, Done):
            result = self._as_seen(request, result) or result
        time_ms = 0
        if isinstance(result, Done) and result.record is not None and result.record.expires_ms:
            judged = context.peers.clock.now_ms(begun)
            if judged is None:
                result = context.stamper.expiry_unknown(now)
            else:
                time_ms = judged
        if not isinstance(result, Done):
            context.metrics.answered("get", Level.SERIAL, FAILURES[result.code], seconds)
            refuse(context, outbox, request.id, result)
            return
        record = result.record
        found = record is not None and record.live(time_ms)
        value = record.value if record is not None and found else b""
        context.metrics.answered("get", Level.SERIAL, "found" if found else "missing", seconds)
        got = Got(
            request.id, found, value, record.known_as if record is not None else b"",
            record.expires_ms if record is not None else 0, result.required, result.required, False, 0,
            FINAL if rule.immutable and found else 0, order=result.order,
        )  # fmt: skip
        if outbox.roomy:
            outbox.put(got, SMALL_BYTES + len(value))
        else:
            refuse(context, outbox, request.id, Overloaded(TOO_MUCH_ASKED))

    @staticmethod
    def _as_seen(request: Get, done: Done) -> RequestFailed | None:
        """The error where the session has seen what is not there any more; of what was deleted nothing may be
        left."""
        floor = request.floor[:VERSION_BYTES]
        return gone(Version.decode(floor), known=True) if done.order and done.order < floor else None

    # --- what was left -------------------------------------------------------------------------

    def _finish(self, row: bytes, now: Instant) -> None:
        """Have it found out what became of what was accepted here, and not learned."""
        me, partition = self._context.peers.me, row_partition(row)
        if row in self._finishing or len(self._finishing) >= FINISHING_MAX:
            return
        self._finishing.add(row)

        def after(result: Result, now: Instant) -> None:
            self._finishing.discard(row)
            if isinstance(result, Done) and result.record is not None:
                self.acceptors.take(row, result.record)

        def of() -> Quorum:
            if partition in self._seating.seats:
                return self._seating.surviving_quorum(partition)
            # It has given up its seat meanwhile: there is nothing to finish, and it waits for itself in vain.
            return self._context.placement.quorums[partition][Level.SERIAL]

        task = Task(row, now.monotonic + FINISHING_S, must_ask=me, quorum=of, as_is=True)
        self.propose(task, after, now)


def _nobody_settles(task: Task, blocked: Blocked, report: Report, now: Instant) -> None:
    report(Unavailable.because("no transaction can be settled here; nothing was done"), now)


_BEGINS: Final[Mapping[type, Callable[[Registers, Outbox, Any, Instant], None]]] = {
    Set: Registers._write,
    Delete: Registers._write,
    Get: Registers._read,
    Scan: Registers._scan,
}
