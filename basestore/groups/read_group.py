"""Read group: plain gets, from their coming in until all replicas that are to agree on them have been heard.

As many replicas are asked as the level requires, one for the records, the others for their heads. What they
all hold is what a quorum read would find: as long as that is so of a request, it stays. Otherwise it
*leaves*, and is a quorum read of its own from then on (`coordinator/quorum_read.py`), with what was heard
by then:

    ReadGroup -> n1, n2 (heads)     ids 11, 12, 13 of group 10
    HeldGroup <- n1, but 12         of 12 n1 says by itself what it holds, or that it holds nothing
    HeldGroup <- n2                 11: both have one head. 12: it left when that was said. 13: heads differ
    answered 11; 13 leaves          after that n3 is asked for heads, and where it differs it is mended
    alarm, lost, moved              all leave, and each is told

A get for a session stays if what is found is as new as its floor. What has been deleted or expires leaves.
"""

from collections.abc import Set as AbstractSet
from operator import itemgetter
from typing import Final, NamedTuple

from basestore.cluster.operations import Operation
from basestore.cluster.outbox import SMALL_BYTES, Outbox
from basestore.consistency import Level, met_by
from basestore.coordinator.context import TOO_MUCH_ASKED, Context, refuse
from basestore.coordinator.get import ClientGet
from basestore.coordinator.quorum_read import LINGER_S, WIDEN_S, QuorumRead
from basestore.errors import Overloaded
from basestore.groups.write_group import picked, places_of
from basestore.instant import Instant
from basestore.protocol.client import Get
from basestore.protocol.groups import Found, HeldGroup
from basestore.protocol.groups import ReadGroup as Asked
from basestore.protocol.replication import Held, HeldDigest, Moved, Rejected
from basestore.repair.read_repair import reaches
from basestore.repair.rule import Rule
from basestore.repair.version import FLAGS_AT, HEAD_BYTES, MARKED, VERSION_BYTES, Record, values_of
from basestore.rows import row_bucket, row_key, row_partition

RULE = Rule.LAST_WRITE_WINS
_FLAGS: Final = itemgetter(FLAGS_AT)


class ReadColumns(NamedTuple):
    """What a group is made of. `ids` as the clients count, who have asked through `outboxes`; `floors` of
    their sessions; `compare`: the replicas that need not be asked are compared, too."""

    level: Level
    timeout_ms: int
    replicas: tuple[int, ...]
    compare: bool
    outboxes: list[Outbox]
    ids: list[int]
    rows: list[bytes]
    floors: list[bytes]

    @property
    def bytes(self) -> int:
        return sum(map(len, self.rows))


class ReadGroup(Operation):
    """One group at its coordinator. `ids`: its own, then those of the requests that are in it still."""

    __slots__ = (
        "_answered", "_asked", "_begun", "_columns", "_context", "_deadline", "_first", "_held", "_required",
        "_whole",
    )  # fmt: skip

    def __init__(self, context: Context, columns: ReadColumns, now: Instant) -> None:
        super().__init__(columns.bytes + context.load.answer_bytes * len(columns.rows))
        self._context = context
        self._columns = columns
        self._begun = now
        self._deadline = now.monotonic + columns.timeout_ms / 1e3
        self._required = columns.level.required(len(columns.replicas))
        self._answered = False
        self._asked: dict[int, float] = {}
        self._held: dict[int, list[bytes]] = {}
        self._whole = -1

    def begin(self, now: Instant) -> None:
        """Ask."""
        context = self._context
        self._first = context.operations.issue_group(self, len(self._columns.rows)) + 1
        self._ask(self._required, now)
        if self.ids:
            wait_s = min(context.peers.usual_s, WIDEN_S)
            context.operations.alarm_at(self.ids[0], min(self._deadline, now.monotonic + wait_s))

    def _ask(self, count: int, now: Instant) -> None:
        """Ask so many more replicas, the nearest first; of those that are equally near each group another."""
        peers, columns = self._context.peers, self._columns
        at = columns.rows[0][1] % len(columns.replicas)
        rotated = columns.replicas[at:] + columns.replicas[:at]
        fresh = [each for each in rotated if each not in self._asked and peers.alive[each]]
        deadline_ms = now.wall_ms + int((self._deadline - now.monotonic) * 1e3)
        size = SMALL_BYTES + columns.bytes
        marks = self._answered and columns.level is Level.ONE
        unsent: list[int] = []
        for replica in sorted(fresh, key=peers.distance.__getitem__)[:count]:
            whole = self._whole < 0
            if whole:
                self._whole = replica
            self._asked[replica] = now.monotonic
            if not peers.send(replica, Asked(self.ids[0], deadline_ms, columns.rows, not whole, marks), size):
                unsent.append(replica)
        for read in self._leave_all(now) if unsent else ():
            for replica in unsent:
                if read.ids:  # for want of the one before it may have ended
                    read.lost(replica, now)

    # --- answers -----------------------------------------------------------------------------

    def held_group(self, member: int, answer: HeldGroup, now: Instant) -> None:
        """Those of which nothing is said here leave when that is."""
        held = answer.held
        sound = len(held) == len(self._columns.rows)
        if member == self._whole:
            sound = sound and HEAD_BYTES not in map(len, held)
        if not sound or member not in self._asked or member in self._held:
            return  # nobody has asked for that
        self._context.peers.all[member].latency.add(now.monotonic - self._asked[member])
        self._context.stamper.observe(max(held)[:HEAD_BYTES], now)
        self._held[member] = held
        if now.monotonic >= self._deadline:
            return  # too late: as a quorum read, it waits for its alarm
        count = len(self._held)
        if not self._answered:
            met = met_by(count, len(self._columns.replicas))
            told = len(self.ids) - 1
            if not all(held):  # of the others it says so by itself
                told = sum(held[request - self._first] != b"" for request in self.ids[1:])
            self._context.metrics.reached("get", met, now.monotonic - self._begun.monotonic, told)
        if count < (len(self._asked) if self._answered else self._required):
            return
        self._part(now)
        if len(self.ids) < 2:
            return
        if self._answered:
            self._context.operations.drop_group(self)
        else:
            self._answer(now)

    def _part(self, now: Instant) -> None:
        """Those of which the replicas hold different things leave, and those that are not to be answered as
        they are; and all of which one replica has said nothing here."""
        records, columns = self._held[self._whole], self._columns
        apart: list[list[bytes]] = []
        if len(self._held) > 1:
            heads = _heads(records)
            others = (held for held in self._held.values() if held is not records)
            apart = [held for held in others if held != heads and _heads(held) != heads]
        flags = set(map(_FLAGS, filter(None, records)))
        marked = not self._answered and (any(columns.floors) or any(flag & MARKED for flag in flags))
        if not apart and not marked and all(records):
            return
        heads = _heads(records)
        for request in self.ids[1:]:
            place = request - self._first
            head = heads[place]
            if (
                not head
                or any(held[place][:HEAD_BYTES] != head for held in apart)
                or (marked and self._is_special(head, columns.floors[place]))
            ):
                self._leave(request, now).consider(now)

    @staticmethod
    def _is_special(head: bytes, floor: bytes) -> bool:
        """What is found is no live value, or older than what the session has seen."""
        return bool(head[FLAGS_AT] & MARKED) or not reaches(RULE, head, floor)

    def _answer(self, now: Instant) -> None:
        """One message for each connection; then the other replicas are compared."""
        context, columns = self._context, self._columns
        seconds = now.monotonic - self._begun.monotonic
        context.metrics.answered("get", columns.level, "found", seconds, len(self.ids) - 1)
        staying = [request - self._first for request in self.ids[1:]]
        records, ids = picked(self._held[self._whole], staying), picked(columns.ids, staying)
        values, versions = values_of(records), [record[:VERSION_BYTES] for record in records]
        for outbox, at in places_of(picked(columns.outboxes, staying)).items():
            self._tell(outbox, picked(ids, at), picked(values, at), picked(versions, at))
        self._answered = True
        if not columns.compare or len(self._asked) == len(columns.replicas):
            context.operations.drop_group(self)
            return
        self._deadline = now.monotonic + LINGER_S
        context.operations.linger(self)
        context.operations.alarm_at(self.ids[0], self._deadline)
        self._ask(len(columns.replicas), now)

    def _tell(self, outbox: Outbox, ids: list[int], values: list[bytes], versions: list[bytes]) -> None:
        load = self._context.load
        size = SMALL_BYTES + sum(map(len, values)) + 48 * len(ids)
        load.answer_bytes += (SMALL_BYTES + len(values[0]) - load.answer_bytes) // 8
        if outbox.roomy:
            outbox.put(Found(ids, values, versions, self._required, len(self._held)), size, len(ids))
            return
        for request in ids:
            refuse(self._context, outbox, request, Overloaded(TOO_MUCH_ASKED))

    # --- leaving -----------------------------------------------------------------------------

    def _leave(self, request: int, now: Instant) -> QuorumRead:
        """One of them is a read of its own from now on."""
        context, columns, place = self._context, self._columns, request - self._first
        row, outbox = columns.rows[place], columns.outboxes[place]
        asked = Get(
            columns.ids[place], context.buckets.name_of(row_bucket(row)), row_key(row), columns.level.value,
            columns.timeout_ms, columns.floors[place], True,
        )  # fmt: skip
        get = ClientGet(context, outbox, asked, columns.level, row, RULE, self._begun)
        read = get.left_group(columns.compare)
        heads = {member: held[place][:HEAD_BYTES] for member, held in self._held.items() if held[place]}
        whole = self._held.get(self._whole)
        record = Record(whole[place]) if whole and whole[place] else None
        read.go_on(self._asked, self._whole, heads, record, self._deadline, now, answered=self._answered)
        context.operations.leave(self, request, read)
        if self._answered:
            context.operations.linger(read)
        widen_s = self._deadline if self._answered else self._begun.monotonic + WIDEN_S
        context.operations.alarm_at(request, min(self._deadline, widen_s))
        if len(self.ids) == 1:
            context.operations.drop_group(self)
        return read

    def _leave_all(self, now: Instant) -> list[QuorumRead]:
        return [self._leave(request, now) for request in self.ids[1:]]

    def held(self, member: int, answer: Held, now: Instant) -> None:
        self._leave(answer.id, now).held(member, answer, now)

    def held_digest(self, member: int, answer: HeldDigest, now: Instant) -> None:
        self._leave(answer.id, now).held_digest(member, answer, now)

    def rejected(self, member: int, answer: Rejected, now: Instant) -> None:
        self._leave(answer.id, now).rejected(member, answer, now)

    def overtaken(self, member: int, answer: Moved, now: Instant) -> None:
        self._leave(answer.id, now).overtaken(member, answer, now)

    def moved(self, partitions: AbstractSet[int], now: Instant) -> None:
        if not partitions.isdisjoint(map(row_partition, self._columns.rows)):
            for read in self._leave_all(now):
                read.moved(partitions, now)

    def lost(self, member: int, now: Instant) -> None:
        if member in self._asked and member not in self._held:
            for read in self._leave_all(now):
                read.lost(member, now)

    def alarm(self, now: Instant) -> None:
        if not self._answered:
            for read in self._leave_all(now):
                read.alarm(now)
        elif now.monotonic >= self._deadline:
            self._context.operations.drop_group(self)

    def relieve(self, now: Instant) -> None:
        self._context.operations.drop_group(self)


def _heads(held: list[bytes]) -> list[bytes]:
    return [record[:HEAD_BYTES] for record in held]
