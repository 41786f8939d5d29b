"""Operations: what is under way at this node, found by the ids that its messages carry.

A request that wants an answer carries an id, and the answer carries it back: a correlation identifier
(Hohpe and Woolf, "Enterprise Integration Patterns", 2003). `Operations` owns the ids, finds whose an
answer is, and calls the callback that `ANSWERS` names. All callbacks for answers have one signature:

    operation.held(member, answer, now)

What is no answer has its own: `lost(member, now)`, `moved(partitions, now)`, and `alarm`, `closing` and
`relieve` with `now` alone.

An answer to an id that is no longer known is ignored: what asked has ended. Operations judges no
answer, sends nothing and keeps no clock: deadlines come due in `tick`. They are kept in a wheel of
coarse slots (Varghese and Lauck, "Hashed and Hierarchical Timing Wheels", 1987), for most operations
end before theirs.
"""

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet
from heapq import heappop, heappush
from itertools import islice
from typing import Any, Final

from basestore.instant import Instant
from basestore.protocol.feeds import Fed
from basestore.protocol.groups import AppliedGroups, HeldGroup, PartTold
from basestore.protocol.operator import Inspected, Traced
from basestore.protocol.replication import (
    ForwardDone,
    Held,
    HeldDigest,
    Kept,
    Moved,
    Promised,
    Range,
    Refused,
    Rejected,
    Settled,
    Superseded,
)  # fmt: skip

OPERATIONS_MAX, BYTES_MAX = 8192, 256 << 20
SLOTS_PER_S = 200
RELIEVED_AT_ONCE = 64

# Which callback of its operation an answer is handed to. Of Applied, to many at once: `Operations.applied`.
ANSWERS: Final[Mapping[type, str]] = {
    Superseded: "superseded",
    Settled: "settled",
    Rejected: "rejected",
    Moved: "overtaken",
    Held: "held",
    HeldDigest: "held_digest",
    Range: "ranged",
    Traced: "traced",
    Inspected: "inspected",
    Kept: "kept",
    Promised: "promised",
    Refused: "refused",
    ForwardDone: "done",
    Fed: "fed",
    PartTold: "part_told",
}

# An Applied acknowledges many operations at once: each is handed the id of what it had asked.
Ack = int
NO_GROUP: Final = -1
NO_ANSWER, OVERTAKEN = "no answer in time", "who holds the key has changed"


class Operation:
    """Something that waits for answers. Answers that it does not expect do nothing. `group`: its id as a
    group, of which only the answers to groups speak."""

    __slots__ = ("bytes", "group", "ids")

    def __init__(self, bytes_held: int) -> None:
        self.ids: list[int] = []
        self.bytes = bytes_held
        self.group = NO_GROUP

    def applied(self, member: int, answer: Ack, now: Instant) -> None:
        """The member holds the record as the winner, durably."""

    def applied_group(self, member: int, acks: Sequence[Ack], now: Instant) -> None:
        """Of a group: the member holds these records of it as the winners, durably."""

    def held_group(self, member: int, answer: HeldGroup, now: Instant) -> None:
        """Of a group: the member holds these records, or records with these heads."""

    def superseded(self, member: int, answer: Superseded, now: Instant) -> None:
        """The member holds a better record, durably."""

    def settled(self, member: int, answer: Settled, now: Instant) -> None:
        """The record came too late to be taken."""

    def rejected(self, member: int, answer: Rejected, now: Instant) -> None:
        """The member refused."""

    def overtaken(self, member: int, answer: Moved, now: Instant) -> None:
        """The member goes by seats that this node does not know of yet, and has done nothing."""

    def moved(self, partitions: AbstractSet[int], now: Instant) -> None:
        """These partitions have other seats from now on. What was told of them by those that had them before
        counts for nothing: who still needs it begins anew, under other ids, as long as its time lasts."""

    def held(self, member: int, answer: Held, now: Instant) -> None:
        """The member holds this record, or none."""

    def held_digest(self, member: int, answer: HeldDigest, now: Instant) -> None:
        """The member holds a record with this head."""

    def ranged(self, member: int, answer: Range, now: Instant) -> None:
        """The member holds these rows and records in a range."""

    def traced(self, member: int, answer: Traced, now: Instant) -> None:
        """The member has said what it knows of a row."""

    def inspected(self, member: int, answer: Inspected, now: Instant) -> None:
        """The member has said how it stands, and what is proven of some partitions."""

    def kept(self, member: int, answer: Kept, now: Instant) -> None:
        """This node keeps a hint for `answer.member`, durably, or could not store it."""

    def promised(self, member: int, answer: Promised, now: Instant) -> None:
        """The member has said what it knows of a register."""

    def refused(self, member: int, answer: Refused, now: Instant) -> None:
        """The ballot is too low for the member."""

    def done(self, member: int, answer: ForwardDone, now: Instant) -> None:
        """The member has done what was asked of a register, or could not."""

    def fed(self, member: int, answer: Fed, now: Instant) -> None:
        """The member has told what has changed."""

    def part_told(self, member: int, answer: PartTold, now: Instant) -> None:
        """The member has said what there is of a part of a batch."""

    def lost(self, member: int, now: Instant) -> None:
        """The member stopped being alive: what was asked of it may never be answered."""

    def alarm(self, now: Instant) -> None:
        """A time that was asked for has come."""

    def closing(self, now: Instant) -> None:
        """This node stops: what is still to come will find nobody."""

    def relieve(self, now: Instant) -> None:
        """Room is needed, and the caller has had the answer: end soon."""


class Anew(Operation):
    """One that begins anew where seats change, unless its caller has had the answer: `moved` does that."""

    __slots__ = ("_answered",)

    def __init__(self, bytes_held: int) -> None:
        super().__init__(bytes_held)
        self._answered = False

    def overtaken(self, member: int, answer: Moved, now: Instant) -> None:
        if self._answered:  # else it waits until this node knows what the member knows
            self.rejected(member, Rejected(answer.id, OVERTAKEN, True), now)


NOBODY: Final = -1  # whom one asks who only waits
Ended = Callable[[Any, Instant], None]


class Once(Operation):
    """What one member is asked once, or a mere wait: it ends with the first thing that happens, and
    hands it to `ended`: the answer, as a callback gets it; Rejected when none came in time; None when
    the member was lost."""

    __slots__ = ("_ended", "_member", "_operations")

    def __init__(self, operations: "Operations", bytes_held: int, member: int, ended: Ended) -> None:
        super().__init__(bytes_held)
        self._operations = operations
        self._member = member
        self._ended = ended

    def _end(self, member: int, answer: Any, now: Instant) -> None:
        self._operations.drop(self)
        self._ended(answer, now)

    applied = superseded = settled = rejected = held = held_digest = _end

    def lost(self, member: int, now: Instant) -> None:
        if member == self._member:
            self._end(member, None, now)

    def overtaken(self, member: int, answer: Moved, now: Instant) -> None:
        self._end(member, Rejected(answer.id, OVERTAKEN, True), now)

    def alarm(self, now: Instant) -> None:
        self._end(self._member, Rejected(self.ids[0], NO_ANSWER, True), now)


class Operations:
    """All operations of a node. `bytes` sums what they hold; `served` counts requests of members that this
    node has answered itself."""

    def __init__(self, first_id: int, operations_max: int = OPERATIONS_MAX) -> None:
        """Ids count up from `first_id`, which should differ from start to start of a node, so that
        a late answer to an earlier start finds nobody. `operations_max`: how many there is room for."""
        self.operations_max = operations_max
        self._next = first_id
        self._by_id: dict[int, Operation] = {}
        self._lingering: dict[Operation, None] = {}
        self._slots: dict[int, list[int]] = {}
        self._slots_ahead: list[int] = []  # a heap of those that exist
        self._slot_done = -1
        self.count = self.bytes = self.served = 0

    @property
    def idle(self) -> bool:
        """Whether there is room for work that nobody waits for."""
        return self.count < self.operations_max // 2

    def has_room(self, size: int, now: Instant) -> bool:
        """Whether one more operation of `size` bytes may begin. From half of what is allowed on, those
        that linger are asked to end."""
        if self.count >= self.operations_max // 2 or self.bytes > BYTES_MAX // 2:
            self.relieve(now)
        return self.count < self.operations_max and self.bytes + size <= BYTES_MAX

    def has_room_for_group(self, count: int, size: int) -> bool:
        """Whether so many more, of `size` bytes in all, leave room for as much again."""
        return self.count + count <= self.operations_max // 2 and self.bytes + size <= BYTES_MAX // 2

    def issue(self, operation: Operation) -> int:
        """A new id whose answers go to `operation`."""
        request = self._next
        self._next += 1
        if not operation.ids:
            self.count += 1
            self.bytes += operation.bytes
        operation.ids.append(request)
        self._by_id[request] = operation
        return request

    def issue_group(self, group: Operation, count: int) -> int:
        """An id for a group of so many requests; theirs are the next ones. Answers to any of these ids go to
        `group`, until `leave` gives a request's to an operation of its own."""
        first = self._next
        self._next += 1 + count
        group.group = first
        group.ids = list(range(first, self._next))
        self._by_id.update(dict.fromkeys(group.ids, group))
        self.count += count
        self.bytes += group.bytes
        return first

    def leave(self, group: Operation, request: int, operation: Operation) -> None:
        """A request of a group is an operation of its own from now on."""
        group.ids.remove(request)
        group.bytes -= operation.bytes
        operation.ids = [request]
        self._by_id[request] = operation

    def drop_group(self, group: Operation) -> None:
        """Forget a group, and the requests that are still in it."""
        self._lingering.pop(group, None)
        self.count -= len(group.ids) - 1
        self.bytes -= group.bytes
        for request in group.ids:
            del self._by_id[request]
        group.ids = []

    @property
    def issued(self) -> int:
        """How many ids were issued, counted from the first id."""
        return self._next

    def drop(self, operation: Operation) -> None:
        """Forget it: later answers are ignored."""
        if operation.ids:
            self._lingering.pop(operation, None)
            self.count -= 1
            self.bytes -= operation.bytes
            for request in operation.ids:
                del self._by_id[request]
            operation.ids = []

    def answer(self, member: int, message: Any, now: Instant) -> None:
        """Hand an answer to the operation whose it is, if that is still under way."""
        operation = self._by_id.get(message.id)
        if operation is not None and operation.group != message.id:
            getattr(operation, ANSWERS[type(message)])(member, message, now)

    def applied(self, member: int, requests: Iterable[int], now: Instant) -> None:
        """All of these were applied: acknowledgements come many to a message."""
        find = self._by_id.get
        for request in requests:
            # Nobody is found for a late or repeated answer: an id is never used again.
            operation = find(request)
            if operation is not None and operation.group != request:
                operation.applied(member, request, now)

    def applied_groups(self, member: int, message: AppliedGroups, now: Instant) -> None:
        """All of these groups were applied, less some of their requests."""
        skipped = set(message.skipped)
        for group, count in zip(message.groups[::2], message.groups[1::2], strict=True):
            acks: Sequence[int] = range(group + 1, group + 1 + count)
            if skipped:
                acks = [request for request in acks if request not in skipped]
            operation = self._by_id.get(group)
            if operation is None or operation.group != group:
                self.applied(member, acks, now)
                continue
            if len(operation.ids) <= count:  # some have left it
                left = [request for request in acks if self._by_id.get(request) is not operation]
                self.applied(member, left, now)
            operation.applied_group(member, acks, now)

    def held_group(self, member: int, answer: HeldGroup, now: Instant) -> None:
        """What is held of each row of a group that was asked for."""
        group = self._by_id.get(answer.id)
        if group is not None and group.group != answer.id:
            return  # nobody has asked that
        if group is None or len(group.ids) <= len(answer.held):  # some have left it
            for each in answer.single():
                if self._by_id.get(each.id) is not group:
                    self.answer(member, each, now)
        if group is not None:
            group.held_group(member, answer, now)

    def alarm_at(self, request: int, monotonic: float) -> None:
        """Call `alarm` of the operation with this id at that time, if it is still under way."""
        # The slot after the moment, so an alarm never sounds early; and after those that are done, where
        # nobody would look again.
        slot = max(int(monotonic * SLOTS_PER_S), self._slot_done) + 1
        if slot not in self._slots:
            self._slots[slot] = []
            heappush(self._slots_ahead, slot)
        self._slots[slot].append(request)

    @property
    def alarm_due_s(self) -> float:
        """When the next alarm is due, by `Instant.monotonic`."""
        slots, ahead, under_way = self._slots, self._slots_ahead, self._by_id
        while ahead:  # most have ended before their alarm is due: nobody should wake for those
            requests = slots[ahead[0]]
            while requests:
                if requests[-1] in under_way:
                    return ahead[0] / SLOTS_PER_S
                requests.pop()
            del slots[heappop(ahead)]
        return math.inf

    def tick(self, now: Instant) -> bool:
        """Sound the alarms that are due; whether there was any."""
        slots, ahead = self._slots, self._slots_ahead
        # Before any alarm sounds: who is called may ask for another one, at a time that has passed already,
        # and must not be given a slot that was gone through.
        self._slot_done = int(now.monotonic * SLOTS_PER_S)
        due: list[int] = []
        while ahead and ahead[0] <= self._slot_done:
            due += slots.pop(heappop(ahead))
        sounded = False
        for request in due:
            operation = self._by_id.get(request)
            if operation is not None:
                operation.alarm(now)
                sounded = True
        return sounded

    def lost(self, member: int, now: Instant) -> None:
        """A member stopped being alive: tell everyone who may wait for it."""
        # A list: callbacks end operations, and begin others, while this goes on.
        for operation in list(self.each()):
            operation.lost(member, now)

    def moved(self, partitions: AbstractSet[int], now: Instant) -> None:
        """These partitions have other seats from now on: tell everyone."""
        for operation in list(self.each()) if partitions else ():
            if operation.ids:  # else it has ended with another
                operation.moved(partitions, now)

    def linger(self, operation: Operation) -> None:
        """Its caller has had the answer; it goes on for the sake of slower members."""
        self._lingering[operation] = None

    def relieve(self, now: Instant) -> None:
        """Tell the operations that linger longest that room is needed."""
        asked = 0
        for operation in list(islice(self._lingering, RELIEVED_AT_ONCE)):
            if asked >= RELIEVED_AT_ONCE:
                return
            asked += max(1, len(operation.ids) - 1)  # a group ends so many requests
            # Before it is told: it may need a while to end, and the next call must ask others.
            del self._lingering[operation]
            operation.relieve(now)

    def each(self) -> Iterator[Operation]:
        """Every operation once."""
        return (operation for request, operation in self._by_id.items() if operation.ids[0] == request)
