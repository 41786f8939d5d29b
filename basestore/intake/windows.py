"""Windows: how many requests each caller should have under way, and when what was refused may come again.

What there is room for, and as much again to wait for it, is shared among the tenants that have asked lately,
and a tenant's share among its connections. Who keeps to its window is not refused: its requests wait at its
own side, where they cost nothing. A caller is told (`Credit`) with its next answers when its window is
another by a quarter.
"""

from collections.abc import Iterable

from basestore.intake.caller import Caller, Tenant
from basestore.protocol.client import Credit
from basestore.protocol.limits import WINDOW_FIRST

LATELY_S = 1.0
RETRY_MS = 100
RETRY_MS_MAX = 5000


class Windows:
    """Of one node. `retry_ms`: when what is refused now may be done."""

    def __init__(self, requests_max: int) -> None:
        self._requests_max = requests_max
        self._asking: dict[Tenant, int] = {}
        self._ends_s = 0.0
        self._offered = self._begun = 0
        self.retry_ms = RETRY_MS

    def tick(self, callers: Iterable[Caller], offered: int, begun: int, now_s: float) -> None:
        """Count who asks. `offered` and `begun`: how many requests, ever."""
        asking: dict[Tenant, int] = {}
        lately_s = now_s - LATELY_S
        for caller in callers:
            if caller.heard_s >= lately_s:
                asking[caller.tenant] = asking.get(caller.tenant, 0) + 1
        self._asking = asking
        if now_s >= self._ends_s:
            self._ends_s = now_s + LATELY_S
            times = (offered - self._offered) / max(1, begun - self._begun)
            self.retry_ms = int(min(RETRY_MS_MAX, RETRY_MS * max(1.0, times)))
            self._offered, self._begun = offered, begun

    def of(self, caller: Caller) -> int:
        """How many this one should have under way, at least 1."""
        sharing = max(1, self._asking.get(caller.tenant, 1)) * max(1, len(self._asking))
        most = max(WINDOW_FIRST, self._requests_max)
        return max(1, min(most, 2 * self._requests_max // sharing))

    def changed(self, caller: Caller) -> Credit | None:
        """What it is to be told."""
        window, told = self.of(caller), caller.window
        if abs(window - told) * 4 < told:
            return None
        caller.window = window
        return Credit(window)
