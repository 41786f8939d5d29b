"""Rules of moves that whole worlds seldom come by, each in a case of its own: it holds, and it does not where
the rule is left out. Covers `repair/moving.py`, `moves/reports.py`, and who counts for what."""

from collections.abc import Callable

import pytest

from basestore.anti_entropy.certificates import LastExchange
from basestore.cluster import placement
from basestore.cluster.peers import Peers
from basestore.config import Member
from basestore.moves import conductor
from basestore.moves.reports import MoveReports
from basestore.protocol.membership import MoveReport, MoveRow
from basestore.repair import moving
from basestore.repair.certificate import Certificate
from basestore.repair.moving import Report
from basestore.repair.seats import Seats, Stage, packed
from basestore.storage import keyspace
from basestore.topology.changes import SetPlan
from basestore.topology.entries import UNNAMED, Suggestion, encode_entry
from basestore.topology.judgement import apply
from tests.simulation.mutants import switched_on
from tests.simulation.mutations import MUTANTS
from tests.worlds.seats import NEW, OLD, adopt, enter, fill, joint, still
from tests.worlds.seats import moving as moving_world
from tests.worlds.world import World

Case = Callable[[], None]
CASES: dict[str, list[Case]] = {}
JOINT = Seats(7, Stage.JOINT, (1, 2, 3), (1, 4, 5))
FIVE_TO_THREE = Seats(7, Stage.JOINT, (1, 2, 3, 4, 5), (1, 2, 3))
NOBODY = frozenset[int]()
MADE = Certificate(mine=0, theirs=0, my_closed=1, their_closed=1, tag=1, made_ms=1)


def shows(*mutants: str) -> Callable[[Case], Case]:
    """This case does not hold where one of these rules is left out."""

    def register(case: Case) -> Case:
        for mutant in mutants:
            CASES.setdefault(f"moves: {mutant}", []).append(case)
        return case

    return register


def met(*members: int, fit: bool = True) -> Report:
    return Report(fit, set(members))


@shows("a leaver is a taker")
def one_that_leaves_is_never_named_as_having_it() -> None:
    old, new = (0, 1, 2), (1, 2, 3)
    world = moving_world(old)
    enter(world, "joint", old, new)
    world.crash(3)
    world.run(0.2)
    world.put(0, "k", "v")
    (hint,) = [hint for member, hint in world.node(0).hints.of_row(world.row("k")) if member == 3]
    named = [world.node(index).identity.store in hint.stores for index in range(3)]
    assert named[0] is False
    assert any(named)


# --- when a stage may end ------------------------------------------------------------------------


@shows("one source makes complete", "so many are needed, less one")
def who_has_met_one_of_three_is_not_complete() -> None:
    assert not moving.complete(4, met(2), JOINT, NOBODY)
    assert moving.complete(4, met(2, 3), JOINT, NOBODY)


@shows("stayers are complete")
def who_stays_has_met_as_many_as_who_comes() -> None:
    assert not moving.complete(1, met(2), FIVE_TO_THREE, NOBODY)
    assert moving.complete(1, met(2, 4), FIVE_TO_THREE, NOBODY)


@shows("one complete", "one complete less than a quorum")
def two_of_three_are_complete_before_it_ends() -> None:
    reports = {1: met(2, 3), 4: met(fit=False), 5: met(2)}
    assert moving.next_seats(JOINT, JOINT.new, reports, (1, 2, 3, 4, 5), NOBODY) is None
    reports[5] = met(2, 3)
    assert moving.next_seats(JOINT, JOINT.new, reports, (1, 2, 3, 4, 5), NOBODY) == Seats.still((1, 4, 5))


@shows("a leaver is not asked")
def each_that_leaves_is_met_by_one_that_is_complete() -> None:
    reports = {1: met(2), 4: met(1, 2), 5: met(1, 2)}
    assert moving.awaited(JOINT, reports, (1, 2, 3, 4, 5), NOBODY) == {3}
    assert moving.awaited(JOINT, reports, (1, 2, 4, 5), frozenset({3})) == set()


@shows("no joint")
def between_filling_and_the_end_two_quorums_are_asked() -> None:
    filling = JOINT._replace(stage=Stage.FILL)
    reports = dict.fromkeys((1, 4, 5), met(1, 2, 3))
    step = getattr(conductor, "next_seats")  # noqa: B009  as it goes by it
    after = step(filling, filling.new, reports, (1, 2, 3, 4, 5), NOBODY)
    assert after is not None
    assert after.stage is Stage.JOINT


# --- what members report -------------------------------------------------------------------------


def reported(world: World, since: int) -> tuple[MoveReports, Peers]:
    node = world.node(0)
    reports, number = node.moves.reports, node.peers.number_of
    row = MoveRow(0, since, True, packed(sorted(number[each] for each in OLD)), 1)
    reports.hear(4, node.peers.all[4].outbox, MoveReport([row]), world.now(0))
    return reports, node.peers


@shows("a report counts after its entry")
def what_was_proven_under_an_earlier_entry_counts_for_nothing() -> None:
    reports, _ = reported(moving_world(), 101)
    assert reports.of(4, 0, fill(101, OLD, NEW)) is not None
    assert reports.of(4, 0, joint(102, OLD, NEW)) is None


@shows("a report counts after its link")
def what_was_said_on_a_link_that_is_gone_counts_for_nothing() -> None:
    world = moving_world()
    reports, _ = reported(world, 102)
    assert reports.of(4, 0, joint(102, OLD, NEW)) is not None
    world.restart(4)
    world.settle()
    assert reports.of(4, 0, joint(102, OLD, NEW)) is None


# --- what is proven, and by whom -----------------------------------------------------------------


@shows("sessions of any epoch")
def roots_of_two_epochs_mean_different_things() -> None:
    world = moving_world()
    certificates = world.node(0).certificates
    before = certificates.ground(1, 0)
    adopt(world, {0: fill(101, OLD, NEW)}, 0)
    assert certificates.ground(1, 0) != before


@shows("stable by claims of any epoch")
def claims_of_two_epochs_have_different_tags() -> None:
    world = moving_world()
    certificates = world.node(0).certificates
    adopt(world, {0: fill(101, OLD, NEW)}, 0)
    filling = certificates.tag(0)
    adopt(world, {0: joint(102, OLD, NEW)}, 0)
    assert certificates.tag(0) != filling


@shows("old certificates")
def what_was_met_under_an_entry_is_met_anew_under_the_next() -> None:
    world = moving_world()
    certificates = world.node(0).certificates
    certificates.certify(0, 1, MADE)
    certificates.remember(0, 1, LastExchange(0.0, True, {}))
    assert certificates.met(0) == {1}
    adopt(world, {0: fill(101, OLD, NEW)}, 0)
    assert not certificates.met(0)


@shows("that something is lacking is not noted")
def who_is_about_to_be_given_a_partition_knows_it_at_its_next_opening() -> None:
    world = moving_world()
    recovery = world.node(3).recovery
    recovery.foresee({0: fill(101, OLD, NEW)}, world.now(3), {0})
    world.settle()
    assert world.engines[3].get(keyspace.unfit(0)) is not None


@shows("a returner is trusted")
def who_is_given_a_partition_does_not_count_for_it() -> None:
    world = moving_world()
    adopt(world, {0: fill(101, OLD, NEW)}, 3)
    assert not world.node(3).certificates.counts(0)


@shows("who may have missed a move trusts itself")
def who_may_have_missed_a_move_does_not_count() -> None:
    world = moving_world()
    adopt(world, {0: still(109, *OLD)}, 0, skipped=True)
    assert not world.node(0).certificates.counts(0)


@shows("one source makes fit")
def who_comes_meets_two_of_three() -> None:
    world = moving_world()
    adopt(world, {0: fill(101, OLD, NEW)}, 3)
    assert world.node(3).certificates.seating.needed(0) == 2


@shows("fit before that is durable")
def who_holds_what_it_must_counts_once_that_is_durable() -> None:
    summaries = moving_world().node(0).summaries
    summaries.make_unfit(0)
    summaries.make_fit(0)
    assert 0 in summaries.unfit


@shows("what a returner had proven still is")
def what_was_proven_by_what_a_store_held_once_is_proven_no_more() -> None:
    certificates = moving_world().node(0).certificates
    certificates.certify(0, 1, MADE)
    assert certificates.certificate(0, 1) is not None
    certificates.take_up(0)
    assert certificates.certificate(0, 1) is None


@shows("given up rows go though they were given back")
def rows_of_a_partition_that_is_given_back_stay() -> None:
    given_up = moving_world().node(0).maintenance.given_up
    assert given_up is not None
    given_up.look((0,))
    assert not given_up.pending


@shows("a plan is not bound to its epoch")
def a_plan_that_was_made_by_another_epoch_is_none() -> None:
    of = moving_world().node(0).membership.group.topology
    assert of is not None
    numbers = sorted((member.number for member in of.members), key=lambda each: each in of.seats[0].old)
    for made_at, planned in ((of.epoch - 1, False), (of.epoch, True)):
        change = SetPlan(made_at, [[0, *numbers[:3]]])
        entry = encode_entry(Suggestion(change, UNNAMED, numbers[0], 0))
        assert bool(apply(of, of.epoch + 1, entry).plan) == planned


@shows("who gives up a move has handed over")
def who_leaves_as_a_move_is_taken_back_has_proven_nothing() -> None:
    world = moving_world()
    for seats in (fill(101, OLD, NEW), joint(102, OLD, NEW)):
        adopt(world, {0: seats}, 0)
    seating = world.node(0).certificates.seating
    assert seating.seat(0, still(103, *OLD)) == set()


@shows("those that come are written nothing")
def what_is_written_goes_to_those_that_come_too() -> None:
    members = [Member(each, f"n{each}", f"127.0.0.1:{7400 + each}") for each in range(5)]
    of = placement.Placement(members, 1, 3)
    old = of.replicas[0]
    new = (old[0], *(each for each in range(5) if each not in old))
    of.adopt({0: joint(2, old, new)})
    assert set(of.replicas[0]) == {*old, *new}


@pytest.mark.parametrize("mutant", CASES)
def test_a_rule_holds_and_not_where_it_is_left_out(mutant: str) -> None:
    for case in CASES[mutant]:
        case()
    bug = next(each for each in MUTANTS if each.name == mutant)
    with switched_on(bug):
        for case in CASES[mutant]:
            with pytest.raises(AssertionError):
                case()
