"""What a limit lets through in any stretch of time, and when it says that there is room again."""

from collections import defaultdict

import pytest
from hypothesis import given
from hypothesis import strategies as st

from basestore.intake import limits as module
from basestore.intake.limits import SECOND_NS, BucketLimits, Refusal

BOUNDS = st.integers(1, 50)
# Who asks at which moments: pauses in ns, and keys.
ASKED = st.lists(
    st.tuples(st.integers(0, SECOND_NS // 10) | st.integers(0, 2 * SECOND_NS), st.sampled_from([b"a", b"b"])),
    max_size=200,
)


def ask(limits: BucketLimits, key: bytes, now_ns: int) -> Refusal | None:
    """As a frame of one request."""
    limits.begin(now_ns)
    return limits.ask(key)


def most_within(times: list[int], stretch_ns: int) -> int:
    """The greatest number of these within any stretch of that length, its end included."""
    return max(sum(begin <= each <= begin + stretch_ns for each in times) for begin in times)


@given(BOUNDS, BOUNDS, ASKED, st.integers(0, 3 * SECOND_NS))
def test_in_no_stretch_of_time_more_than_a_burst_and_what_the_stretch_allows(
    of_all: int, of_key: int, asked: list[tuple[int, bytes]], stretch_ns: int
) -> None:
    limits = BucketLimits(of_all, of_key)
    now_ns, let_through = SECOND_NS, defaultdict[bytes, list[int]](list)
    for pause_ns, key in asked:
        now_ns += pause_ns
        if ask(limits, key, now_ns) is None:
            let_through[key].append(now_ns)
    for times in let_through.values():
        assert most_within(times, stretch_ns) <= of_key + of_key * stretch_ns / SECOND_NS
    every = [each for times in let_through.values() for each in times]
    if every:
        assert most_within(every, stretch_ns) <= of_all + of_all * stretch_ns / SECOND_NS


@given(BOUNDS, ASKED)
def test_who_keeps_to_the_limit_is_never_refused(per_s: int, asked: list[tuple[int, bytes]]) -> None:
    limits, now_ns = BucketLimits(0, per_s), SECOND_NS
    for pause_ns, _ in asked:
        now_ns += -(-SECOND_NS // per_s) + pause_ns
        assert ask(limits, b"k", now_ns) is None


@given(BOUNDS, st.booleans(), ASKED)
def test_what_is_refused_is_let_through_at_the_moment_that_it_was_told_and_not_before(
    per_s: int, of_key: bool, asked: list[tuple[int, bytes]]
) -> None:
    limits = BucketLimits(*((0, per_s) if of_key else (per_s, 0)))
    now_ns = SECOND_NS
    for pause_ns, _ in asked:
        now_ns += pause_ns
        refusal = ask(limits, b"k", now_ns)
        if refusal is not None:
            assert refusal.of_key is of_key
            assert ask(limits, b"k", now_ns + refusal.wait_ns - 1) is not None
            now_ns += refusal.wait_ns
            assert ask(limits, b"k", now_ns) is None


@pytest.mark.parametrize("of_key", [True, False])
def test_what_is_refused_of_a_frame_is_told_to_come_one_behind_the_other(of_key: bool) -> None:
    limits, quarter = BucketLimits(*((0, 4) if of_key else (4, 0))), SECOND_NS // 4
    for _ in range(2):  # what was refused of another frame makes nobody wait longer
        limits.begin(0)
        told = [limits.ask(b"k") for _ in range(7)]
        assert told[-3:] == [
            Refusal(of_key, wait * quarter) for wait in ((1, 2, 3) if None in told else (5, 6, 7))
        ]
    assert ask(limits, b"k", 1) == Refusal(of_key, quarter - 1)


def test_what_is_refused_counts_for_nothing() -> None:
    limits = BucketLimits(4, 2)
    assert [ask(limits, b"k", 0) is None for _ in range(9)] == [True] * 2 + [False] * 7
    assert [ask(limits, b"other", 0) is None for _ in range(3)] == [True, True, False]
    assert ask(limits, b"third", 0) == Refusal(False, SECOND_NS // 4)
    # and not with its key either, though it was the bucket that was full
    assert [ask(limits, b"third", 2 * SECOND_NS) is None for _ in range(3)] == [True, True, False]


def test_without_a_key_it_counts_against_the_bucket_alone() -> None:
    limits = BucketLimits(3, 1)
    assert [ask(limits, b"", 0) is None for _ in range(4)] == [True] * 3 + [False]


def test_a_key_is_not_forgotten_before_it_is_full() -> None:
    limits, tenth = BucketLimits(0, 10), SECOND_NS // 10
    ask(limits, b"other", SECOND_NS)
    assert [ask(limits, b"k", 2 * SECOND_NS - 1) is None for _ in range(11)] == [True] * 10 + [False]
    for number in range(2, 40):  # from then on it is let through as often as it may be, and no more often
        ask(limits, b"other", 2 * SECOND_NS + number * tenth)
        told = [ask(limits, b"k", 2 * SECOND_NS + number * tenth) for _ in range(2)]
        assert told == ([None] * 2 if number == 2 else [None, Refusal(True, tenth - 1)])


def test_keys_are_forgotten_once_they_are_full_and_there_is_a_bound_on_them(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(module, "KEYS_MAX", 10)
    limits = BucketLimits(0, 1)

    for number in range(1000):
        ask(limits, b"%d" % number, SECOND_NS)
        assert limits.known <= 20
    ask(limits, b"k", 2 * SECOND_NS)
    ask(limits, b"k", 4 * SECOND_NS)
    assert limits.known == 2  # of k, what was before and what is
