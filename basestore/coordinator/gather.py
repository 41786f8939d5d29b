"""Gather: the story of a question that goes to every member, whoever of them answers.

    ask              every member that has a link
    take             one has answered
    rejected, lost   one will not
    alarm            soon: members that are not alive are no longer waited for; at the deadline: nobody is

What those who are asked say is in `explaining.trace` and `inspecting.inspect`. When nobody is left to
wait for, the answer leaves, with the reasons of those who were not heard.
"""

from typing import TYPE_CHECKING, Generic, TypeVar

from basestore.cluster.operations import Operation
from basestore.cluster.outbox import SMALL_BYTES, Outbox, weight
from basestore.instant import Instant
from basestore.protocol.codec import Message
from basestore.protocol.operator import Inspect, Trace
from basestore.protocol.replication import Rejected

if TYPE_CHECKING:
    from basestore.coordinator.coordinator import Coordinator

REASON_LENGTH_MAX = 200
DOUBTFUL_S = 0.5  # a member that is not whole answers at once; one that is silent may never

Answer = TypeVar("Answer")


class Gather(Operation, Generic[Answer]):
    """One of them at its coordinator. In the end each member is in `answers` or in `reasons`."""

    __slots__ = ("_client", "_deadline", "_waiting", "answers", "coordinator", "reasons")

    def __init__(self, coordinator: "Coordinator", client: Outbox, bytes_held: int) -> None:
        super().__init__(bytes_held)
        self.coordinator = coordinator
        self._client = client
        self._waiting: set[int] = set()
        self.answers: dict[int, Answer] = {}
        self.reasons: dict[int, str] = {}

    def answer(self, now: Instant) -> Message:
        """What the client is told in the end."""
        raise NotImplementedError

    def ask(self, message: Trace | Inspect, timeout_ms: int, now: Instant, size: int = SMALL_BYTES) -> None:
        """Ask all that can be asked; `size` in bytes, of one message."""
        operations, peers = self.coordinator.operations, self.coordinator.peers
        for peer in peers.all:
            if peer.index != peers.me and not peer.linked:
                self.reasons[peer.index] = "there is no link to it"
            elif peers.send(peer.index, message, size):
                self._waiting.add(peer.index)
            else:
                self.reasons[peer.index] = "too much waits for it"
        self._deadline = now.monotonic + timeout_ms / 1e3
        operations.alarm_at(message.id, min(self._deadline, now.monotonic + DOUBTFUL_S))

    def take(self, member: int, answer: Answer, now: Instant) -> None:
        """The first answer of a member counts."""
        if member in self._waiting:
            self._waiting.discard(member)
            self.answers[member] = answer
            self._consider(now)

    def rejected(self, member: int, answer: Rejected, now: Instant) -> None:
        self._miss(member, answer.reason[:REASON_LENGTH_MAX], now)

    def lost(self, member: int, now: Instant) -> None:
        self._miss(member, "the link was lost", now)

    def alarm(self, now: Instant) -> None:
        late = now.monotonic >= self._deadline
        if not late:
            self.coordinator.operations.alarm_at(self.ids[0], self._deadline)
        for member in sorted(self._waiting):
            if late or not self.coordinator.peers.alive[member]:
                self._miss(member, "it did not answer in time", now)

    def _miss(self, member: int, reason: str, now: Instant) -> None:
        if member in self._waiting:
            self._waiting.discard(member)
            self.reasons[member] = reason
            self._consider(now)

    def _consider(self, now: Instant) -> None:
        if not self._waiting:
            self.coordinator.operations.drop(self)
            answer = self.answer(now)
            self._client.put(answer, weight(answer))
