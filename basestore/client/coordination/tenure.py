"""Tenure: when a lock may be taken, and how long it may be believed to be held. Pure; by one clock.

    Claim     of who wants a lock: free, it is taken at once; held, it is looked at now and then, and taken
              once it has not changed for 1.25 times as long as its holder has said
    Tenure    of who has it: to be renewed after a third of its time; believed for three quarters of it, from
              when the last renewal that has succeeded was *sent*

What is measured is how long something has lasted, by the clock of whoever measures. So two believe in one
lock only where one clock goes a third faster than another, or where a process is stopped between looking at
its clock and doing something: against that helps nothing but a fence.
"""

from typing import Final, NamedTuple

from basestore.leases import BELIEVED, ENDED, HOLDER_BYTES, RENEWED, Holding
from basestore.repair.version import Version
from basestore.results.receipts import ReadResult

LOOK_S_MAX: Final = 0.5  # between two looks at a lock that another holds


class Take(NamedTuple):
    """The lock may be taken: with this row, in the place of what was read. `ends`: the row that is there,
    whose ephemeral keys go with it."""

    row: Holding
    ends: Holding | None
    version: Version | None


class Claim:
    """`held`: who has it, as far as was seen."""

    def __init__(self, holder: bytes, owner: str, lease_ms: int) -> None:
        assert len(holder) == HOLDER_BYTES
        self.holder, self._owner, self._lease_ms = holder, owner, lease_ms
        self.held: Holding | None = None
        self._seen: Version | None = None
        self._since_s = 0.0

    def look(self, found: ReadResult, now: float, wall_ms: int) -> Take | float:
        """What is to be done by what the lock holds: take it, or look again in so many seconds. ValueError
        for what is no row of a lock."""
        row = Holding(1, self.holder, self._owner, self._lease_ms, wall_ms)
        self.held = None
        if not found:
            return Take(row, None, None)
        assert found.value is not None
        held = Holding.decode(found.value)
        row = row._replace(token=held.token + 1)
        if not held.holder:
            return Take(row, None, found.version)
        self.held = held
        if found.version != self._seen:
            self._seen, self._since_s = found.version, now
        left_s = self._since_s + ENDED * held.lease_ms / 1e3 - now
        if left_s > 0 and held.holder != self.holder:
            return min(left_s, LOOK_S_MAX, held.lease_ms / 1e4)
        return Take(row, held, found.version)


class Tenure:
    """`row`, `version`: what the register holds, as far as this holder knows."""

    def __init__(self, row: Holding, version: Version, sent_s: float) -> None:
        """`sent_s`: when it was asked for."""
        self.row, self.version = row, version
        self._sent_s = sent_s

    @property
    def believed_until_s(self) -> float:
        return self._sent_s + BELIEVED * self.row.lease_ms / 1e3

    @property
    def due_s(self) -> float:
        """When it is to be renewed."""
        return self._sent_s + RENEWED * self.row.lease_ms / 1e3

    def next_row(self, keys: tuple[tuple[str, bytes], ...] | None = None) -> Holding:
        """That renews it; with these ephemeral keys, if they are to be others."""
        return self.row if keys is None else self.row._replace(keys=keys)

    def renewed(self, row: Holding, version: Version, sent_s: float) -> None:
        """It was."""
        self.row, self.version, self._sent_s = row, version, max(sent_s, self._sent_s)
