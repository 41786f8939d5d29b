"""Trace: what a member says of one row when somebody asks what became of a key (`coordinator.explain`).

Reads the record, the hints that are kept for it, and what is proven of its partition. Changes nothing:
nothing is repaired, and a damaged record is not even noted.
"""

from basestore.anti_entropy.certificates import Certificates
from basestore.cluster.placement import row_partition
from basestore.handoff.delivery import Delivery
from basestore.protocol.operator import DAMAGED, LATE, ONLY_COPY, UP, Trace, Traced
from basestore.replica.replica import Replica
from repair.write_repair import Hint


def trace(
    message: Trace, state: str, replica: Replica, delivery: Delivery, certificates: Certificates
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
