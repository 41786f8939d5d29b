"""Coordinator: which function takes up a client's request that is begun alone.

    Set, Delete   set_delete.py    admission, `quorum_write` (which has it stamped), the receipt
    Get           get.py           admission, `quorum_read`, staleness, the answer
    Scan          range_scan.py    one page, out of all partitions
    Explain       explain.py       what every member knows of a key (`gather`)
    Survey        gather.py        what every member says of partitions

What is plain of Set, Delete and Get is begun in groups instead (`groups/turn.py`), as far as several came at
once. A request is answered in the outbox that it came with, at the latest at its deadline. What is raised
before it has begun, `receive` answers. Owns this table, and nothing of what is under way.
"""

from collections.abc import Callable, Mapping
from typing import Any, Final

from basestore.cluster.outbox import Outbox
from basestore.coordinator.context import Context, refuse
from basestore.coordinator.explain import explain
from basestore.coordinator.gather import survey
from basestore.coordinator.get import get
from basestore.coordinator.range_scan import scan
from basestore.coordinator.set_delete import set_or_delete
from basestore.errors import InvalidRequest, RequestFailed
from basestore.instant import Instant
from basestore.protocol.client import Delete, Get, Scan, Set
from basestore.protocol.operator import Explain, Survey

REQUESTS: Final[Mapping[type, Callable[[Context, Outbox, Any, Instant], None]]] = {
    Set: set_or_delete,
    Delete: set_or_delete,
    Get: get,
    Scan: scan,
    Explain: explain,
    Survey: survey,
}
OPERATIONS: Final[Mapping[type, str]] = {Set: "set", Delete: "delete", Get: "get", Scan: "scan"}


def receive(context: Context, outbox: Outbox, request: Any, now: Instant) -> None:
    """Begin a client's request, of a class in REQUESTS."""
    try:
        REQUESTS[type(request)](context, outbox, request, now)
    except (InvalidRequest, RequestFailed) as error:
        counted = OPERATIONS.get(type(request))
        if counted:
            context.metrics.refused(counted, request.level, error.code)
        refuse(context, outbox, request.id, error)
