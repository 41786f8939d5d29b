"""Write group: plain sets, or plain deletes, from their stamps until every replica has them.

What is true of one of them is true of all: one tally counts for the whole group (`consistency.py`), by the
verdict of which all are answered. As soon as something becomes true of one alone, that one *leaves*: it is a
quorum write of its own from then on (`coordinator/quorum_write.py`), with what was known by then:

    ApplyGroup -> n1 n2 n3       ids 11, 12, 13 of group 10
    AppliedGroups <- n1, n2      the tally says STORED: all three are answered, with one message a connection
    AppliedGroups <- n3, but 12  12 leaves, 11 and 13 are done: the group is dropped
    Superseded <- n3, of 12      as for any quorum write

    alarm, lost, moved, relieve, closing    all leave, and each is told

So a group only ever counts; hints, timeouts and errors are the quorum write's.
"""

from collections.abc import Sequence
from collections.abc import Set as AbstractSet
from functools import partial
from typing import TypeVar, cast

from basestore.cluster.operations import RELIEVED_AT_ONCE, Ack, Operation
from basestore.cluster.outbox import SMALL_BYTES, Outbox
from basestore.consistency import APPLIED, Level, Quorum, Tally, Verdict, met_by
from basestore.coordinator.attempts import STAMPED_BYTES, Content
from basestore.coordinator.context import Context
from basestore.coordinator.quorum_write import QuorumWrite
from basestore.coordinator.set_delete import answer
from basestore.instant import Instant
from basestore.protocol.groups import ApplyGroup, Stored
from basestore.protocol.limits import GROUP_BYTES_MAX, GROUP_MAX
from basestore.protocol.replication import Moved, Rejected, Superseded
from basestore.repair.rule import Rule
from basestore.repair.version import Record

STORED = Verdict.STORED
T = TypeVar("T")


class WriteColumns:
    """What a group is made of: what all have in common, and columns of what they have not."""

    __slots__ = (
        "bytes",
        "contents",
        "ids",
        "level",
        "outboxes",
        "partitions",
        "proposals",
        "replicas",
        "rows",
        "timeout_ms",
        "tombstone",
        "versions",
    )

    def __init__(self, tombstone: bool, level: Level, timeout_ms: int, replicas: tuple[int, ...]) -> None:
        self.tombstone, self.level, self.timeout_ms, self.replicas = tombstone, level, timeout_ms, replicas
        self.outboxes: list[Outbox] = []
        self.ids: list[int] = []  # of the requests, as their clients count
        self.partitions: list[int] = []
        self.rows: list[bytes] = []
        self.versions: list[bytes] = []
        self.proposals: list[bytes] = []
        self.contents: list[bytes] = []
        self.bytes = 0

    def has_room(self, count: int, size: int) -> bool:
        """Whether it may take so many more, of `size` bytes in all."""
        return len(self.rows) + count <= GROUP_MAX and self.bytes + size <= GROUP_BYTES_MAX

    def extend(
        self, outbox: Outbox, ids: list[int], partitions: list[int], rows: list[bytes],
        proposals: list[bytes], contents: list[bytes],
    ) -> None:  # fmt: skip
        """Many that came over one connection; their versions come later."""
        self.outboxes += [outbox] * len(ids)
        self.ids += ids
        self.partitions += partitions
        self.rows += rows
        self.proposals += proposals
        self.contents += contents
        self.bytes += sum(map(len, rows)) + sum(map(len, contents))


def by_outbox(outboxes: Sequence[Outbox], ids: Sequence[int], first: int) -> dict[Outbox, list[int]]:
    """The places of those that are still in a group, whose first request is `first`, by who has asked."""
    if len(set(outboxes)) == 1:
        return {outboxes[0]: [request - first for request in ids[1:]]}
    places: dict[Outbox, list[int]] = {}
    for request in ids[1:]:
        place = request - first
        places.setdefault(outboxes[place], []).append(place)
    return places


def places_of(column: Sequence[T]) -> dict[T, Sequence[int]]:
    """Where in a column each of its values stands."""
    if len(set(column)) == 1:
        return {column[0]: range(len(column))}
    places: dict[T, Sequence[int]] = {value: [] for value in column}
    for place, value in enumerate(column):
        cast("list[int]", places[value]).append(place)
    return places


def picked(column: list[T], places: Sequence[int]) -> list[T]:
    """What stands in these places, which ascend: the column itself, if that is all of it."""
    return column if len(places) == len(column) else [column[place] for place in places]


def begin_writes(context: Context, columns: WriteColumns, now: Instant) -> None:
    """Seal them, and send them to every replica. All members are alive."""
    records = context.digester.seal_all(columns.rows, columns.versions, columns.contents)
    WriteGroup(context, columns, records, now).begin(now)


class WriteGroup(Operation):
    """One group at its coordinator. `ids`: its own, then those of the requests that are in it still."""

    __slots__ = (
        "_alarm_s",
        "_answered",
        "_begun_s",
        "_columns",
        "_context",
        "_deadline",
        "_first",
        "_records",
        "_tally",
    )

    def __init__(self, context: Context, columns: WriteColumns, records: list[bytes], now: Instant) -> None:
        super().__init__(columns.bytes)
        self._context = context
        self._columns = columns
        self._records = records
        self._begun_s = now.monotonic
        self._deadline = now.monotonic + columns.timeout_ms / 1e3
        self._tally = Tally(len(columns.replicas), columns.level)
        self._answered = False

    def begin(self, now: Instant) -> None:
        context, columns = self._context, self._columns
        group = context.operations.issue_group(self, len(columns.rows))
        self._first = group + 1
        deadline_ms = now.wall_ms + columns.timeout_ms
        message = ApplyGroup(group, deadline_ms, columns.rows, self._records)
        size = sum(map(len, columns.rows)) + sum(map(len, self._records)) + SMALL_BYTES
        members = context.peers.all
        absent = [each for each in columns.replicas if not members[each].outbox.put(message, size)]
        # At ANY half of the time is for hints.
        self._alarm_s = now.monotonic + columns.timeout_ms / (2e3 if columns.level is Level.ANY else 1e3)
        context.operations.alarm_at(group, self._alarm_s)
        if absent:
            for write in self._leave_all():
                for replica in absent:
                    write.lost(replica, now)

    # --- answers -----------------------------------------------------------------------------

    def applied_group(self, member: int, acks: Sequence[Ack], now: Instant) -> None:
        if len(acks) < len(self._records):
            told = set(acks)
            for request in self.ids[1:]:
                if request not in told:
                    self._leave(request)
        if len(self.ids) < 2 or member not in self._columns.replicas:
            return
        if not self._answered and now.monotonic >= self._deadline:  # the alarm has not sounded yet
            staying = self.ids[1:]
            self._leave_all()
            self._context.operations.applied(member, staying, now)
            return
        tally, replicas = self._tally, self._columns.replicas
        if tally.record(replicas.index(member), APPLIED):
            met = met_by(tally.applied, len(replicas))
            self._context.metrics.reached(
                self._operation, met, now.monotonic - self._begun_s, len(self.ids) - 1
            )
            self._judge(now)

    def _judge(self, now: Instant) -> None:
        operations = self._context.operations
        if not self._answered and self._tally.verdict is STORED:
            self._answer(now)
        if self._answered:
            if self._tally.waiting:
                operations.linger(self)
            else:
                operations.drop_group(self)

    @property
    def _operation(self) -> str:
        return "delete" if self._columns.tombstone else "set"

    def _answer(self, now: Instant) -> None:
        """One message for each connection."""
        self._answered = True
        context, columns, tally = self._context, self._columns, self._tally
        count = len(self.ids) - 1
        context.metrics.answered(
            self._operation, columns.level, "stored", now.monotonic - self._begun_s, count
        )
        states: list[int] = []
        for replica, state in zip(columns.replicas, tally.states, strict=True):
            states += (context.peers.number_of[replica], int(state))
        for outbox, places in by_outbox(columns.outboxes, self.ids, self._first).items():
            ids = [columns.ids[place] for place in places]
            identities = [columns.proposals[place] + self._records[place][:STAMPED_BYTES] for place in places]
            partitions = [columns.partitions[place] for place in places]
            outbox.put(
                Stored(ids, identities, partitions, tally.required, tally.applied, states),
                SMALL_BYTES + 64 * len(ids),
                len(ids),
            )

    # --- leaving -----------------------------------------------------------------------------

    def _leave(self, request: int, *, lingers: bool = True) -> QuorumWrite:
        """One of them is a write of its own from now on, which may be told that there is need of room."""
        context, columns, place = self._context, self._columns, request - self._first
        record, outbox = Record(self._records[place]), columns.outboxes[place]
        content = Content(
            columns.rows[place], record.value, 0, columns.tombstone, Rule.LAST_WRITE_WINS, 0, record.proposal
        )
        begun = partial(answer, context, outbox, columns.ids[place], columns.level, content, self._begun_s)
        quorum = Quorum(columns.replicas, columns.level)
        write = QuorumWrite(context, content, quorum, self._deadline, begun, self._begun_s)
        write.go_on(record, self._tally, answered=self._answered)
        context.operations.leave(self, request, write)
        if self._answered and lingers:
            context.operations.linger(write)
        context.operations.alarm_at(request, self._deadline if self._answered else self._alarm_s)
        if len(self.ids) == 1:
            context.operations.drop_group(self)
        return write

    def _leave_all(self) -> list[QuorumWrite]:
        return [self._leave(request) for request in self.ids[1:]]

    def superseded(self, member: int, answer: Superseded, now: Instant) -> None:
        self._leave(answer.id).superseded(member, answer, now)

    def rejected(self, member: int, answer: Rejected, now: Instant) -> None:
        self._leave(answer.id).rejected(member, answer, now)

    def applied(self, member: int, answer: Ack, now: Instant) -> None:
        self._leave(answer).applied(member, answer, now)

    def overtaken(self, member: int, answer: Moved, now: Instant) -> None:
        self._leave(answer.id).overtaken(member, answer, now)

    def moved(self, partitions: AbstractSet[int], now: Instant) -> None:
        if not partitions.isdisjoint(self._columns.partitions):
            for write in self._leave_all():
                write.moved(partitions, now)

    def lost(self, member: int, now: Instant) -> None:
        if member in self._columns.replicas:  # also one that has applied them: its word is of a store
            for write in self._leave_all():
                write.lost(member, now)

    def alarm(self, now: Instant) -> None:
        for write in self._leave_all():
            write.alarm(now)

    def closing(self, now: Instant) -> None:
        for write in self._leave_all():
            write.closing(now)

    def relieve(self, now: Instant) -> None:
        """Some of them: each keeps a hint."""
        for request in self.ids[1 : 1 + RELIEVED_AT_ONCE]:
            self._leave(request, lingers=False).relieve(now)
        if self.ids:
            self._context.operations.linger(self)
