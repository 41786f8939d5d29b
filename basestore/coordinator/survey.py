"""Survey: the gather of one survey: every member is asked for a page of partitions.

The answer has all that was said. What it proves is worked out at the client's (`cluster_view.py` and those
above it).
"""

from typing import TYPE_CHECKING

from basestore.cluster.outbox import Outbox
from basestore.coordinator.gather import Gather
from basestore.instant import Instant
from basestore.protocol.codec import Message, encode
from basestore.protocol.operator import NEVER, PAGE_PARTITIONS, PAIR, Inspect, Inspected, Survey, Surveyed

if TYPE_CHECKING:
    from basestore.coordinator.coordinator import Coordinator

SURVEY_BYTES = 1 << 20  # what a page may hold


class SurveyGather(Gather[bytes]):
    """One page of a survey at its coordinator; answers as they are encoded."""

    __slots__ = ("_first", "_request", "_total")

    def __init__(
        self, coordinator: "Coordinator", client: Outbox, request: Survey, first: int, total: int
    ) -> None:
        super().__init__(coordinator, client, SURVEY_BYTES)
        self._request = request
        self._first = first
        self._total = total

    def begin(self, now: Instant) -> None:
        """Ask all that can be asked."""
        request, count = self._request, min(self._total, PAGE_PARTITIONS)
        issued = self.coordinator.operations.issue(self)
        message = Inspect(issued, self._first, count, request.within_ms, request.full)
        self.ask(message, max(1, min(request.timeout_ms, self.coordinator.timeout_ms_max)), now)

    def inspected(self, member: int, answer: Inspected, now: Instant) -> None:
        self.coordinator.peers.check_known(answer.pairs[1::PAIR])
        self.take(member, encode([answer]), now)

    def answer(self, now: Instant) -> Message:
        after = self._first + PAGE_PARTITIONS
        more = self._total > 1 and after < self.coordinator.placement.partitions
        told, unheard = sorted(self.answers), sorted(self.reasons)
        return Surveyed(
            self._request.id, self._total, after if more else NEVER, told,
            [self.answers[member] for member in told], unheard,
            [self.reasons[member] for member in unheard],
        )  # fmt: skip
