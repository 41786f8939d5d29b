"""Explain: the gather of one explain, and what a member says when it is traced.

The answer says what each replica holds, which hints are kept where, and who was not heard. It decides
nothing: `explanation.py` does, at the client's. Nothing is repaired, and a damaged record is not even
noted.
"""

from typing import TYPE_CHECKING

from basestore.cluster.outbox import SMALL_BYTES, Outbox
from basestore.cluster.placement import row_partition
from basestore.coordinator.gather import Gather
from basestore.instant import Instant
from basestore.protocol.codec import Message
from basestore.protocol.operator import (
    DAMAGED,
    DOWN,
    LATE,
    ONLY_COPY,
    UP,
    Explain,
    Explained,
    Trace,
    Traced,
)
from basestore.replica.replica import Replica
from repair.rule import Rule
from repair.write_repair import Hint

if TYPE_CHECKING:
    from basestore.anti_entropy.certificates import Certificates
    from basestore.coordinator.coordinator import Coordinator
    from basestore.handoff.delivery import Delivery


def trace(
    message: Trace, state: str, replica: Replica, delivery: "Delivery", certificates: "Certificates"
) -> Traced:
    """What this node says of a row; `state` is that of its store."""
    record = replica.trace(message.row)
    if record is None and state == UP:
        state = DAMAGED
    kept = delivery.hints_for(message.row)
    hints = [word for member, hint in kept for word in (member, _sort_of(hint))]
    partition, stable = row_partition(message.row), 0
    reach: list[int] = []
    if partition in certificates.replicas:
        stable = replica.summaries.of[partition].shown
        reach = [word for each in certificates.reach(partition) for word in each]
    return Traced(
        message.id, state, record or b"", hints, [hint.record.head for _, hint in kept], stable, reach
    )


def _sort_of(hint: Hint) -> int:
    return ONLY_COPY * hint.only_copy + LATE * hint.late


class ExplainGather(Gather[Traced]):
    """One explain at its coordinator."""

    __slots__ = ("_request", "_row", "_rule")

    def __init__(
        self, coordinator: "Coordinator", client: Outbox, request: Explain, row: bytes, rule: Rule
    ) -> None:
        super().__init__(coordinator, client, len(row) + SMALL_BYTES * len(coordinator.names))
        self._request = request
        self._row = row
        self._rule = rule

    def begin(self, now: Instant) -> None:
        """Ask all that can be asked: the replicas hold the row, any member may keep a hint."""
        message = Trace(self.coordinator.operations.issue(self), self._row)
        self.ask(message, self._request.timeout_ms, now, SMALL_BYTES + len(self._row))

    def traced(self, member: int, answer: Traced, now: Instant) -> None:
        self.coordinator.peers.check_known([*answer.hints[::2], *answer.reach[::3]])
        self.take(member, answer, now)

    def answer(self, now: Instant) -> Message:
        replicas = self.coordinator.placement.replicas[row_partition(self._row)]
        answers = self.answers
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
            sorted(self.reasons),
            [self.reasons[member] for member in sorted(self.reasons)],
            [answers[replica].stable if replica in answers else 0 for replica in replicas],
            best.reach if best is not None else [],
        )
