"""Explaining: the story of one explain, and what a member says when it is traced.

    begin     ask every member that has a link: the replicas hold the row, any member may keep a hint
    traced    one has answered
    rejected, lost   one will not
    alarm     soon: members that are not alive are no longer waited for; at the deadline: nobody is

When nobody is left to wait for, the answer leaves, with what each replica holds, which hints are kept
where, and who was not heard. It decides nothing: `explanation.py` does, at the client's. Nothing is
repaired, and a damaged record is not even noted.
"""

from typing import TYPE_CHECKING

from basestore.messages import (
    DAMAGED,
    DOWN,
    FORGETFUL,
    LATE,
    ONLY_COPY,
    STARTING,
    UP,
    Explain,
    Explained,
    Message,
    ProtocolError,
    Rejected,
    Trace,
    Traced,
)
from basestore.operation import Operation
from basestore.outbox import SMALL_BYTES, Outbox, weight
from basestore.peers import Instant
from basestore.placement import row_partition
from basestore.replica import Replica
from repair.rule import Rule
from repair.version import HEAD_BYTES, RECORD_BYTES_MIN
from repair.write_repair import Hint

if TYPE_CHECKING:
    from basestore.coordinator import Coordinator
    from basestore.handoff import Handoff
    from basestore.proofs import Proofs

REASON_LENGTH_MAX = 200
DOUBTFUL_S = 0.5  # a member that is not whole answers at once; one that is silent may never
_STATES = frozenset((UP, STARTING, FORGETFUL, DAMAGED))


def trace(message: Trace, state: str, replica: Replica, handoff: "Handoff", proofs: "Proofs") -> Traced:
    """What this node says of a row; `state` is that of its store. ProtocolError when it is no row."""
    if len(message.row) < 4:
        raise ProtocolError("a Trace message names no row")
    record = replica.trace(message.row)
    if record is None and state == UP:
        state = DAMAGED
    kept = handoff.hints_for(message.row)
    hints = [word for member, hint in kept for word in (member, _sort_of(hint))]
    partition, stable = row_partition(message.row), 0
    reach: list[int] = []
    if partition in proofs.replicas:
        stable = replica.ledgers.of[partition].shown
        reach = [word for each in proofs.reach(partition) for word in each]
    return Traced(
        message.id, state, record or b"", hints, [hint.record.head for _, hint in kept], stable, reach
    )


def _sort_of(hint: Hint) -> int:
    return ONLY_COPY * hint.only_copy + LATE * hint.late


def check_traced(message: Traced, members: int) -> None:
    """ProtocolError unless it makes sense in a cluster of so many members."""
    if message.state not in _STATES or len(message.record) not in (0, RECORD_BYTES_MIN):
        raise ProtocolError("a Traced message does not say what is held")
    sound = len(message.hints) == 2 * len(message.heads) and len(message.heads) <= members
    if not sound or any(not 0 <= member < members for member in message.hints[::2]):
        raise ProtocolError("a Traced message does not say for whom its hints are")
    if any(len(head) != HEAD_BYTES for head in message.heads) or not set(message.hints[1::2]) <= set(
        range(4)
    ):
        raise ProtocolError("a Traced message names hints that are none")
    if len(message.reach) % 3 or any(not 0 <= member < members for member in message.reach[::3]):
        raise ProtocolError("a Traced message does not say of whom its proofs are")


class Explaining(Operation):
    """One explain at its coordinator."""

    __slots__ = (
        "_answers", "_client", "_coordinator", "_deadline", "_reasons", "_request", "_row", "_rule",
        "_waiting",
    )  # fmt: skip

    def __init__(
        self, coordinator: "Coordinator", client: Outbox, request: Explain, row: bytes, rule: Rule
    ) -> None:
        super().__init__(len(row) + SMALL_BYTES * len(coordinator.names))
        self._coordinator = coordinator
        self._client = client
        self._request = request
        self._row = row
        self._rule = rule
        self._waiting: set[int] = set()
        self._answers: dict[int, Traced] = {}
        self._reasons: dict[int, str] = {}  # of those that have not answered and will not

    def begin(self, now: Instant) -> None:
        """Ask all that can be asked."""
        operations, peers = self._coordinator.operations, self._coordinator.peers
        message = Trace(operations.issue(self), self._row)
        for peer in peers.all:
            if peer.index != peers.me and not peer.linked:
                self._reasons[peer.index] = "there is no link to it"
            elif peers.send(peer.index, message, SMALL_BYTES + len(self._row)):
                self._waiting.add(peer.index)
            else:
                self._reasons[peer.index] = "too much waits for it"
        self._deadline = now.monotonic + self._request.timeout_ms / 1e3
        operations.alarm_at(message.id, min(self._deadline, now.monotonic + DOUBTFUL_S))

    def traced(self, member: int, answer: Traced, now: Instant) -> None:
        if member in self._waiting:
            self._waiting.discard(member)
            self._answers[member] = answer
            self._consider(now)

    def rejected(self, member: int, request: int, answer: Rejected, now: Instant) -> None:
        self._miss(member, answer.reason[:REASON_LENGTH_MAX], now)

    def lost(self, member: int, now: Instant) -> None:
        self._miss(member, "the link was lost", now)

    def alarm(self, now: Instant) -> None:
        coordinator = self._coordinator
        late = now.monotonic >= self._deadline
        if not late:
            coordinator.operations.alarm_at(self.ids[0], self._deadline)
        for member in sorted(self._waiting):
            if late or not coordinator.peers.alive[member]:
                self._miss(member, "it did not answer in time", now)

    def _miss(self, member: int, reason: str, now: Instant) -> None:
        if member in self._waiting:
            self._waiting.discard(member)
            self._reasons[member] = reason
            self._consider(now)

    def _consider(self, now: Instant) -> None:
        """Answer once nobody is left to wait for."""
        if not self._waiting:
            self._coordinator.operations.drop(self)
            answer = self._answer(now)
            self._client.put(answer, weight(answer))

    def _answer(self, now: Instant) -> Message:
        replicas = self._coordinator.placement.replicas[row_partition(self._row)]
        answers = self._answers
        hints = [
            word
            for member, answer in sorted(answers.items())
            for target, sort in zip(answer.hints[::2], answer.hints[1::2], strict=True)
            for word in (member, target, sort)
        ]
        best = max(answers.values(), key=lambda answer: answer.stable, default=None)
        return Explained(
            self._request.id,
            self._rule.value,
            now.wall_ms,
            list(replicas),
            [answers[replica].state if replica in answers else DOWN for replica in replicas],
            [answers[replica].record if replica in answers else b"" for replica in replicas],
            hints,
            [head for _, answer in sorted(answers.items()) for head in answer.heads],
            sorted(self._reasons),
            [self._reasons[member] for member in sorted(self._reasons)],
            [answers[replica].stable if replica in answers else 0 for replica in replicas],
            best.reach if best is not None else [],
        )
