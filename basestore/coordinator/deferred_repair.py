"""Deferred repair: rows of which a replica was found behind, compared and mended in a while.

The while gives what is on its way the time to come: on a busy key most replicas that look behind
are not, when the writes that overtook each other have all arrived.
"""

from typing import TYPE_CHECKING

from basestore.cluster.operations import NOBODY, Once
from basestore.cluster.placement import row_partition
from basestore.coordinator.quorum_read import Aim, Finding, QuorumRead
from basestore.errors import RequestFailed
from basestore.instant import Instant
from repair.rule import Rule

if TYPE_CHECKING:
    from basestore.coordinator.coordinator import Coordinator

WAIT_S = 0.5
ROWS_MAX = 1024


class DeferredRepair:
    """The rows that wait, each once."""

    def __init__(self, coordinator: "Coordinator") -> None:
        self._coordinator = coordinator
        self._rows: set[bytes] = set()

    def soon(self, row: bytes, rule: Rule, now: Instant) -> None:
        """Mend this row in a while, unless it waits already or too many do: anti-entropy finds it."""
        if row in self._rows or len(self._rows) >= ROWS_MAX:
            return
        self._rows.add(row)
        operations, due_s = self._coordinator.operations, now.monotonic + WAIT_S
        wait = Once(operations, len(row), NOBODY, lambda _, now: self._begin(row, rule, now))
        operations.alarm_at(operations.issue(wait), due_s)

    def _begin(self, row: bytes, rule: Rule, now: Instant) -> None:
        """The while is over."""
        self._rows.discard(row)
        coordinator = self._coordinator
        if coordinator.idle:
            replicas = coordinator.placement.replicas[row_partition(row)]
            QuorumRead(coordinator, row, rule, replicas, Aim(0), _nobody).mend(now)


def _nobody(result: Finding | RequestFailed, now: Instant) -> None:
    """Nobody waits for what a mending finds."""
