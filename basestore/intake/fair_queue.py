"""Fair queue: frames of one class that wait to be opened, each tenant's behind one another.

Among tenants whose turn it is goes by *start-time fair queueing* (Goyal, Vin, Cheng 1996): whoever has been
served least, by cost, is next, and who was idle is not behind those who were not. One tenant with sixteen
connections gets as much as one with two.

How long a frame may wait is each tenant's own affair, so that the polite are not refused for the queue of the
greedy. The rule is that of "Fail at Scale" (Maurer 2015), after CoDel (Nichols and Jacobson 2012): a queue
that was empty within the last tenth of a second is a burst, and a burst may wait; one that was not is a
standing queue, which only makes all answers late. Frames that waited half of their time are lost in any case.

    a burst         100 ms
    standing         20 ms     once the tenant's queue has not been empty for 100 ms

Waits for nothing and reads no clock.
"""

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from heapq import heappop, heappush
from typing import Any, NamedTuple

from basestore.protocol.envelopes import BULK, DEFERRABLE

BURST_S = 0.1
WAIT_S_MAX = 0.1  # of what waits in a burst
STANDING_WAIT_S_MAX = 0.02  # a step of a node lasts up to half of that
TIME_SHARE_MAX = 0.5  # of a request's own time
COST_BYTES = 4096  # that weigh as much as one more request
DEBTS_MAX = 4096  # a stranger may come from many addresses


def class_in(frame: Any) -> int:
    """The class that its envelope says. Whoever lies is found out when it is opened."""
    return min(int(frame.kind) & ~DEFERRABLE, BULK)


class Waiting(NamedTuple):
    """A frame in a queue: whose it is, and when it was read."""

    caller: Any
    frame: Any
    read_s: float

    @property
    def cost(self) -> int:
        return int(self.frame.asks) + int(self.frame.size) // COST_BYTES

    def hopeless(self, now_s: float) -> bool:
        """Whether half of its time is over."""
        timeout_ms = self.frame.timeout_ms
        return bool(timeout_ms and (now_s - self.read_s) * 1e3 > timeout_ms * TIME_SHARE_MAX)


@dataclass(slots=True, eq=False)
class _Flow:
    """The frames of one tenant, and how many requests are in them. `start`: where its next frame stands in
    what all were served; `since_s`: when it was empty last."""

    tenant: Any
    asks: int = 0
    start: float = 0.0
    since_s: float = 0.0
    frames: deque[Waiting] = field(default_factory=deque)


class FairQueue:
    """Of one class. `asks`: how many requests wait."""

    def __init__(self) -> None:
        self._flows: dict[Any, _Flow] = {}  # of tenants, of whom something waits
        self._ahead: list[tuple[float, int, _Flow]] = []  # a heap of them, by `start`
        self._served = 0.0  # the start of the frame that was taken last
        self._order = 0
        self._debts: dict[Any, float] = {}  # of tenants of whom nothing waits, where they are to go on
        self.asks = 0

    def put(self, tenant: Any, waiting: Waiting) -> None:
        """Behind what waits of this tenant."""
        flow = self._flows.get(tenant)
        if flow is None:
            flow = self._flows[tenant] = _Flow(tenant, since_s=waiting.read_s)
            flow.start = max(self._served, self._debts.pop(tenant, 0.0))
            self._push(flow)
        flow.frames.append(waiting)
        asks = waiting.frame.asks
        flow.asks += asks
        self.asks += asks

    def take(self, may: Callable[[Any], bool]) -> Waiting | None:
        """The next frame of the tenants that `may` have one begun, if there is any."""
        passed = []
        taken = None
        while self._ahead and taken is None:
            entry = heappop(self._ahead)
            flow = entry[2]
            if not flow.frames:  # all of it was refused
                continue
            if may(flow.tenant):
                taken = self._pop(flow)
                self._served = flow.start
                flow.start += taken.cost
                if flow.frames:
                    self._push(flow)
                else:
                    self._empty(flow)
            else:
                passed.append(entry)
        for entry in passed:
            heappush(self._ahead, entry)
        return taken

    def overdue(self, now_s: float) -> Iterator[Waiting]:
        """Take out, and give, whatever has waited too long."""
        for flow in list(self._flows.values()):
            standing = now_s - flow.since_s >= BURST_S
            allowed_s = STANDING_WAIT_S_MAX if standing else WAIT_S_MAX
            while flow.frames:
                waiting = flow.frames[0]
                time_s = waiting.frame.timeout_ms / 1e3 * TIME_SHARE_MAX
                if now_s - waiting.read_s <= (min(allowed_s, time_s) if time_s else allowed_s):
                    break
                yield self._pop(flow)
            if not flow.frames:
                self._empty(flow)

    def drop(self, caller: Any, tenant: Any) -> Iterator[Waiting]:
        """Take out what waits of a caller that is gone."""
        flow = self._flows.get(tenant)
        if flow is None:
            return
        gone = [waiting for waiting in flow.frames if waiting.caller is caller]
        if gone:
            flow.frames = deque(waiting for waiting in flow.frames if waiting.caller is not caller)
            asks = sum(waiting.frame.asks for waiting in gone)
            flow.asks -= asks
            self.asks -= asks
            if not flow.frames:
                self._empty(flow)
        yield from gone

    def asks_of(self, tenant: Any) -> int:
        """How many requests of it wait."""
        flow = self._flows.get(tenant)
        return flow.asks if flow is not None else 0

    def others(self, tenant: Any) -> bool:
        """Whether something waits of anybody else."""
        return len(self._flows) > (tenant in self._flows)

    @property
    def tenants(self) -> Iterable[Any]:
        """Of whom something waits."""
        return self._flows.keys()

    def _pop(self, flow: _Flow) -> Waiting:
        waiting = flow.frames.popleft()
        asks = waiting.frame.asks
        flow.asks -= asks
        self.asks -= asks
        return waiting

    def _push(self, flow: _Flow) -> None:
        self._order += 1
        heappush(self._ahead, (flow.start, self._order, flow))

    def _empty(self, flow: _Flow) -> None:
        # What it was served beyond its turn is not forgotten while others wait.
        del self._flows[flow.tenant]
        if not self._flows or len(self._debts) >= DEBTS_MAX:
            self._debts.clear()
        else:
            self._debts[flow.tenant] = flow.start
