"""From where a feed goes on, and when a mark may be told."""

import pytest

from basestore.feeds.position import BLANK, Mark, Met, Position, start
from basestore.replica.summaries import Gone

A, B = b"a" * 16, b"b" * 16


@pytest.mark.parametrize(
    ("position", "store", "met", "floor", "behind"),
    [
        (Position(A, 80), A, None, 0, 80),  # the same store
        (Position(A, 80), A, None, 80, 80),
        (Position(A, 80), A, None, 81, None),  # whose lines have gone
        (Position(A, 101), A, None, 0, None),  # which has lost its end
        (Position(A, 80), B, None, 0, None),  # another, of which nothing is proven
        (Position(A, 80), B, Met(40, 80), 0, 40),
        (Position(A, 79), B, Met(40, 80), 0, None),  # the end of their exchange was not told
        (Position(A, 80), B, Met(40, 80), 41, None),
        (BLANK, A, None, 0, None),
        (BLANK, A, Met(40, 0), 0, None),
    ],
)
def test_a_replica_goes_on_from_where_nothing_is_lacking(
    position: Position, store: bytes, met: Met | None, floor: int, behind: int | None
) -> None:
    assert start(position, store, 100, floor, met) == behind


def test_a_mark_is_told_once_all_is_that_came_before_it_was_known() -> None:
    mark = Mark(5)
    mark.note(5, 10)
    assert not mark.reach(10)
    mark.note(7, 10)
    mark.note(9, 20)  # it would put the first off
    assert not mark.reach(9)
    assert mark.told == 5
    assert mark.reach(10)
    assert mark.told == 7
    mark.note(9, 20)
    assert mark.reach(25)
    assert mark.told == 9


@pytest.mark.parametrize(
    ("stable", "sequence", "hidden"),
    [(9, 4, True), (10, 4, False), (9, 5, False), (9, None, True), (10, None, False)],
)
def test_what_is_gone_is_hidden_from_who_was_told_neither_way(
    stable: int, sequence: int | None, hidden: bool
) -> None:
    assert Gone(10, 5).hides(stable, sequence) is hidden


def test_of_two_that_are_gone_both_count() -> None:
    assert Gone(10, 5).with_also(7, 8) == Gone(10, 8)
