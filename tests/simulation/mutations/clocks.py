"""Bugs of clocks: stamps, their ceiling, and when a clock may be believed."""

from typing import Any

from basestore.cluster.clock_watch import ClockWatch
from basestore.coordinator.stamper import Stamper
from basestore.repair.clock import HybridClock
from basestore.repair.version import Version
from basestore.replica.clock_ceiling import ClockCeiling
from tests.simulation.mutations.registry import STALE, mutant

_observe = HybridClock.observe
WRONG_CLOCK = {"writable", "recovery", "receipts", "closed", "clocks", *STALE}


@mutant("a stamp beyond the bound moves the clock", WRONG_CLOCK, HybridClock, "observe", "misled")
def _observe_all(self: Any, stamp: int, wall_ms: int) -> bool:
    self.last = max(self.last, stamp)
    return True


@mutant("a direct write far ahead of the clock is taken", {"ahead"}, HybridClock, "observe", "misled")
def _never_ahead(self: Any, stamp: int, wall_ms: int) -> bool:
    _observe(self, stamp, wall_ms)
    return True


@mutant("stamps that were met are not remembered", {"order", *WRONG_CLOCK}, HybridClock, "observe")
def _observe_nothing(self: Any, stamp: int, wall_ms: int) -> bool:
    within: bool = stamp <= (wall_ms + self.drift_ms_max) << 16
    return within


_stage = ClockCeiling._stage


@mutant("a ceiling in force before it is durable", {"ceiling", "versions"}, ClockCeiling, "_stage")
def _raise_at_once(self: Any, ceiling: int) -> None:
    _stage(self, ceiling)
    self._clock.raise_ceiling(ceiling)


_tick = HybridClock.tick


@mutant("a stamp above the ceiling", {"ceiling", "versions"}, HybridClock, "tick")
def _over_the_ceiling(self: Any, wall_ms: int) -> int:
    self.ceiling = max(self.ceiling, (wall_ms + 5) << 16, self.last + 1)
    return _tick(self, wall_ms)


_judge = ClockWatch._judge


@mutant("a clock that differs is never noticed", WRONG_CLOCK, ClockWatch, "_judge", "impostors")
def _all_agree(self: Any) -> None:
    self.skew_ms, self.confirmed = None, True


@mutant("one clock that differs outvotes all", {"writable", "recovery"}, ClockWatch, "_judge", "impostors")
def _one_is_enough(self: Any) -> None:
    _judge(self)
    far = [each for each in self.offsets if each is not None and abs(each) > self._drift_ms_max]
    if far:
        self.skew_ms, self.confirmed = far[0], False


@mutant("a clock is sure once one agrees", WRONG_CLOCK, ClockWatch, "_judge", "impostors")
def _one_agrees(self: Any) -> None:
    _judge(self)
    near = sum(each is not None and abs(each) <= self._drift_ms_max for each in self.offsets)
    if near > 1:  # itself is one
        self.skew_ms, self.confirmed = None, True


@mutant("a clock is sure before it was compared", WRONG_CLOCK, ClockWatch, "open", "impostors")
def _sure_from_the_start(self: Any, now: Any, *, vouched: bool, ahead_ms: int = 0) -> None:
    _open(self, now, vouched=True)


_open = ClockWatch.open
_watch = ClockWatch.tick


@mutant("a jump of the clock is not noticed", WRONG_CLOCK, ClockWatch, "tick", "impostors")
def _never_jumps(self: Any, now: Any) -> bool:
    self._base_ms = None
    if self.sure_ms is not None:
        self.sure_ms = now.wall_ms - now.monotonic * 1e3
    return _watch(self, now)


_stamp = Stamper.stamp


@mutant("a number given twice", {"versions", "mismatches", "convergence", "numbers"}, Stamper, "stamp")
def _same_number(self: Any, row: bytes, now: Any, after: int = 0) -> Version:
    version = _stamp(self, row, now, after)
    return Version(version.stamp, version.origin, 1 + version.number // 2)


_stale_ms = Stamper.stale_ms


@mutant("the staleness bound forgets stamps ahead of this clock", {"staleness"}, Stamper, "stale_ms")
def _by_the_clock_alone(self: Any, stable: int, now: Any) -> int:
    last, self._clock.last = self._clock.last, 0
    bound = _stale_ms(self, stable, now)
    self._clock.last = last
    return bound


@mutant("the staleness bound forgets the drift", {"staleness"}, Stamper, "stale_ms")
def _no_drift(self: Any, stable: int, now: Any) -> int:
    bound = _stale_ms(self, stable, now)
    return bound if bound < 0 else max(0, bound - 2 * self._drift_ms_max)


@mutant("a replica without a stable stamp is called fresh", {"staleness"}, Stamper, "stale_ms")
def _fresh(self: Any, stable: int, now: Any) -> int:
    return _stale_ms(self, stable, now) if stable else 0
