"""Set and delete: what a client's write does beside its quorum write (`quorum_write.py`): it is admitted
before, and its receipt is sent afterwards.

Owns nothing: the write lives in `quorum_write`, the answer in the client's outbox.
"""

from functools import partial

from basestore.cluster.outbox import Outbox
from basestore.consistency import Level
from basestore.coordinator.admission import admit_write
from basestore.coordinator.attempts import Content, Decision
from basestore.coordinator.context import Context, refuse
from basestore.coordinator.quorum_write import write
from basestore.errors import InvalidRequest, RequestFailed
from basestore.instant import Instant
from basestore.metrics import FAILURES, WRITE_OUTCOMES
from basestore.protocol.client import Delete, Set, Written
from basestore.rows import row_partition


def set_or_delete(context: Context, outbox: Outbox, request: Set | Delete, now: Instant) -> None:
    """Begin; InvalidRequest or RequestFailed when nothing was begun."""
    level, content, repeated = admit_write(context, request, now)
    report = partial(answer, context, outbox, request.id, level, content, now.monotonic)
    deadline = now.monotonic + request.timeout_ms / 1e3
    write(context, content, level, deadline, report, now, repeated, reads_first=content.rule.reads_first)


def answer(
    context: Context, outbox: Outbox, request: int, level: Level, content: Content, begun_s: float,
    result: Decision | InvalidRequest | RequestFailed, now: Instant,
) -> None:  # fmt: skip
    """Send the receipt, or the error."""
    operation, seconds = "delete" if content.tombstone else "set", now.monotonic - begun_s
    if isinstance(result, Decision):
        context.metrics.answered(operation, level, WRITE_OUTCOMES[result.outcome], seconds)
        outbox.put(Written(request, *result, row_partition(content.row)))
    else:
        context.metrics.answered(operation, level, FAILURES[result.code], seconds)
        refuse(context, outbox, request, result)
