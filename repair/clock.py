"""HybridClock: stamps that follow wall clocks, never repeat and never go back.

After Kulkarni et al., "Logical Physical Clocks" (2014), packed into one integer: 48 bits of
milliseconds above 16 bits of counter. The wall clock is an argument.

A stamp is handed out only at or below the *ceiling*, a stamp that the node's storage holds
durably; a restart begins above the ceiling, so a stamp is never used twice, even when the wall
clock went back meanwhile. Nor is it ever below the wall clock: where the ceiling is, as after a pause,
nothing is stamped until it was raised (NotYet). Who owns the clock raises it ahead of time:

    ceiling = clock.wanted_ceiling(wall_ms)     # None while there is room enough
    ... make it durable ...
    clock.raise_ceiling(ceiling)                # only then

The ceiling runs ahead of the wall clock by a *reserve*: half the drift bound (200 ms at least), or as much as
some syncs take (`keep_reserve`), up to one and a half times the bound, or of the last stamp by 400 ms if that
is later. A node that crashed and restarts at once stamps that far ahead; replicas refuse direct writes beyond
the bound, so it waits for a moment (`passing`). It stores no ceiling (`replica/clock_ceiling.py` does) and
reads no clock.
"""

from basestore.repair.version import COUNTER_BITS

RESERVE_MS_MIN = 200
RESERVE_SYNCS = 4
WALL_MS_MAX = (1 << 48) - (1 << 40)  # of the 48 bits some are left to go on with
LEAD_MS = 200


class NotYet(Exception):
    """Nothing may be stamped at this moment, but will be soon: wait for the ceiling, and try again."""


class HybridClock:
    """One node's source of stamps."""

    __slots__ = ("_reserve", "ahead_ms", "ceiling", "drift_ms_max", "last", "passing")

    def __init__(self, ceiling: int, drift_ms_max: int, *, ahead: bool = False) -> None:
        """Start above `ceiling`, the durable one of the last run (0 for a new store). `ahead`: stamps go on
        from there however far that is ahead of the wall clock, for an operator says that the wall clock is
        right: so it was ahead once, and is not now."""
        self.ceiling = ceiling
        self.last = ceiling
        self.drift_ms_max = drift_ms_max
        # Were it to follow `last`, one bad clock could drag the others on and on.
        self.ahead_ms = ceiling >> COUNTER_BITS if ahead else 0
        # By so much a ceiling may be beyond the bound by clocks that are right: the next stamp waits.
        self.passing = max(drift_ms_max // 2, 2 * LEAD_MS) << COUNTER_BITS
        self.keep_reserve(0.0)

    def go_on_from(self, ahead_ms: int) -> None:
        """Of another node an operator says that its clock is right, too: it goes on from there."""
        if self.ahead_ms < ahead_ms < WALL_MS_MAX:
            self.ahead_ms = ahead_ms
            self.last = max(self.last, ahead_ms << COUNTER_BITS)

    def go_beyond(self, stamp: int) -> None:
        """Give out nothing at or below this, however far ahead it is: then nothing, until that time."""
        self.last = max(self.last, stamp)

    def keep_reserve(self, sync_ms: float) -> None:
        """To make a ceiling durable takes so long: ask for the next one early enough."""
        least_ms = max(self.drift_ms_max // 2, RESERVE_MS_MIN)
        # Beyond the bound a restart would have to wait for the wall clock.
        most_ms = max(least_ms, self.drift_ms_max * 3 // 2)
        self._reserve = min(max(least_ms, int(RESERVE_SYNCS * sync_ms)), most_ms) << COUNTER_BITS

    def ready(self, wall_ms: int) -> bool:
        """Whether `tick` would give out a stamp."""
        return max(self.last + 1, wall_ms << COUNTER_BITS) <= self.ceiling

    def tick(self, wall_ms: int) -> int:
        """A new stamp, not below the wall clock, and greater than every one handed out, or taken over by
        `observe`; NotYet."""
        stamp = max(self.last + 1, wall_ms << COUNTER_BITS)
        if stamp > self.ceiling:
            raise NotYet
        self.last = stamp
        return stamp

    def tick_many(self, count: int, wall_ms: int) -> int:
        """The first of so many new stamps that follow each other, as from so many ticks; NotYet, and then
        none of them is given out."""
        stamp = max(self.last + 1, wall_ms << COUNTER_BITS)
        if stamp + count - 1 > self.ceiling:
            raise NotYet
        self.last = stamp + count - 1
        return stamp

    def bound(self, wall_ms: int) -> int:
        """The greatest stamp that a clock which is right can have given out by now."""
        return (max(wall_ms, self.ahead_ms) + self.drift_ms_max) << COUNTER_BITS

    def observe(self, stamp: int, wall_ms: int) -> bool:
        """Take note of another node's stamp; False when it runs too far ahead of `wall_ms`.

        A stamp beyond the drift bound is not taken over: one bad clock must not drag the others.
        """
        # As `bound`, without a call: on the way of every write.
        newest_ms = wall_ms if wall_ms > self.ahead_ms else self.ahead_ms
        if stamp > (newest_ms + self.drift_ms_max) << COUNTER_BITS:
            return False
        # `last` may come to lie above the ceiling: then nothing is stamped until that was raised.
        if stamp > self.last:
            self.last = stamp
        return True

    def wanted_ceiling(self, wall_ms: int, quarters: int = 2) -> int | None:
        """The ceiling to make durable next, or None while the present one leaves room: so many quarters of
        the reserve.

        When stamps run ahead of the wall clock (after a restart, or by another node's clock) it
        leads them by little only, or restarts in quick succession would add up.
        """
        wall, lead = wall_ms << COUNTER_BITS, LEAD_MS << COUNTER_BITS
        if max(wall + self._reserve * quarters // 4, self.last + lead) <= self.ceiling:
            return None
        if self.last > self.bound(wall_ms):
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
        """How far the last stamp is ahead of the wall clock; negative when it is behind."""
        return (self.last >> COUNTER_BITS) - wall_ms

    def raise_ceiling(self, ceiling: int) -> None:
        """Allow stamps up to `ceiling`. Call it only when `ceiling` is durable."""
        self.ceiling = max(self.ceiling, ceiling)
