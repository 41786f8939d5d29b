"""The zone test on histories known to be good and bad, and beside its exhaustive twin."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.simulation.registers import INF, Act, atomic, atomic_by_search

GOOD = {
    "nothing happened": [],
    "a key never written reads as absent": [Act(False, None, 0, 1)],
    "a read after a write": [Act(True, 1, 0, 1), Act(False, 1, 2, 3)],
    "a read during a write may see it or not": [
        Act(True, 1, 0, 10), Act(False, None, 1, 2), Act(False, 1, 3, 4),
    ],
    "two writes at once end in either order": [
        Act(True, 1, 0, 10), Act(True, 2, 0, 10), Act(False, 2, 11, 12),
    ],
    "a write without an answer shows late": [
        Act(True, 1, 0, INF), Act(True, 2, 1, 2), Act(False, 2, 3, 4), Act(False, 1, 50, 51),
    ],
    "a write without an answer never shows": [Act(True, 1, 0, INF), Act(False, None, 50, 51)],
}  # fmt: skip
BAD = {
    "a lost write": [Act(True, 1, 0, 1), Act(False, None, 2, 3)],
    "an old value after a new one": [
        Act(True, 1, 0, 1), Act(True, 2, 2, 3), Act(False, 1, 4, 5),
    ],
    "a read before its write": [Act(False, 1, 0, 1), Act(True, 1, 2, 3)],
    "a read of what nobody wrote": [Act(False, 7, 0, 1)],
    "reads that go back and forth": [
        Act(True, 1, 0, 20), Act(True, 2, 0, 20),
        Act(False, 1, 1, 2), Act(False, 2, 3, 4), Act(False, 1, 5, 6),
    ],
    "two readers who see two orders": [
        Act(True, 1, 0, INF), Act(True, 2, 0, INF),
        Act(False, 1, 1, 2), Act(False, 2, 3, 4), Act(False, 1, 5, 6),
    ],
}  # fmt: skip


@pytest.mark.parametrize("name", GOOD)
def test_a_good_history_passes(name: str) -> None:
    assert atomic(GOOD[name]) == ""
    assert atomic_by_search(GOOD[name])


@pytest.mark.parametrize("name", BAD)
def test_a_bad_history_is_refused_with_a_reason(name: str) -> None:
    assert atomic(BAD[name])
    assert not atomic_by_search(BAD[name])


@st.composite
def histories(draw: st.DrawFn) -> list[Act]:
    """Small histories with unique values and times that all differ, as real ones have."""
    count = draw(st.integers(0, 7))
    times = draw(st.permutations(range(2 * count)))
    acts = []
    written = [None]
    for index in range(count):
        start, end = sorted(times[2 * index : 2 * index + 2])
        if draw(st.booleans()):
            forever = draw(st.integers(0, 3)) == 0
            acts.append(Act(True, index, start, INF if forever else end))
            written.append(index)  # type: ignore[arg-type]
    for index in range(count):
        start, end = sorted(times[2 * index : 2 * index + 2])
        if all(act.start != start for act in acts):
            acts.append(Act(False, draw(st.sampled_from(written)), start, end))
    return acts


@settings(max_examples=400, deadline=None)
@given(histories())
def test_the_zone_test_and_the_exhaustive_search_agree(acts: list[Act]) -> None:
    assert (atomic(acts) == "") == atomic_by_search(acts)
