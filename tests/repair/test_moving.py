"""When seats that are being changed may go on. Covers `repair/moving.py`."""

from collections.abc import Collection, Mapping
from itertools import chain, combinations

import pytest

from basestore.repair.moving import (
    Report,
    acceptors_left,
    awaited,
    complete,
    covers,
    left_of,
    needed,
    next_seats,
)
from basestore.repair.seats import Seats, Stage

NOBODY: frozenset[int] = frozenset()
OLD, NEW = (1, 2, 3), (1, 2, 4)
FILL, JOINT = Seats(5, Stage.FILL, OLD, NEW), Seats(6, Stage.JOINT, OLD, NEW)
UNFIT = Report(False, frozenset((1, 2, 3)))


def met(*members: int) -> Report:
    return Report(True, frozenset(members))


def quorum(members: Collection[int]) -> int:
    return len(members) // 2 + 1


@pytest.mark.parametrize("count", range(1, 6))
def test_enough_are_met_that_meet_every_quorum_or_all_that_are_left(count: int) -> None:
    old = range(count)
    for size in range(count + 1):
        for dead in combinations(old, size):
            left = set(old) - set(dead)
            for met_ in chain.from_iterable(combinations(old, each) for each in range(count + 1)):
                # A write is on each of a quorum; of nobody all are met, and that proves nothing.
                surely = all({*met_} & {*each} for each in combinations(old, quorum(old)))
                assert covers((*met_, 99), old, set(dead)) == (surely or (bool(left) and left <= {*met_}))


def test_who_is_said_to_be_dead_and_answers_stands_for_nobody_who_is_left() -> None:
    assert not covers({3}, (1, 3, 4), {3, 4})
    assert covers({1}, (1, 3, 4), {3, 4})
    assert covers({3, 4}, (1, 3, 4), {3, 4})


def test_those_that_are_needed_hold_something_of_each_quorum() -> None:
    for count in range(1, 8):
        old = range(count)
        for some in combinations(old, needed(old)):
            assert all({*some} & {*each} for each in combinations(old, quorum(old)))
        if needed(old) > 1:  # and not with one less
            fewer = set(old[: needed(old) - 1])
            assert any(not fewer & {*each} for each in combinations(old, quorum(old)))


class TestFill:
    @pytest.mark.parametrize(
        ("reports", "linked", "waits_for"),
        [
            ({}, (), {1, 2, 4}),
            ({}, (1, 2, 3, 4), {1, 2, 4}),
            ({1: met(), 2: met()}, (1, 2, 3), {4}),  # who comes is away: as many copies would go as come
            ({1: met(), 2: met(), 4: UNFIT}, (1, 2, 3, 4), {4}),
            ({4: met(1, 2)}, (1, 2, 3, 4), {1, 2}),
            ({1: met(), 4: met(1, 2)}, (1, 3, 4), set()),  # 2 is away, and gives nothing up
            ({1: met(), 4: met(1, 2)}, (1, 2, 3, 4), {2}),  # it is there, and has not said yet that it is fit
            ({4: met(1, 2)}, (3, 4), {1, 2}),  # a quorum is lacking
            ({1: met(), 2: met(), 4: met(1, 2)}, (1, 2, 3, 4), set()),
        ],
    )
    def test_it_waits_for_all_that_come_a_quorum_and_who_is_there(
        self, reports: Mapping[int, Report], linked: Collection[int], waits_for: set[int]
    ) -> None:
        assert awaited(FILL, reports, linked, NOBODY) == waits_for
        on = next_seats(FILL, NEW, reports, linked, NOBODY)
        assert on == (None if waits_for else Seats(0, Stage.JOINT, OLD, NEW))


class TestJoint:
    @pytest.mark.parametrize(
        ("reports", "waits_for"),
        [
            ({}, {1, 2, 3, 4}),
            ({1: met(2), 2: met(1)}, {3}),  # a quorum is complete, and nobody has met who leaves
            ({1: met(2), 2: met(3)}, set()),
            ({1: met(2), 4: met(2, 3)}, set()),
            ({1: met(3), 4: met(2)}, {2, 4}),  # who comes has met one of two
            ({1: met(3), 4: UNFIT}, {2, 4}),
            ({1: met(4), 2: met(4), 4: met(1, 3)}, {1, 2}),  # 4 is not among those that have held it
        ],
    )
    def test_it_waits_for_a_quorum_that_is_complete_and_all_that_leave(
        self, reports: Mapping[int, Report], waits_for: set[int]
    ) -> None:
        assert awaited(JOINT, reports, (1, 2, 3, 4), NOBODY) == waits_for
        on = next_seats(JOINT, NEW, reports, (), NOBODY)
        assert on == (None if waits_for else Seats.still(NEW))

    def test_the_dead_are_not_waited_for(self) -> None:
        reports = {1: met(2), 2: met(1)}
        assert awaited(JOINT, reports, (), {3}) == set()
        assert awaited(JOINT, reports, (), {4}) == {3}

    def test_where_too_many_are_dead_all_that_are_left_are_met(self) -> None:
        assert awaited(JOINT, {1: met(), 4: met(1)}, (), {2, 3}) == set()
        assert awaited(JOINT, {1: met(), 4: met()}, (), {2, 3}) == {2, 4}

    def test_one_that_is_alone_is_complete_by_itself(self) -> None:
        alone = Seats(6, Stage.JOINT, (1,), (1, 2, 3))
        assert awaited(alone, {1: met(), 2: met(1)}, (), NOBODY) == set()
        assert awaited(alone, {2: met(1)}, (), NOBODY) == {1, 3}
        hands_over = Seats(6, Stage.JOINT, (1,), (2,))
        assert awaited(hands_over, {2: met()}, (), NOBODY) == {1, 2}
        assert awaited(hands_over, {2: met(1)}, (), NOBODY) == set()

    def test_who_stays_proves_it_too_where_there_are_fewer_from_now_on(self) -> None:
        fewer = Seats(6, Stage.JOINT, (1, 2, 3, 4, 5), (1, 2, 3))
        stays = {each: met() for each in (1, 2, 3)}
        assert awaited(fewer, stays, (), NOBODY) == {1, 2, 3, 4, 5}
        stays = {1: met(2, 4), 2: met(3, 5)}
        assert awaited(fewer, stays, (), NOBODY) == set()


def test_a_quorum_that_is_complete_holds_all_that_a_quorum_acknowledged() -> None:
    """Of every write that some quorum of the old ones has, by every way in which the new ones can have met
    just so many as are needed: each quorum of the new ones has it."""
    old, new = (1, 2, 3, 4, 5), (1, 6, 7)
    seats = Seats(6, Stage.JOINT, old, new)
    for written in combinations(old, quorum(old)):
        for of_1, of_6 in ((a, b) for a in subsets(old) for b in subsets(old)):
            reports = {1: met(*of_1), 6: met(*of_6)}
            if awaited(seats, reports, (), {2, 3, 4, 5}) or awaited(seats, reports, (), NOBODY):
                continue
            has = {each for each in (1, 6) if {*written} & (reports[each].met | {each})}
            assert all(has & {*some} for some in combinations(new, quorum(new)))


def subsets(of: Collection[int]) -> list[tuple[int, ...]]:
    return list(chain.from_iterable(combinations(of, count) for count in range(len(of) + 1)))


def test_a_move_begins_and_ends_at_its_goal() -> None:
    still = Seats.still(OLD, 4)
    assert next_seats(still, NEW, {}, (), NOBODY) == Seats(0, Stage.FILL, OLD, NEW)
    assert next_seats(still, OLD, {}, (), NOBODY) is None
    assert next_seats(still, (3, 2, 1), {}, (), NOBODY) is None  # the same members


def test_a_move_to_others_than_are_wanted_is_turned_to_these_or_taken_back() -> None:
    hold = {1: met(), 3: met()}
    turned = Seats(0, Stage.FILL, OLD, (1, 2, 5))
    assert FILL.wrong_step(turned) == ""
    for seats in (FILL, JOINT):
        assert next_seats(seats, (1, 2, 5), hold, (), NOBODY) == turned
        assert next_seats(seats, OLD, hold, (), NOBODY) == Seats.still(OLD)


def test_it_is_not_while_too_few_of_those_that_held_it_are_known_to_hold_it_yet() -> None:
    for seats in (FILL, JOINT):
        for reports, barred in (
            ({}, NOBODY), ({1: met()}, NOBODY), ({1: met(), 2: Report(False, NOBODY)}, NOBODY),
            ({1: met(), 2: met()}, frozenset({2})),
        ):  # fmt: skip
            assert next_seats(seats, OLD, reports, (), NOBODY, barred) is None
            assert next_seats(seats, (1, 2, 5), reports, (), NOBODY, barred) is None


def test_a_move_is_not_taken_back_to_too_few_but_to_those_that_can_only_wait() -> None:
    joint = Seats(6, Stage.JOINT, (1, 2), (3, 4))
    turned = Seats(0, Stage.FILL, (1, 2), (3, 5))
    assert next_seats(joint, (3, 5), {2: met()}, (), frozenset({1})) == turned  # the other old one has it all
    assert next_seats(joint, (3, 5), {}, (), frozenset({1, 2})) is None
    both = {3: met(), 4: met()}
    assert next_seats(joint, (3, 5), both, (), frozenset({1, 2})) == Seats.still((3, 4))
    assert next_seats(joint, (3, 5), both, (), frozenset({1, 2, 4})) == turned
    filling = joint._replace(stage=Stage.FILL)
    assert next_seats(filling, (3, 5), {}, (), frozenset({1, 2})) is None  # 3 and 4 may have got all


def test_each_step_is_one_that_the_topology_takes() -> None:
    seats, reports = Seats.still(OLD, 4), {each: met(1, 2, 3) for each in NEW}
    for _ in range(3):
        on = next_seats(seats, NEW, reports, NEW, NOBODY)
        assert on is not None
        assert seats.wrong_step(on) == ""
        seats = on
    assert seats == Seats.still(NEW)


def test_what_went_with_the_dead_is_known_when_the_change_ends() -> None:
    assert left_of(JOINT, Seats.still(NEW), {2, 3}) == 1
    assert left_of(JOINT, Seats.still(NEW), {3}) == 2  # what it alone had
    assert left_of(JOINT, Seats.still(NEW), set()) is None
    assert left_of(JOINT, Seats.still(NEW), {1, 2, 3}) == 0
    assert left_of(JOINT, Seats.still(OLD), {2, 3}) is None  # taken back
    assert left_of(FILL, JOINT, {2, 3}) is None


def test_who_is_not_fit_is_not_complete_whomever_it_has_met() -> None:
    assert not complete(1, UNFIT, JOINT, NOBODY)
    assert complete(1, UNFIT._replace(fit=True), JOINT, NOBODY)


@pytest.mark.parametrize("count", range(1, 6))
def test_who_is_complete_has_met_one_that_is_not_barred_of_each_quorum_or_all_of_those_that_are_left(
    count: int,
) -> None:
    old = tuple(range(count))
    seats = Seats.still(old)
    for size in range(1, count + 1):
        for barred in combinations(old, size):
            left = set(old) - set(barred)
            for others in chain.from_iterable(combinations(old, each) for each in range(count + 1)):
                # What a quorum has accepted is with those of them that have not forgotten it.
                knowing = {*others} - {*barred}
                surely = all(knowing & {*each} for each in combinations(old, quorum(old)))
                is_so = complete(barred[0], met(*others), seats, NOBODY, frozenset(barred))
                assert is_so == (surely or left <= knowing)


def test_who_is_dead_is_not_waited_for_by_one_that_is_barred() -> None:
    seats = Seats.still((1, 2, 3))
    assert not complete(1, met(2), seats, NOBODY, frozenset({1}))
    assert complete(1, met(2), seats, frozenset({3}), frozenset({1}))
    assert not complete(1, UNFIT, seats, frozenset({3}), frozenset({1}))
    assert complete(1, met(), seats, frozenset({2, 3}), frozenset({1}))


def test_a_change_does_not_end_on_what_those_that_are_barred_have() -> None:
    reports = {1: met(2), 2: met(3), 4: met(2, 3)}
    assert awaited(JOINT, reports, (1, 2, 3, 4), NOBODY) == set()
    barred = frozenset({2})
    assert awaited(JOINT, reports, (1, 2, 3, 4), NOBODY, barred) == {1, 2, 3, 4}
    assert next_seats(JOINT, NEW, reports, (1, 2, 3, 4), NOBODY, barred) is None
    reports |= {1: met(2, 3), 4: met(1, 2, 3)}
    assert next_seats(JOINT, NEW, reports, (1, 2, 3, 4), NOBODY, barred) == Seats.still(NEW)


def test_where_too_few_have_not_forgotten_those_that_come_are_met_too() -> None:
    """Both of the old ones have forgotten what they had accepted: what there is of it is with who comes."""
    both = frozenset({1, 2})
    hands_over = Seats(6, Stage.JOINT, (1, 2), (3, 4))
    assert not complete(1, met(2), hands_over, NOBODY, both)
    assert not complete(1, met(2, 3), hands_over, NOBODY, both)
    assert complete(1, met(3, 4), hands_over, NOBODY, both)
    assert complete(1, met(3), hands_over, frozenset({4}), both)
    assert not complete(3, met(1, 2), hands_over, NOBODY, both)
    assert complete(3, met(4), hands_over, NOBODY, both)
    assert not complete(1, met(2), hands_over, NOBODY, frozenset({1, 2, 3}))
    assert complete(1, met(4), hands_over, NOBODY, frozenset({1, 2, 3}))
    assert complete(1, met(2), hands_over, NOBODY, frozenset({1}))  # the other old one has it all
    assert complete(1, met(), Seats.still((1, 2)), NOBODY, both)  # it is with nobody


@pytest.mark.parametrize(
    ("count", "lost", "left"),
    [
        (1, 1, 0),
        (2, 1, None),
        (2, 2, 0),
        (3, 1, None),
        (3, 2, 1),
        (3, 3, 0),
        (4, 2, None),
        (4, 3, 1),
        (5, 3, 2),
    ],
)
def test_too_few_acceptors_are_left_where_a_quorum_may_be_gone(
    count: int, lost: int, left: int | None
) -> None:
    seats = Seats.still(tuple(range(1, count + 1)))
    for dead in range(lost + 1):
        gone = [*range(1, lost + 1)]
        assert acceptors_left(seats, {*gone[:dead]}, {*gone[dead:]}) == left
