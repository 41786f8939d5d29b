"""HybridClock: stamps that follow wall clocks, never repeat and never go back.

After Kulkarni et al., "Logical Physical Clocks" (2014), packed into one integer: 48 bits of
milliseconds above 16 bits of counter. The wall clock is an argument.

A stamp is handed out only at or below the *ceiling*, a stamp that the node's storage holds
durably; a restart begins above the ceiling, so a stamp is never used twice, even when the wall
clock went back meanwhile. Who owns the clock raises the ceiling ahead of time:

    ceiling = clock.wanted_ceiling(wall_ms)     # None while there is room enough
    ... make it durable ...
    clock.raise_ceiling(ceiling)                # only then

The ceiling runs ahead of the wall clock by half the drift bound (200 ms at least), or of the last stamp by
400 ms if that is later. A node that restarts at once stamps that far ahead; replicas refuse direct writes
beyond the bound. It stores no ceiling (`replica/clock_ceiling.py` does) and reads no clock.
"""

from repair.version import COUNTER_BITS

RESERVE_MS_MIN = 200
LEAD_MS = 200


class CeilingReached(Exception):
    """The next stamp lies above the durable ceiling; raise the ceiling first."""


class HybridClock:
    """One node's source of stamps."""

    __slots__ = ("_reserve", "ceiling", "drift_ms_max", "last")

    def __init__(self, ceiling: int, drift_ms_max: int) -> None:
        """Start above `ceiling`, the durable one of the last run (0 for a new store)."""
        self.ceiling = ceiling
        self.last = ceiling
        self.drift_ms_max = drift_ms_max
        self._reserve = max(drift_ms_max // 2, RESERVE_MS_MIN) << COUNTER_BITS

    @property
    def ready(self) -> bool:
        """Whether the next stamp lies at or below the ceiling."""
        return self.last < self.ceiling

    def tick(self, wall_ms: int) -> int:
        """A new stamp, greater than every one handed out, or taken over by `observe`; CeilingReached."""
        stamp = self._next(wall_ms)
        if stamp > self.ceiling:
            raise CeilingReached
        self.last = stamp
        return stamp

    def observe(self, stamp: int, wall_ms: int) -> bool:
        """Take note of another node's stamp; False when it runs too far ahead of `wall_ms`.

        A stamp beyond the drift bound is not taken over: one bad clock must not drag the others.
        """
        if stamp > (wall_ms + self.drift_ms_max) << COUNTER_BITS:
            return False
        # `last` may come to lie above the ceiling: then nothing is stamped until that was raised.
        if stamp > self.last:
            self.last = stamp
        return True

    def wanted_ceiling(self, wall_ms: int) -> int | None:
        """The ceiling to make durable next, or None while the present one leaves room.

        When stamps run ahead of the wall clock (after a restart, or by another node's clock) it
        leads them by little only, or restarts in quick succession would add up.
        """
        wall, lead = wall_ms << COUNTER_BITS, LEAD_MS << COUNTER_BITS
        if max(wall + self._reserve // 2, self.last + lead) <= self.ceiling:
            return None
        if self.last > wall + (self.drift_ms_max << COUNTER_BITS):
            return None  # nothing may be stamped until the wall clock has caught up
        return self._target(wall)

    def lower_ceiling(self, wall_ms: int) -> int | None:
        """Take back a ceiling that a wrong wall clock has set far too high, and return the new one, to
        be stored too; None where there is nothing to take back. No stamp above `last` was given out,
        so it is in force at once; until it is stored, a restart merely begins too high."""
        wall = wall_ms << COUNTER_BITS
        # Well above what `_target` sets by a clock that is right: an ordinary lead is not taken back.
        if self.ceiling <= max(wall, self.last) + 4 * (self._reserve + (LEAD_MS << COUNTER_BITS)):
            return None
        self.ceiling = self._target(wall)
        return self.ceiling

    def _target(self, wall: int) -> int:
        return max(wall + self._reserve, self.last + 2 * (LEAD_MS << COUNTER_BITS))

    def lead_ms(self, wall_ms: int) -> int:
        """How far the next stamp would be ahead of the wall clock; negative when it is behind."""
        return (self._next(wall_ms) >> COUNTER_BITS) - wall_ms

    def _next(self, wall_ms: int) -> int:
        # No further than the ceiling while there is room below it, wherever the wall clock is: so `ready`
        # is true exactly when `tick` does not raise.
        return max(self.last + 1, min(wall_ms << COUNTER_BITS, self.ceiling))

    def raise_ceiling(self, ceiling: int) -> None:
        """Allow stamps up to `ceiling`. Call it only when `ceiling` is durable."""
        self.ceiling = max(self.ceiling, ceiling)
