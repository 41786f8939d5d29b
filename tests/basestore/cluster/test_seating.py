"""Who holds the partitions of a node, as seats change. Covers `cluster/seating.py`."""

import pytest

from basestore.cluster.seating import Seating, in_turn
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


# --- who is an acceptor ------------------------------------------------------------------------------

A, B = b"a" * 16, b"b" * 16
S = (0, 1, 2)


def seating_of(*partitions: int) -> Seating:
    return Seating(0, {each: Seats.still(S) for each in partitions})


def test_a_store_that_is_bound_is_an_acceptor_of_what_its_member_holds() -> None:
    seating = seating_of(7, 8)
    assert not seating.votes(7, A)
    seating.bind({1: A}, {}, {})
    assert not seating.votes(7, A)  # another member's
    seating.bind({0: A}, {8: {0}}, {8: 5})
    assert [seating.votes(at, A) for at in (7, 8, 9)] == [True, False, False]
    assert not seating.votes(7, B)
    assert not seating.votes(7, b"")
    assert [seating.tenure(at) for at in (7, 8)] == [0, 5]
    seating.bind({0: A}, {8: {1}}, {})
    assert seating.votes(8, A)  # it is another that is barred
    seating.bind({}, {}, {})
    assert not seating.votes(7, b"")
    seating.bind({0: A}, {}, {})
    seating.give_up(7)
    assert not seating.votes(7, A)


def test_who_is_barred_elsewhere_is_of_no_concern() -> None:
    seating = seating_of(7, 8)
    seating.bind({}, {7: {0, 1}, 8: {2}, 9: {0}}, {})
    assert (seating.barred, seating.out) == ({7: {0, 1}, 8: {2}}, {7})
    seating.seat(8, Seats(3, Stage.FILL, S, (0, 1, 4)))
    assert seating.changing == {7, 8}
    seating.bind({}, {}, {})
    assert seating.changing == {8}


@pytest.mark.parametrize(
    ("seats", "dead", "barred", "enough", "few"),
    [
        (Seats.still((0,)), (), (), {0}, ()),
        (Seats.still((0,)), (), (0,), None, {0}),  # of nobody nothing is heard
        (Seats.still((0, 1)), (), (1,), {0}, ()),
        (Seats.still(S), (), (1,), {0, 2}, {0, 1}),
        (Seats.still(S), (2,), (1,), {0}, {1, 2}),
        (Seats(1, Stage.FILL, S, (0, 3, 4)), (), (3, 4), {0, 1}, {0, 3, 4}),  # only those that have held it
        (Seats(1, Stage.JOINT, S, (0, 3, 4)), (), (3, 4), {0, 1}, {1, 2, 3, 4}),
        (Seats(1, Stage.JOINT, S, (0, 3, 4)), (1, 2), (), {0, 3}, {0}),
        (Seats(1, Stage.JOINT, S, (0, 3, 4)), (), (), {1, 2, 3, 4}, {0, 1}),
        (Seats(1, Stage.JOINT, (0, 1), (2, 3)), (), (0, 1), {2, 3}, {0, 1, 2}),  # it is with who comes
        (Seats(1, Stage.JOINT, (0, 1), (2, 3)), (), (0, 1, 2, 3), None, {0, 1, 2, 3}),
    ],
)
def test_what_is_left_is_finished_by_a_quorum_or_by_all_that_are_left(
    seats: Seats, dead: tuple[int, ...], barred: tuple[int, ...], enough: set[int] | None, few: set[int]
) -> None:
    seating = Seating(0, {7: seats})
    seating.dead = frozenset(dead)
    seating.bind({}, {7: {*barred}} if barred else {}, {})
    quorum = seating.surviving_quorum(7)
    assert enough is None or quorum.met(enough)
    assert not quorum.met(few)
    assert not quorum.met(())


def test_turns_go_round() -> None:
    assert in_turn({3, 1, 2}, 9, 3) == [*{3, 1, 2}]
    seen, last = list[int](), -1
    for _ in range(4):
        turn = in_turn({5, 1, 9, 3, 7}, last, 2)
        seen += turn
        last = turn[-1]
    assert seen == [1, 3, 5, 7, 9, 1, 3, 5]
    assert in_turn({5, 1, 9}, 4, 2) == [5, 9]
    assert in_turn((), 4, 2) == []
