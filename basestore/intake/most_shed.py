"""Most shed: of which tenants most was shed in the last minute. Pure: times are arguments.

A refusal costs one addition more, to what its tenant counts itself (`Tenant.shed`). Once a second that is
collected, and when a tenant goes: who comes with each request anew, or has given up, is named as well.

KEPT tenants are remembered. Where there are more, those of whom less was shed are forgotten; of many of whom
little was shed each, what is told is too small. Refuses nothing, and decides nothing.
"""

from collections.abc import Collection
from heapq import nlargest
from typing import Final

from basestore.intake.caller import Tenant
from basestore.intake.figures import NOTE_S, Lately

KEPT: Final = 64
SHOWN: Final = 3


class _Count:
    """Of one tenant. `shed`: in all, since it is remembered."""

    __slots__ = ("_lately", "shed")

    def __init__(self) -> None:
        self.shed = 0
        self._lately = Lately(1)

    def tick(self, now_s: float) -> None:
        self._lately.tick((self.shed,), now_s)

    @property
    def lately(self) -> int:
        """In the last minute."""
        return self._lately.of((self.shed,))[0]


class MostShed:
    """Of one node."""

    def __init__(self) -> None:
        self._counts: dict[str, _Count] = {}
        self._due_s = 0.0

    def collect(self, tenant: Tenant) -> None:
        """What was shed of it since this was done last; with too many at once, it is forgotten."""
        if tenant.shed and (tenant.name in self._counts or len(self._counts) < 2 * KEPT):
            self._counts.setdefault(tenant.name, _Count()).shed += tenant.shed
        tenant.shed = 0

    def tick(self, tenants: Collection[Tenant], now_s: float) -> None:
        """Collect from those that are connected, if it is time."""
        if now_s < self._due_s:
            return
        self._due_s = max(self._due_s + NOTE_S, now_s)
        for tenant in nlargest(KEPT, tenants, key=_shed):
            self.collect(tenant)
        for tenant in tenants:
            tenant.shed = 0
        for count in self._counts.values():
            count.tick(now_s)
        kept = nlargest(KEPT, self._counts.items(), key=_lately)
        self._counts = {name: count for name, count in kept if count.lately}

    @property
    def known(self) -> int:
        """How many tenants it remembers."""
        return len(self._counts)

    def of(self, tenants: Collection[Tenant]) -> tuple[tuple[str, int], ...]:
        """The first few, and how many requests; with what `tenants` have counted since."""
        counts = {name: count.lately for name, count in self._counts.items()}
        for tenant in tenants:
            if tenant.shed:
                counts[tenant.name] = counts.get(tenant.name, 0) + tenant.shed
        return tuple(nlargest(SHOWN, ((name, count) for name, count in counts.items() if count), key=_second))


def _shed(tenant: Tenant) -> int:
    return tenant.shed


def _lately(item: tuple[str, _Count]) -> int:
    return item[1].lately


def _second(pair: tuple[str, int]) -> int:
    return pair[1]
