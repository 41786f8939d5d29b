"""Deferred repair: rows of which a replica was found behind, compared and mended in a while.

The while gives what is on its way the time to come: on a busy key most replicas that look behind
are not, when the writes that overtook each other have all arrived.
"""

from basestore.cluster.operations import NOBODY, Once
from basestore.coordinator.context import Context
from basestore.coordinator.quorum_read import mend
from basestore.instant import Instant
from repair.rule import Rule

WAIT_S = 0.5
ROWS_MAX = 1024


def repair_soon(context: Context, row: bytes, rule: Rule, now: Instant) -> None:
    """Mend this row in a while, unless it waits already or too many do: anti-entropy finds it."""
    waiting = context.load.repairs_waiting
    if row in waiting or len(waiting) >= ROWS_MAX:
        return
    waiting.add(row)

    def begin(answer: object, now: Instant) -> None:
        waiting.discard(row)
        if context.operations.idle:
            mend(context, row, rule, now)

    operations = context.operations
    wait = Once(operations, len(row), NOBODY, begin)
    operations.alarm_at(operations.issue(wait), now.monotonic + WAIT_S)
