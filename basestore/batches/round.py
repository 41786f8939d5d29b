"""Round: what all replicas of some partitions are asked about a batch, once, and what they have answered.

It ends when the answers suffice, or all that can come are here, or its time is up; then it is handed on. Who
refuses has not answered, nor has who is not alive. Answers of one partition are all of those who hold it now:
where that changes meanwhile, those of before are dropped, and the round ends with what is left.
"""

from collections.abc import Callable, Mapping
from collections.abc import Set as AbstractSet
from typing import Final, NamedTuple

from basestore.batches.part import Known, Malformed, Part
from basestore.cluster.operations import Ack, Operation
from basestore.cluster.outbox import SMALL_BYTES, weight
from basestore.coordinator.context import Context
from basestore.instant import Instant
from basestore.protocol.codec import Message
from basestore.protocol.groups import DONE, PartTold
from basestore.protocol.replication import Moved, Rejected, Superseded
from basestore.repair.version import Record

MEMBERS_MAX: Final = 16  # of a partition, more or less: for what a round weighs


class Told(NamedTuple):
    """What a replica has said of its part; as in `PartTold`."""

    state: int
    stable: int = 0
    store: bytes = b""
    record: bytes = b""


Answers = dict[int, dict[int, Told]]  # by partition and member
Make = Callable[[int, int, int], Message | None]  # of a request's id, a partition and a member


class Round(Operation):
    """Of one batch. `make`: what to ask of whom, None of whom nothing; `enough`: whether to wait for no more;
    `ended`: is handed the answers, once."""

    def __init__(
        self, context: Context, known: Known, make: Make,
        enough: Callable[[Answers], bool], ended: Callable[[Answers, Instant], None],
    ) -> None:  # fmt: skip
        super().__init__(SMALL_BYTES * MEMBERS_MAX * len(known.partitions))
        self._row, self._context, self._make, self._enough, self._ended = (
            known.row,
            context,
            make,
            enough,
            ended,
        )
        self._asked: dict[int, tuple[int, int]] = {}  # what is not answered yet, by its id
        self._sending = True
        self.answers: Answers = {each: {} for each in known.partitions}

    def begin(self, seconds: float, now: Instant) -> None:
        """Ask; the round ends after so many seconds at most."""
        operations, peers = self._context.operations, self._context.peers
        operations.alarm_at(operations.issue(self), now.monotonic + seconds)
        for partition in self.answers:
            for member in self._context.placement.replicas[partition]:
                if not peers.alive[member]:
                    continue
                request = operations.issue(self)
                message = self._make(request, partition, member)
                if message is not None and peers.all[member].outbox.put(message, weight(message)):
                    self._asked[request] = partition, member
        self._sending = False
        self._look(now)

    def _look(self, now: Instant) -> None:
        if self.ids and not self._sending and (not self._asked or self._enough(self.answers)):
            self._end(now)

    def _end(self, now: Instant) -> None:
        self._context.operations.drop(self)
        self._ended(self.answers, now)

    def _hear(self, request: int, told: Told | None, now: Instant) -> None:
        asked = self._asked.pop(request, None)
        if asked is not None:
            partition, member = asked
            if told is not None:
                self.answers[partition][member] = told
            self._look(now)

    # --- answers -----------------------------------------------------------------------------

    def part_told(self, member: int, answer: PartTold, now: Instant) -> None:
        told = Told(answer.state, answer.stable, answer.store, answer.record)
        self._hear(answer.id, told if self._makes_sense(answer) else None, now)

    def _makes_sense(self, answer: PartTold) -> bool:
        """Whether what it says to hold is of the kind that it says."""
        asked, record = self._asked.get(answer.id), Record(answer.record) if answer.record else None
        if asked is None or record is None:
            return True
        if answer.state == DONE:
            return record.tombstone
        try:
            Part.of(self._row(asked[0]), record)
        except Malformed:
            return False
        return True

    def applied(self, member: int, answer: Ack, now: Instant) -> None:
        """A tombstone is taken."""
        self._hear(answer, Told(DONE), now)

    def superseded(self, member: int, answer: Superseded, now: Instant) -> None:
        """Another one is held."""
        self._hear(answer.id, Told(DONE), now)

    def rejected(self, member: int, answer: Rejected, now: Instant) -> None:
        self._hear(answer.id, None, now)

    def overtaken(self, member: int, answer: Moved, now: Instant) -> None:
        self._hear(answer.id, None, now)

    def lost(self, member: int, now: Instant) -> None:
        for request in [each for each, (_, of) in self._asked.items() if of == member]:
            del self._asked[request]
        self._look(now)

    def moved(self, partitions: AbstractSet[int], now: Instant) -> None:
        changed = partitions & self.answers.keys()
        for partition in changed:
            self.answers[partition] = {}
        if changed:
            self._end(now)

    def alarm(self, now: Instant) -> None:
        self._end(now)


def saying(answers: Mapping[int, Told], *states: int) -> list[int]:
    """The members that say so."""
    return [member for member, told in answers.items() if told.state in states]
