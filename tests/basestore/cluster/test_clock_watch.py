"""When a clock is sure, by how much it is off, and what time it is.

Covers `cluster/clock_watch.py`.
"""

import pytest

from basestore.cluster.clock_watch import COMPARING_S, FRESH_S, ClockWatch
from basestore.instant import Instant
from basestore.protocol.heartbeats import Pong

DRIFT_MS = 2000
HOUR_MS = 3_600_000
START = Instant(1_760_000_000_000, 1000.0)


def later(seconds: float, *, set_ms: int = 0) -> Instant:
    """So long after the start, by a wall clock that was set meanwhile."""
    return Instant(START.wall_ms + round(seconds * 1000) + set_ms, START.monotonic + seconds)


def opened(members: int = 3, *, vouched: bool = False) -> ClockWatch:
    watch = ClockWatch(members, 0, DRIFT_MS)
    watch.open(START, vouched=vouched)
    return watch


def answer(
    watch: ClockWatch, member: int, now: Instant, *, ahead_ms: int = 0, round_trip_ms: int = 10
) -> None:
    """A member answers whose clock is so far ahead of this one."""
    sent_us = round(now.monotonic * 1e6) - round_trip_ms * 1000
    watch.hear(member, Pong(sent_us, now.wall_ms + ahead_ms - round_trip_ms // 2), now)


@pytest.mark.parametrize(("members", "agree"), [(2, 1), (3, 1), (4, 2), (5, 2), (7, 3)])
def test_a_clock_is_sure_once_a_majority_of_all_members_agrees(members: int, agree: int) -> None:
    watch = opened(members)
    for member in range(1, agree + 1):
        assert not watch.sure(later(0.1))
        assert watch.now_ms(later(0.1)) is None
        answer(watch, member, later(0.1))
    assert watch.sure(later(0.1))
    assert watch.now_ms(later(0.1)) == later(0.1).wall_ms


def test_nobody_contradicts_a_member_that_is_alone_and_it_is_sure_at_once() -> None:
    watch = opened(1)
    assert watch.sure(START)
    assert not watch.sure(later(1, set_ms=HOUR_MS))  # until it has noticed
    assert watch.tick(later(1, set_ms=HOUR_MS))
    assert watch.sure(later(1.1, set_ms=HOUR_MS))


def test_it_stays_sure_when_the_others_go_and_until_it_is_set() -> None:
    watch = opened()
    answer(watch, 1, later(0.1))
    watch.forget(1)
    for second in range(1, 1000):
        assert not watch.tick(later(second))
    assert watch.sure(later(1000))
    assert not watch.confirmed
    assert not watch.sure(later(1000.01, set_ms=1500))  # before any tick
    assert watch.tick(later(1000.02, set_ms=1500))
    assert not watch.sure(later(2000, set_ms=1500))
    assert "has jumped" in watch.trouble(later(2000, set_ms=1500))
    answer(watch, 2, later(2000, set_ms=1500))
    assert watch.sure(later(2000, set_ms=1500))


@pytest.mark.parametrize("ticked", [False, True])
def test_an_answer_between_its_being_set_and_the_next_tick_makes_it_no_surer(ticked: bool) -> None:
    """Those that agreed before are a majority still, with a clock that is another by now."""
    watch = opened(5)
    for member in (1, 2):
        answer(watch, member, later(0.1))
    if ticked:
        watch.tick(later(0.2))
    assert watch.sure(later(0.2))
    set_s = later(0.3, set_ms=HOUR_MS)
    answer(watch, 3, set_s, ahead_ms=-HOUR_MS)
    assert not watch.sure(set_s)
    assert watch.tick(later(0.4, set_ms=HOUR_MS))
    assert not watch.sure(later(0.4, set_ms=HOUR_MS))
    for member in (1, 2):
        answer(watch, member, later(0.5, set_ms=HOUR_MS), ahead_ms=-HOUR_MS)
    assert not watch.sure(later(0.5, set_ms=HOUR_MS))
    assert watch.tick(later(0.6))
    for member in (1, 2):
        answer(watch, member, later(0.7))
    assert watch.sure(later(0.7))


def test_small_steps_add_up_where_nobody_compares() -> None:
    watch = opened()
    answer(watch, 1, later(0.1))
    watch.forget(1)
    jumps = [watch.tick(later(second, set_ms=400 * second)) for second in range(1, 4)]
    assert jumps == [False, False, True]
    assert not watch.sure(later(3, set_ms=1200))


@pytest.mark.parametrize("ahead_ms", [HOUR_MS, -HOUR_MS])
def test_a_clock_that_is_off_knows_what_time_it_is_all_the_same(ahead_ms: int) -> None:
    watch = opened()
    answer(watch, 1, later(0.1), ahead_ms=ahead_ms)
    answer(watch, 2, later(0.1), ahead_ms=ahead_ms + 3)
    assert not watch.sure(later(0.1))
    assert watch.skew_ms in (ahead_ms, ahead_ms + 3)
    now_ms = watch.now_ms(later(1))
    assert now_ms is not None
    assert abs(now_ms - later(1).wall_ms - ahead_ms) <= 3
    assert f"it is {abs(watch.skew_ms or 0)} ms" in watch.trouble(later(1))
    watch.forget(1)
    watch.forget(2)
    assert watch.now_ms(later(1)) is None
    assert not watch.sure(later(1))


def test_a_late_answer_says_what_it_can() -> None:
    """It took ten seconds, so it is off by five: that proves no agreement, but that an hour is too much."""
    watch = opened()
    answer(watch, 1, later(10), round_trip_ms=10_000)
    assert not watch.sure(later(10))
    assert watch.skew_ms is None
    answer(watch, 1, later(20), round_trip_ms=10_000, ahead_ms=HOUR_MS)
    assert watch.skew_ms == HOUR_MS
    answer(watch, 1, later(20 + FRESH_S + 1), round_trip_ms=3000)
    answer(watch, 2, later(20 + FRESH_S + 1), round_trip_ms=3000)
    assert watch.sure(later(20 + FRESH_S + 1))


def test_late_answers_take_the_place_of_a_good_one_in_time() -> None:
    watch = opened(2)
    answer(watch, 1, later(1))
    answer(watch, 1, later(2), round_trip_ms=9000)
    assert watch.confirmed
    answer(watch, 1, later(2 + FRESH_S), round_trip_ms=9000)
    assert not watch.confirmed


def test_an_operators_word_stands_until_a_majority_of_all_contradicts() -> None:
    watch = opened(3, vouched=True)
    assert watch.sure(later(1))
    answer(watch, 1, later(1), ahead_ms=HOUR_MS)
    assert watch.sure(later(1))
    answer(watch, 2, later(1), ahead_ms=HOUR_MS)
    assert not watch.sure(later(1))


def test_an_operators_word_is_void_once_the_clock_is_set() -> None:
    watch = opened(3, vouched=True)
    watch.tick(later(1, set_ms=HOUR_MS))
    assert not watch.sure(later(1, set_ms=HOUR_MS))


def test_it_is_being_compared_for_a_moment_and_no_longer() -> None:
    watch = opened()
    assert watch.comparing(later(COMPARING_S - 0.1))
    assert not watch.comparing(later(COMPARING_S + 0.1))
    assert "not been compared" in watch.trouble(later(COMPARING_S + 0.1))
    answer(watch, 1, later(0.1), ahead_ms=HOUR_MS)
    assert watch.comparing(later(0.2))  # the third may yet agree
    answer(watch, 2, later(0.1), ahead_ms=HOUR_MS)
    assert not watch.comparing(later(0.2))


def test_who_has_no_say_is_neither_waited_for_nor_heeded() -> None:
    watch = opened(1)
    watch.add()
    watch.tick(later(0.1))
    assert watch.sure(later(0.1))
    answer(watch, 1, later(0.2), ahead_ms=HOUR_MS)
    assert watch.offsets[1] is not None  # it is known all the same
    assert watch.skew_ms is None
    assert watch.confirmed
    watch.count({0, 1})
    assert watch.skew_ms is not None
    assert not watch.sure(later(0.2))
    watch.count({0})
    assert watch.alone
    assert watch.sure(later(0.2))


def test_a_majority_is_one_of_those_that_count_from_the_moment_at_which_they_do() -> None:
    watch = opened(3)
    answer(watch, 1, later(0.1))
    assert watch.confirmed
    watch.add()
    watch.add()
    assert watch.confirmed
    watch.count({0, 1, 2, 3, 4})
    assert not watch.confirmed
    assert watch.sure(later(0.2))  # until it is set
    answer(watch, 3, later(0.2))
    assert watch.confirmed
    watch.count({2, 3, 4})  # this node holds nothing any more: three others' clocks decide
    assert not watch.confirmed
    answer(watch, 4, later(0.3))
    assert watch.confirmed
    assert not watch.alone


def test_who_holds_nothing_itself_is_sure_by_the_others_and_wrong_by_them() -> None:
    watch = opened(2)
    watch.count({1})
    assert not watch.confirmed
    assert watch.skew_ms is None
    answer(watch, 1, later(0.1))
    assert watch.sure(later(0.1))
    other = opened(2)
    other.count({1})
    answer(other, 1, later(0.1), ahead_ms=HOUR_MS)
    assert other.skew_ms is not None
    assert other.now_ms(later(0.1)) is not None  # what the majority of one says
