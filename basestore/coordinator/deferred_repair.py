"""Deferred repair: rows of which a replica was found behind, compared and mended in a while.

The while gives what is on its way the time to come: on a busy key most replicas that look behind
are not, when the writes that overtook each other have all arrived.
"""

from typing import TYPE_CHECKING

from basestore.cluster.operations import Operation
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
        operations = self._coordinator.operations
        wait = _Wait(self, row, rule)
        operations.alarm_at(operations.issue(wait), now.monotonic + WAIT_S)

    def begin(self, wait: "_Wait", now: Instant) -> None:
        """The while is over."""
        self._rows.discard(wait.row)
        coordinator = self._coordinator
        coordinator.operations.drop(wait)
        if coordinator.idle:
            replicas = coordinator.placement.replicas[row_partition(wait.row)]
            QuorumRead(coordinator, wait.row, wait.rule, replicas, Aim(0), _nobody).mend(now)


class _Wait(Operation):
    __slots__ = ("_deferred_repair", "row", "rule")

    def __init__(self, deferred_repair: DeferredRepair, row: bytes, rule: Rule) -> None:
        super().__init__(len(row))
        self._deferred_repair = deferred_repair
        self.row = row
        self.rule = rule

    def alarm(self, now: Instant) -> None:
        self._deferred_repair.begin(self, now)


def _nobody(result: Finding | RequestFailed, now: Instant) -> None:
    """Nobody waits for what a mending finds."""
