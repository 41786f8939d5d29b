"""Reading: the story of one get.

    begin     ask as many replicas as the level requires, this node first if it holds the row
    held      once enough have replied, weigh them (`repair.read_repair`)
    applied   a write-back was taken as the winner: that replica confirms now
    superseded   a write-back met a better record: ask that replica again, and adopt what it says
    rejected, lost, alarm   ask another replica instead; at the deadline ReadTimeout

The answer leaves when `required` replicas have confirmed the winner as their current record. So
quorum reads never go back in time, records of failed writes included.
"""

from collections.abc import Callable
from typing import TYPE_CHECKING, NamedTuple

from basestore.errors import ReadTimeout, ReplicaFailure, RequestFailed
from basestore.messages import COPY, Apply, Got, Read, Rejected
from basestore.operation import Operation
from basestore.outbox import SMALL_BYTES
from basestore.peers import Instant
from repair.read_repair import ReadPlan, plan
from repair.rule import Rule
from repair.version import VERSION_BYTES, Record

if TYPE_CHECKING:
    from basestore.coordinator import Coordinator

WIDEN_S = 0.1
WRITE_BACKS_MAX = 64


class Finding(NamedTuple):
    """What a read found. `record` may be a tombstone or expired."""

    record: Record | None
    required: int
    responded: int
    diverged: bool
    repaired: int
    at: Instant

    def reply(self, request: int, wall_ms: int) -> tuple[Got, int]:
        """The message to the client and its size. Expiry is judged here, once, by `wall_ms`."""
        record = self.record
        counts = (self.required, self.responded, self.diverged, self.repaired)
        if record is None:
            return Got(request, False, b"", b"", 0, *counts), SMALL_BYTES
        found = record.live(wall_ms)
        value = record.value if found else b""
        version = record.blob[:VERSION_BYTES]
        return Got(request, found, value, version, record.expires_ms, *counts), SMALL_BYTES + len(value)


class Reading(Operation):
    """One read of one row at its coordinator."""

    __slots__ = (
        "_asked", "_coordinator", "_deadline", "_deadline_ms", "_diverged", "_reasons", "_repaired",
        "_replicas", "_replies", "_report", "_required", "_row", "_rule", "_under_way",
        "_write_backs",
    )  # fmt: skip

    def __init__(
        self,
        coordinator: "Coordinator",
        row: bytes,
        rule: Rule,
        replicas: tuple[int, ...],
        required: int,
        report: Callable[[Finding | RequestFailed], None],
    ) -> None:
        super().__init__(len(row) + coordinator.answer_bytes)
        self._coordinator = coordinator
        self._row = row
        self._rule = rule
        self._replicas = replicas
        self._required = required
        self._report = report
        self._asked: set[int] = set()
        self._replies: dict[int, Record | None] = {}
        self._reasons: dict[str, str] = {}
        self._write_backs: dict[int, Record] = {}
        self._under_way: dict[int, bytes] = {}
        self._diverged = False
        self._repaired: set[int] = set()

    def begin(self, deadline: float, now: Instant) -> None:
        """Ask; enough replicas are alive."""
        self._deadline = deadline
        self._deadline_ms = now.wall_ms + int((deadline - now.monotonic) * 1e3)
        self._ask(self._required, now)
        if self.ids:
            self._coordinator.operations.alarm_at(self.ids[0], min(deadline, now.monotonic + WIDEN_S))

    def _ask(self, count: int, now: Instant) -> None:
        """Ask up to `count` more replicas: the own one first, then the others in placement order.
        When there are none left to wait for, the read has failed."""
        peers = self._coordinator.peers
        fresh = [r for r in self._replicas if r not in self._asked and peers.alive[r]]
        fresh.sort(key=lambda replica: replica != peers.me)
        for replica in fresh:
            if count == 0:
                return
            self._asked.add(replica)
            request = self._coordinator.operations.issue(self)
            if peers.send(
                replica, Read(request, self._row, self._deadline_ms, False), SMALL_BYTES + len(self._row)
            ):
                count -= 1
            else:
                self._reasons[self._coordinator.names[replica]] = "too much waits for it"
        names = self._coordinator.names
        if sum(names[replica] not in self._reasons for replica in self._asked) < self._required:
            reasons = "; ".join(f"{name}: {reason}" for name, reason in self._reasons.items())
            text = f"failed: {self._required} replicas are required, and too many refused or were lost"
            advice = "Try again, or at a lower level"
            self._end(ReplicaFailure(f"{text} ({reasons}). {advice}", self._reasons, None))

    def held(self, member: int, request: int, record: Record | None, now: Instant) -> None:
        self._learn(member, record, now)

    def _learn(self, member: int, record: Record | None, now: Instant) -> None:
        """A replica is known to hold this; what was known before is never unlearned."""
        if record is not None:
            self._coordinator.observe(record.head, now)
        known = self._replies.get(member)
        if known is None or (record is not None and self._rule.beats(record.head, known.head)):
            self._replies[member] = record
            self._consider(now)

    def _consider(self, now: Instant) -> None:
        """Answer if the winner is confirmed; otherwise write it back to those that are behind."""
        if len(self._replies) < self._required or now.monotonic >= self._deadline:
            return
        weighed = plan(self._rule, self._replies)
        if weighed.confirmed >= self._required:
            self._end(
                Finding(
                    weighed.winner, self._required, len(self._replies),
                    self._diverged or weighed.diverged, len(self._repaired), now,
                )
            )  # fmt: skip
            return
        self._diverged = True
        self._repair(weighed, now)

    def _repair(self, weighed: ReadPlan, now: Instant) -> None:
        winner = weighed.winner
        assert winner is not None  # replicas that all hold nothing agree
        coordinator = self._coordinator
        for replica in weighed.stale:
            if self._under_way.get(replica) == winner.head:
                continue
            if len(self._write_backs) >= WRITE_BACKS_MAX:
                return  # the row changes faster than it can be read: the deadline ends this
            request = coordinator.operations.issue(self)
            self._write_backs[request] = winner
            self._under_way[replica] = winner.head
            message = Apply(request, self._row, winner.blob, COPY, self._deadline_ms)
            coordinator.peers.send(replica, message, len(self._row) + len(winner.blob) + SMALL_BYTES)

    def applied(self, member: int, request: int, now: Instant) -> None:
        record = self._write_backs.get(request)
        if record is not None:
            if self._under_way.get(member) == record.head:
                del self._under_way[member]
            self._repaired.add(member)
            self._learn(member, record, now)

    def superseded(self, member: int, request: int, head: bytes, now: Instant) -> None:
        self._under_way.pop(member, None)
        again = self._coordinator.operations.issue(self)
        message = Read(again, self._row, self._deadline_ms, False)
        self._coordinator.peers.send(member, message, SMALL_BYTES + len(self._row))

    def rejected(self, member: int, request: int, answer: Rejected, now: Instant) -> None:
        self._reasons[self._coordinator.names[member]] = answer.reason
        self._ask(1, now)

    def lost(self, member: int, now: Instant) -> None:
        if member in self._asked and (member not in self._replies or member in self._under_way):
            self._reasons[self._coordinator.names[member]] = "the link was lost"
            self._ask(1, now)

    def alarm(self, now: Instant) -> None:
        """Slow: ask the remaining replicas too. At the deadline: give up."""
        if now.monotonic < self._deadline:
            self._coordinator.operations.alarm_at(self.ids[0], self._deadline)
            self._ask(len(self._replicas), now)
            return
        received = len(self._replies)
        text = f"timeout: {received} of {self._required} required replicas answered in time"
        self._end(ReadTimeout(f"{text}. Read again, or at a lower level", received, self._required, None))

    def _end(self, result: Finding | RequestFailed) -> None:
        self._coordinator.operations.drop(self)
        self._report(result)
