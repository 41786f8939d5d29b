"""Deferred repair: rows of which a write has found a replica behind, compared and mended in a while.

The while gives what is on its way the time to come: on a busy key most replicas that look behind
are not, when the writes that overtook each other have all arrived. The rows that wait, each once, are
in `Context.load`. What there is no room for is left to anti-entropy. Owns only the wait: the comparison is
`quorum_read.mend`.
"""

from basestore.cluster.operations import NOBODY, Once
from basestore.consistency import Level
from basestore.coordinator.context import Context
from basestore.coordinator.finding import PLAIN, Finding
from basestore.coordinator.quorum_read import QuorumRead
from basestore.errors import RequestFailed
from basestore.instant import Instant
from basestore.repair.rule import Rule
from basestore.rows import row_partition

WAIT_S = 0.5
ROWS_MAX = 1024


def repair_soon(context: Context, row: bytes, rule: Rule, now: Instant) -> None:
    """Mend this row in a while, unless it waits already or too many do: anti-entropy finds it."""
    waiting = context.load.repairs_waiting
    if row in waiting or len(waiting) >= ROWS_MAX:
        return
    waiting.add(row)

    def begin(answer: object, now: Instant) -> None:
        # First: a write that finds a replica behind from now on is not sure to be seen, and asks anew.
        waiting.discard(row)
        if context.operations.idle:
            quorum = context.placement.quorums[row_partition(row)][Level.ALL]
            QuorumRead(context, row, rule, quorum, PLAIN, _nobody).mend(now)

    operations = context.operations
    wait = Once(operations, len(row), NOBODY, begin)
    operations.alarm_at(operations.issue(wait), now.monotonic + WAIT_S)


def _nobody(result: Finding | RequestFailed, now: Instant) -> None:
    """Nobody waits for what a mending finds."""
