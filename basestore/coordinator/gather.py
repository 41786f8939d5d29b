"""Gather: one question to every member, and the answers of whoever says anything.

    ask                 every member that has a link
    traced, inspected   one has answered; its first answer counts
    rejected, lost      one will not
    alarm               soon: members that are not alive are no longer waited for; at the deadline:
                        nobody is

When nobody is left to wait for, `conclude` makes an answer out of what was said, and out of
the reasons of those who were not heard. A gather changes nothing and judges nothing. What members say
is made in `observe.trace` and `observe.inspect`.

The plainest one is a *survey*: what every member says of itself and of a page of partitions, as it was said.
What that proves is worked out at the client's (`results.cluster_view` and those above it).
"""

from collections.abc import Callable
from functools import partial
from typing import Any

from basestore.cluster.operations import Operation
from basestore.cluster.outbox import SMALL_BYTES, Outbox, weight
from basestore.coordinator.admission import SURVEY_BYTES, admit_survey
from basestore.coordinator.context import Context
from basestore.instant import Instant
from basestore.protocol.codec import encode
from basestore.protocol.operator import (
    NEVER,
    PAGE_PARTITIONS,
    Inspect,
    Inspected,
    Survey,
    Surveyed,
    Told,
    Trace,
    Traced,
    Unheard,
)
from basestore.protocol.replication import Rejected

REASON_LENGTH_MAX = 200
DOUBTFUL_S = 0.5  # a member that is not whole answers at once; one that is silent may never

Conclude = Callable[["Gather", Instant], None]


class Gather(Operation):
    """One of them at its coordinator. In the end each member's number is in `answers` or in `reasons`."""

    __slots__ = ("_conclude", "_context", "_deadline", "_expected", "_waiting", "answers", "reasons")

    def __init__(self, context: Context, bytes_held: int, conclude: Conclude) -> None:
        super().__init__(bytes_held)
        self._context = context
        self._conclude = conclude
        self._waiting: set[int] = set()
        self.answers: dict[int, Any] = {}
        self.reasons: dict[int, str] = {}

    def ask(self, message: Trace | Inspect, timeout_ms: int, now: Instant, size: int = SMALL_BYTES) -> None:
        """Ask all that can be asked; `size` in bytes, of one message."""
        operations, peers = self._context.operations, self._context.peers
        self._expected = Traced if isinstance(message, Trace) else Inspected
        # One answer at least is awaited: this node asks itself too, and its own outbox refuses nothing.
        for peer in peers.present:
            if peer.index != peers.me and not peer.linked:
                self.reasons[peer.number] = "there is no link to it"
            elif peers.send(peer.index, message, size):
                self._waiting.add(peer.index)
            else:
                self.reasons[peer.number] = "too much waits for it"
        self._deadline = now.monotonic + timeout_ms / 1e3
        operations.alarm_at(message.id, min(self._deadline, now.monotonic + DOUBTFUL_S))

    def traced(self, member: int, answer: Traced, now: Instant) -> None:
        self._context.peers.check_known(hint.target for hint in answer.hints)
        self._context.peers.check_known(reach.number for reach in answer.reach)
        self._take(member, answer, now)

    def inspected(self, member: int, answer: Inspected, now: Instant) -> None:
        self._context.peers.check_known(pair.number for pair in answer.pairs)
        self._context.peers.check_known(loss.number for loss in answer.losses)
        self._take(member, answer, now)

    def _take(self, member: int, answer: Any, now: Instant) -> None:
        if member in self._waiting and isinstance(answer, self._expected):  # not an answer to something else
            self._waiting.discard(member)
            self.answers[self._context.peers.number_of[member]] = answer
            self._consider(now)

    def rejected(self, member: int, answer: Rejected, now: Instant) -> None:
        self._miss(member, answer.reason[:REASON_LENGTH_MAX], now)

    def lost(self, member: int, now: Instant) -> None:
        self._miss(member, "the link was lost", now)

    def alarm(self, now: Instant) -> None:
        late = now.monotonic >= self._deadline
        if not late:
            self._context.operations.alarm_at(self.ids[0], self._deadline)
        for member in sorted(self._waiting):
            if late or not self._context.peers.alive[member]:
                self._miss(member, "it did not answer in time", now)

    def _miss(self, member: int, reason: str, now: Instant) -> None:
        if member in self._waiting:
            self._waiting.discard(member)
            self.reasons[self._context.peers.number_of[member]] = reason
            self._consider(now)

    def _consider(self, now: Instant) -> None:
        if not self._waiting:
            self._context.operations.drop(self)
            self._conclude(self, now)


def survey(context: Context, outbox: Outbox, request: Survey, now: Instant) -> None:
    """Begin; InvalidRequest or RequestFailed when nothing was begun."""
    first, total = admit_survey(context, outbox, request, now)
    gather = Gather(context, SURVEY_BYTES, partial(_surveyed, context, outbox, request, first, total))
    count = min(total, PAGE_PARTITIONS)
    message = Inspect(
        context.operations.issue(gather), first, count, request.within_ms, request.full, request.accepted
    )
    gather.ask(message, max(1, min(request.timeout_ms, context.timeout_ms_max)), now, weight(message))


def _surveyed(
    context: Context, outbox: Outbox, request: Survey, first: int, total: int, gather: Gather, now: Instant
) -> None:
    after = first + PAGE_PARTITIONS
    more = total > 1 and after < context.placement.partitions
    told = [Told(number, encode([answer])) for number, answer in sorted(gather.answers.items())]
    unheard = [Unheard(*miss) for miss in sorted(gather.reasons.items())]
    answer = Surveyed(request.id, total, after if more else NEVER, told, unheard)
    outbox.put(answer, weight(answer))
