"""Laws of the hybrid clock, under wall clocks that do what they like."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from basestore.repair.clock import HybridClock, NotYet
from basestore.repair.version import COUNTER_BITS
from tests.worlds.records import walls, words

DRIFT_MS = 2000


def started(wall_ms: int, ceiling: int = 0) -> HybridClock:
    """A clock that can stamp, even if it should not, being far ahead of the wall clock."""
    clock = HybridClock(ceiling, DRIFT_MS)
    wanted = clock.wanted_ceiling(wall_ms)
    clock.raise_ceiling(ceiling + 1 if wanted is None else wanted)
    return clock


class Clock(RuleBasedStateMachine):
    """A clock, its durable ceiling, crashes, and a wall clock that jumps about."""

    @initialize(wall_ms=walls)
    def open(self, wall_ms: int) -> None:
        self.wall_ms = wall_ms
        self.durable = 0
        self.used = 0
        self.seen = 0
        self.clock = HybridClock(self.durable, DRIFT_MS)

    @rule(jump_ms=st.one_of(st.integers(-10, 10), st.integers(-(10**7), 10**7)))
    def the_wall_clock_moves(self, jump_ms: int) -> None:
        self.wall_ms = max(0, self.wall_ms + jump_ms)

    @rule()
    def tick(self) -> None:
        ready = self.clock.ready(self.wall_ms)
        try:
            stamp = self.clock.tick(self.wall_ms)
        except NotYet:
            assert not ready
            return
        assert ready
        assert stamp > max(self.used, self.seen)
        assert stamp >= self.wall_ms << COUNTER_BITS
        assert stamp <= self.durable
        self.used = stamp

    @rule(ahead_ms=st.integers(-5000, 5000), counter=st.integers(0, (1 << COUNTER_BITS) - 1))
    def observe(self, ahead_ms: int, counter: int) -> None:
        stamp = max(0, self.wall_ms + ahead_ms) << COUNTER_BITS | counter
        before = self.clock.last
        near = self.clock.observe(stamp, self.wall_ms)
        assert near == (stamp <= (self.wall_ms + DRIFT_MS) << COUNTER_BITS)
        if near:
            assert self.clock.last == max(before, stamp)
            self.seen = max(self.seen, stamp)
        else:
            assert self.clock.last == before

    @rule()
    def raise_the_ceiling(self) -> None:
        wanted = self.clock.wanted_ceiling(self.wall_ms)
        if wanted is not None:
            assert wanted > self.clock.last
            self.durable = max(self.durable, wanted)
            self.clock.raise_ceiling(wanted)
        far_ahead = self.clock.last > (self.wall_ms + DRIFT_MS) << COUNTER_BITS
        assert self.clock.ready(self.wall_ms) or far_ahead

    @rule()
    def take_back_the_ceiling(self) -> None:
        lower = self.clock.lower_ceiling(self.wall_ms)
        if lower is not None:
            assert self.clock.last < lower < self.durable
            self.durable = lower

    @rule()
    def raise_the_ceiling_but_crash_before_it_counts(self) -> None:
        wanted = self.clock.wanted_ceiling(self.wall_ms)
        if wanted is not None:
            self.durable = max(self.durable, wanted)
        self.crash()

    @rule()
    def crash(self) -> None:
        self.clock = HybridClock(self.durable, DRIFT_MS)
        self.seen = 0  # what was observed may be forgotten; what was handed out must not be

    @precondition(lambda self: hasattr(self, "clock"))
    @invariant()
    def what_was_handed_out_lies_below_the_clock(self) -> None:
        assert self.clock.ceiling <= self.durable


TestClock = Clock.TestCase


@given(st.lists(walls, min_size=1, max_size=40))
def test_stamps_strictly_increase_under_any_wall_clock(wall_clock: list[int]) -> None:
    clock = started(wall_clock[0])
    stamps = []
    for wall_ms in wall_clock:
        wanted = clock.wanted_ceiling(wall_ms)
        if wanted is not None:
            clock.raise_ceiling(wanted)
        stamps.append(clock.tick(wall_ms))
        assert stamps[-1] <= clock.ceiling
    assert stamps == sorted(set(stamps))


@given(walls, walls)
def test_a_restart_begins_above_all_that_was_handed_out(before_ms: int, after_ms: int) -> None:
    clock = started(before_ms)
    stamp = clock.tick(before_ms)
    assert started(after_ms, clock.ceiling).tick(after_ms) > stamp


@given(walls)
def test_a_restart_at_once_stamps_within_the_drift_bound(wall_ms: int) -> None:
    clock = started(wall_ms)
    clock.tick(wall_ms)
    stamp = started(wall_ms, clock.ceiling).tick(wall_ms)
    assert HybridClock(0, DRIFT_MS).observe(stamp, wall_ms)


@given(walls)
def test_a_ceiling_that_a_wrong_clock_set_is_taken_back(wall_ms: int) -> None:
    clock = started(wall_ms + 3_600_000)
    lower = clock.lower_ceiling(wall_ms)
    assert lower is not None
    assert HybridClock(lower, DRIFT_MS).lead_ms(wall_ms) <= DRIFT_MS


@given(walls)
def test_stamps_follow_the_wall_clock(wall_ms: int) -> None:
    clock = started(wall_ms)
    assert clock.tick(wall_ms) == max(1, wall_ms << COUNTER_BITS)
    assert clock.tick(wall_ms + 1) == (wall_ms + 1) << COUNTER_BITS


def test_a_new_clock_must_not_stamp_before_its_ceiling_is_durable() -> None:
    clock = HybridClock(0, DRIFT_MS)
    assert not clock.ready(1_760_000_000_000)
    with pytest.raises(NotYet):
        clock.tick(1_760_000_000_000)


@given(walls, words)
def test_the_ceiling_never_sinks(wall_ms: int, ceiling: int) -> None:
    clock = started(wall_ms)
    before = clock.ceiling
    clock.raise_ceiling(ceiling)
    assert clock.ceiling == max(before, ceiling)


@given(walls, st.integers(1, 60_000))
def test_no_new_ceiling_is_wanted_while_there_is_room(wall_ms: int, drift_ms_max: int) -> None:
    clock = HybridClock(0, drift_ms_max)
    wanted = clock.wanted_ceiling(wall_ms)
    assert wanted is not None
    clock.raise_ceiling(wanted)
    assert clock.wanted_ceiling(wall_ms) is None
    assert clock.wanted_ceiling(wall_ms + 60_000) is not None


@given(walls, st.integers(0, DRIFT_MS * 3 // 4))
def test_the_ceiling_runs_ahead_by_as_much_as_some_syncs_take(wall_ms: int, sync_ms: int) -> None:
    """A ceiling is asked for, then it is made durable in a sync that may begin only after another one."""
    clock = HybridClock(0, DRIFT_MS)
    clock.keep_reserve(sync_ms)
    wanted = clock.wanted_ceiling(wall_ms)
    assert wanted is not None
    clock.raise_ceiling(wanted)
    assert clock.ready(wall_ms + 2 * sync_ms)
    wanted = clock.wanted_ceiling(wall_ms + 2 * sync_ms + DRIFT_MS)
    assert wanted is not None
    assert wanted > clock.ceiling
