"""How long a node must have been asked for too much to leave something out, and when it ceases to."""

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from basestore.intake.brownout import CALM_S, LEVELS, Brownout


def seconds(brownout: Brownout, begin_s: int, count: int, *, busy: bool) -> int:
    """So many seconds go by; the level behind them."""
    for second in range(begin_s, begin_s + count):
        if busy:
            brownout.refused()
        brownout.tick(second + 1)
    return brownout.level


@pytest.mark.parametrize(("busy_s", "level"), [(0, 0), (4, 0), (5, 1), (14, 1), (15, 2), (60, 2)])
def test_it_takes_seconds_of_refusals(busy_s: int, level: int) -> None:
    assert seconds(Brownout(), 0, busy_s, busy=True) == level


def test_it_falls_by_one_after_some_calm_and_refusals_begin_that_anew() -> None:
    brownout = Brownout()
    assert seconds(brownout, 0, LEVELS[1], busy=True) == 2
    assert seconds(brownout, 100, CALM_S - 1, busy=False) == 2
    seconds(brownout, 200, 1, busy=True)
    assert seconds(brownout, 300, CALM_S - 1, busy=False) == 2
    assert seconds(brownout, 400, 1, busy=False) == 1
    assert seconds(brownout, 500, CALM_S, busy=False) == 0
    assert seconds(brownout, 600, CALM_S, busy=False) == 0


@given(st.lists(st.booleans(), max_size=80))
def test_its_level_never_changes_twice_in_five_seconds(busy: list[bool]) -> None:
    brownout, changes = Brownout(), [0]
    for second, each in enumerate(busy, 1):
        before = brownout.level
        if seconds(brownout, second - 1, 1, busy=each) != before:
            changes.append(second)
    assert all(later - earlier >= CALM_S for earlier, later in pairwise(changes))


def test_many_refusals_in_one_second_count_as_one() -> None:
    brownout = Brownout()
    for _ in range(100):
        brownout.refused()
        brownout.tick(1.0)
    assert brownout.level == 0
