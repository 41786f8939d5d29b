"""Who holds the partitions of a node, as seats change. Covers `cluster/seating.py`."""

import pytest

from basestore.cluster.seating import Seating
from basestore.repair.seats import Seats, Stage


def test_without_a_topology_replicas_are_those_of_the_placement() -> None:
    seating = Seating(1, {7: Seats.still((2, 1, 0))})
    assert (seating.compared[7], seating.others[7], seating.sources[7]) == ((2, 1, 0), [2, 0], [2, 0])
    assert (seating.known, seating.since(7), seating.moving) == (False, None, set())


def test_while_seats_change_all_compare_and_those_that_held_it_are_sources() -> None:
    seating = Seating(0, {7: Seats.still((0, 1, 2))})
    seating.dropped_since = 0
    for stage in (Stage.FILL, Stage.JOINT):
        seating.seat(7, Seats(4, stage, (0, 1, 2), (0, 1, 3)))
        assert seating.compared[7] == (0, 1, 2, 3)
        assert seating.others[7] == [1, 2, 3]
        assert seating.sources[7] == [1, 2]
        assert [seating.comes(7, member) for member in range(4)] == [False, False, False, True]
        assert (seating.since(7), seating.moving) == (4, {7})
    seating.seat(7, Seats.still((0, 1, 3), 9))
    assert (seating.others[7], seating.sources[7]) == ([1, 3], [1, 3])
    assert (seating.since(7), seating.moving) == (9, set())


@pytest.mark.parametrize(("members", "meeting"), [(1, 1), (2, 1), (3, 2), (4, 2), (5, 3)])
def test_so_many_must_be_met_as_any_quorum_has_one_of(members: int, meeting: int) -> None:
    seating = Seating(0, {7: Seats.still(tuple(range(members)))})
    assert seating.meeting(7) == meeting
    quorum = members // 2 + 1
    assert meeting + quorum == members + 1
    seating.seat(7, Seats(4, Stage.JOINT, tuple(range(members)), tuple(range(1, 9))))
    assert seating.meeting(7) == meeting  # of those that have held it


def test_who_leaves_is_known_at_the_end_of_a_change_only() -> None:
    seating, old, new = Seating(0, {7: Seats.still((0, 1, 2))}), (0, 1, 2), (0, 1, 3)
    assert seating.seat(7, Seats(4, Stage.FILL, old, new)) == set()
    assert seating.seat(7, Seats(5, Stage.JOINT, old, new)) == set()
    assert seating.seat(7, Seats.still(new, 6)) == {2}
    assert seating.seat(7, Seats(7, Stage.JOINT, new, old)) == set()
    assert seating.seat(7, Seats.still(new, 8)) == set()  # it was taken back: 2 has proven nothing
    assert seating.seat(7, Seats.still(old, 9)) == set()  # nor was this


def test_what_is_given_up_is_gone() -> None:
    seating = Seating(0, {7: Seats.still((0, 1, 2))})
    seating.seat(7, Seats(4, Stage.FILL, (0, 1, 2), (3, 4, 5)))
    seating.give_up(7)
    assert not any((seating.seats, seating.compared, seating.others, seating.sources, seating.moving))
