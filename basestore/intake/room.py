"""Room: what of clients' requests is under way on a node, and which of those that wait may enter next.

There is room for so many requests as can be answered in time (`requests_max`), not for as many as fit into
memory: with more, all answers are late (Little's law). Large ones fill it sooner, for what is begun at once
must fit into what waits to be sent to another node (BEGUN_BYTES_MAX); and while one does not keep up
(`lagging`) the house counts as full. What was answered by the others still waits for that one: so nothing
enters, of whomever, that would make its outbox run over (`spare`), for then its link would break.

    class     of the room                                     among tenants (`fair_queue.py`)
    ADMIN     16 places of its own, always                    nobody has more than half
    READ      before WRITE, WRITE before BULK; of each an     who was served least is next; while others
    WRITE     eighth of the room is kept for it while it      wait nobody holds more than half; and who holds
    BULK      asks                                            less than an eighth may enter a full house

It opens nothing, and reads no clock.
"""

from collections.abc import Sequence
from typing import Final

from basestore.cluster.outbox import OUTBOX_BYTES_MAX
from basestore.intake.caller import DEFERRED, Tenant
from basestore.intake.fair_queue import FairQueue, Waiting
from basestore.protocol.envelopes import ADMIN, BULK, READ, WRITE

ADMIN_MAX: Final = 16
OVERDRAFT: Final = 4  # a full house takes so many-th more of tenants that hold little
LITTLE: Final = 8  # of the room, divided by this
BEGUN_BYTES_MAX: Final = OUTBOX_BYTES_MAX // 2  # of what is under way
LAGGING_BYTES: Final = OUTBOX_BYTES_MAX // 2  # for another node, until only who holds little is begun
SENT_BYTES_MAX: Final = OUTBOX_BYTES_MAX * 3 // 4  # for another node, until nobody is
_KINDS: Final = READ, WRITE, BULK


class Room:
    """Of one node, whose `queues` hold what waits, by class. `under_way`: how many requests are, by class,
    and `bytes` of those that need room."""

    def __init__(self, queues: Sequence[FairQueue], requests_max: int) -> None:
        self.requests_max = requests_max
        self.under_way = [0] * len(queues)
        self.bytes = 0
        self.lagging = False
        self.spare: float = SENT_BYTES_MAX
        self._requests = 0
        self._queues = queues

    def heed(self, backlog: int) -> None:
        """So many bytes wait to be sent to the node that takes least."""
        self.lagging = backlog > LAGGING_BYTES
        self.spare = SENT_BYTES_MAX - backlog

    def take(self, tenant: Tenant, lane: int, count: int, size: int) -> None:
        """So many more requests of a tenant, or fewer, are under way."""
        if lane == DEFERRED:
            return
        self.under_way[lane] += count
        if lane == ADMIN:
            tenant.admin += count
            return
        self._requests += count
        self.bytes += size
        if count > 0:
            self.spare -= size
        tenant.under_way += count
        tenant.bytes += size

    @property
    def plenty(self) -> bool:
        """Whether more is to be begun of whoever asks."""
        return not self.lagging and self._requests < self.requests_max and self.bytes < BEGUN_BYTES_MAX

    @property
    def asked_for(self) -> bool:
        """Whether something waits that there is plenty of room for."""
        if self.under_way[ADMIN] < ADMIN_MAX and any(map(_may_operate, self._queues[ADMIN].tenants)):
            return True
        return self.plenty and any(self._queues[kind].asks for kind in _KINDS)

    def next(self) -> Waiting | None:
        """What enters next, taken out of its queue; None if nothing may."""
        queues = self._queues
        if queues[ADMIN].asks and self.under_way[ADMIN] < ADMIN_MAX:
            return queues[ADMIN].take(_may_operate)
        if self.bytes >= BEGUN_BYTES_MAX + BEGUN_BYTES_MAX // OVERDRAFT or self.spare <= 0:
            return None
        for kind in _KINDS:
            if queues[kind].asks and self._requests < self._bound_of(kind):
                taken = queues[kind].take(self._may_enter)
                if taken is not None:
                    return taken
        return None

    def _bound_of(self, kind: int) -> int:
        """Of requests in all: what is kept for other classes that ask is not there for this one."""
        floor = self.requests_max // LITTLE
        kept = 0
        for other in _KINDS:
            if other != kind and self._queues[other].asks:
                kept += max(0, floor - self.under_way[other])
        return self.requests_max + self.requests_max // OVERDRAFT - kept

    def _may_enter(self, tenant: Tenant) -> bool:
        if not self.plenty:
            return tenant.holds_less(self.requests_max // LITTLE, BEGUN_BYTES_MAX // LITTLE)
        if tenant.holds_less(self.requests_max // 2, BEGUN_BYTES_MAX // 2):
            return True
        return not any(self._queues[kind].others(tenant) for kind in _KINDS)  # in any class


def _may_operate(tenant: Tenant) -> bool:
    return tenant.admin < ADMIN_MAX // 2
