"""Cases of moves: who counts for what while a partition goes from member to member, and when it may go on."""

from dataclasses import replace

from basestore.cluster.peers import Peers
from basestore.consistency import Level
from basestore.moves import conductor
from basestore.moves.reports import MoveReports
from basestore.protocol.membership import MoveReport, MoveRow
from basestore.repair import moving
from basestore.repair.certificate import Certificate
from basestore.repair.moving import Report
from basestore.repair.seats import Seats, Stage, packed
from basestore.storage import keyspace
from basestore.topology.changes import CancelMoves, SetPlan, TakeBack
from basestore.topology.entries import UNNAMED, Suggestion, encode_entry
from basestore.topology.judgement import apply
from tests.simulation.cases.registry import shows
from tests.worlds.seats import NEW, OLD, adopt, fill, joint, silence, still
from tests.worlds.seats import moving as moving_world
from tests.worlds.topologies import Log, cluster, founded
from tests.worlds.world import World

JOINT = Seats(7, Stage.JOINT, (1, 2, 3), (1, 4, 5))
FIVE_TO_THREE = Seats(7, Stage.JOINT, (1, 2, 3, 4, 5), (1, 2, 3))
NOBODY = frozenset[int]()
MADE = Certificate(mine=0, theirs=0, my_closed=1, their_closed=1, tag=1, made_ms=1)


def met(*members: int, fit: bool = True) -> Report:
    return Report(fit, set(members))


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
    certificates.finishing.level = lambda: 11  # where no word that the others have finished is needed
    certificates.certify(0, 1, MADE)
    certificates.remember(0, 1, 0.0, peer_whole=True)
    world.settle()
    assert certificates.met(0) == {1}
    adopt(world, {0: fill(101, OLD, NEW)}, 0)
    assert not certificates.met(0)


@shows("what is not durable yet is proven")
def a_member_is_met_once_all_that_came_from_it_is_durable() -> None:
    world = moving_world()
    certificates, group_commit = world.node(0).certificates, world.node(0).group_commit
    certificates.finishing.level = lambda: 11  # where no word that the others have finished is needed
    world.settle()
    certificates.certify(0, 1, MADE)
    certificates.remember(0, 1, 0.0, peer_whole=True)
    group_commit.commit()
    assert not certificates.met(0)
    world.settle()
    assert certificates.met(0) == {1}


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
    adopt(world, {0: still(109, *OLD)}, 0, unsure={0})
    assert not world.node(0).certificates.counts(0)


@shows("one source makes fit")
def who_comes_meets_two_of_three() -> None:
    world = moving_world()
    adopt(world, {0: fill(101, OLD, NEW)}, 3)
    assert not world.node(3).certificates.seating.covered(0, {0})
    assert world.node(3).certificates.seating.covered(0, {0, 1})


@shows("who is dead stands for who is left")
def who_is_said_to_be_dead_and_answers_stands_for_itself_alone() -> None:
    assert not moving.covers({1}, OLD, {1, 2})
    assert moving.covers({0}, OLD, {1, 2})


@shows("what a leaver has taken is kept no more")
def the_last_hint_of_what_a_leaver_has_taken_is_kept() -> None:
    world = moving_world()
    silence(world, *OLD)
    world.set(4, "k", "v", Level.ANY, timeout_s=1.0)
    world.run(1.2)
    world.adopt({0: joint(102, OLD, (3,))}, 102)
    hints, row = world.node(4).hints, world.row("k")
    *others, last = (pile for pile in hints.piles if pile.count)
    for pile in others:
        if (kept := hints.kept(pile, row)) is not None:
            hints.settle(pile, row, kept, "hints_delivered")
    hint = hints.kept(last, row)
    assert hint is not None
    assert not hints.lasts(last, row, hint)


@shows("of nobody all are met")
def where_nobody_is_left_nothing_is_proven_by_having_met_nobody() -> None:
    assert not moving.covers(set(), OLD, {*OLD})


@shows("back to too few")
def a_move_goes_on_where_those_that_held_it_are_dead() -> None:
    fit = {number: Report(True, NOBODY) for number in (3, 4)}
    joint = Seats(7, Stage.JOINT, (1, 2), (3, 4))
    assert moving.next_seats(joint, (3, 5), fit, (), frozenset({1, 2})) == Seats.still((3, 4))
    # Or have come to other stores, as is known, or as is not heard yet.
    assert moving.next_seats(joint, (1, 2), fit, (), NOBODY) != Seats.still((1, 2))


@shows("who is dead is taken nothing from")
def a_move_to_one_who_is_dead_is_turned_though_too_few_of_those_that_held_it_are_left() -> None:
    filling, fit = Seats(7, Stage.FILL, (1, 2, 3), (1, 4, 5)), {1: Report(True, NOBODY)}
    turned = Seats(0, Stage.FILL, (1, 2, 3), (1, 5, 6))
    assert moving.next_seats(filling, (1, 5, 6), fit, (), frozenset({2, 3, 4})) == turned
    assert moving.next_seats(filling, (1, 4, 6), fit, (), frozenset({2, 3, 4})) is None  # 5 has all, perhaps
    joint, more = filling._replace(stage=Stage.JOINT), (1, 4, 5, 6)
    assert moving.next_seats(joint, more, fit, (), frozenset({2, 3, 4})) is None  # nor is it given to fewer


@shows("cancelled, with too few left")
def a_move_is_not_taken_back_to_those_that_have_forgotten() -> None:
    moving_on = founded(cluster(3, replication=1))
    (old,) = moving_on.seats[0].old
    new = next(each.number for each in moving_on.members if each.number != old)
    seats = (joint(1, (old,), (new,)), *moving_on.seats[1:])
    for forgot, refused in ((set[int](), False), ({old}, True)):
        log = Log(replace(moving_on, seats=seats, barred={0: frozenset(forgot)}))
        for change in (TakeBack([0]), CancelMoves([0])):
            assert bool(log.add(change).error) == refused


@shows("turned, and what was given is given up")
def who_is_to_hold_it_by_the_new_plan_too_keeps_its_seat() -> None:
    filling = Seats(7, Stage.FILL, (1, 2), (3, 4))
    turned = moving.next_seats(filling, (3, 5), {1: met()}, (), NOBODY)
    assert turned is not None
    assert 3 in turned.both


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


@shows("a session goes on over an entry")
def what_was_compared_before_an_entry_proves_nothing_under_it() -> None:
    world = moving_world()
    world.hold(1, 0)
    world.node(0).scheduler.wish(1, 0)
    world.run(0.2)
    assert world.node(0).exchanges.count == 1
    world.node(0).certificates.finishing.level = lambda: 11  # as before
    adopt(world, {0: fill(101, OLD, NEW)})
    world.release(1, 0)
    world.settle()
    assert not world.node(0).certificates.met(0)


@shows("what lacks itself is a source")
def who_comes_gets_nothing_from_one_that_lacks_it_itself() -> None:
    world = moving_world()
    silence(world, 1)
    assert world.put(0, "k", "v").acknowledged == 2
    lacking = world.node(0)
    lacking.summaries.make_unfit(0)
    lacking.summaries.fitting.add(0)  # or it would be found to be fit at once
    lacking.replica.drop(world.row("k"))
    for other in (0, 3):
        world.part(other, 2)
    world.adopt({0: fill(101, OLD, (0, 1, 3))}, 101)
    world.run(3.0)
    assert not world.node(3).certificates.counts(0)
    world.join(3, 2)
    world.run(3.0)
    assert world.node(3).certificates.counts(0)
    assert world.stored(3, "k") is not None


@shows("stable without the new")
def what_is_proven_without_one_that_comes_is_not_everywhere() -> None:
    world = moving_world((0, 1), 3, drift_ms_max=200)
    world.put(0, "k", "v", Level.ALL)
    version = world.stored(0, "k")
    assert version is not None
    world.isolate(2)
    adopt(world, {0: fill(101, (0, 1), (0, 2))})
    world.run(6.0)  # closed stamps have passed by then what was written before
    world.node(0).scheduler.wish(1, 0)
    world.run(0.2)
    assert world.node(0).certificates.met(0) == {1}
    assert world.node(0).summaries.of[0].stable < version.stamp


@shows("what was purged comes back with a returner")
def what_was_purged_does_not_come_back_with_who_held_it_once() -> None:
    world = moving_world((0, 1, 2), 3, drift_ms_max=200)
    world.put(0, "k", "v", Level.ALL)
    adopt(world, {0: still(101, 0, 1)})
    world.delete(0, "k", Level.ALL)
    world.run(6.0)  # closed stamps have passed by then what was written before
    for _ in range(2):
        world.node(0).scheduler.wish(1, 0)
        world.run(0.2)
    assert [world.stored(at, "k") is None for at in range(3)] == [True, True, False]
    adopt(world, {0: fill(102, (0, 1), (0, 1, 2))})
    world.run(3.0)
    assert world.node(2).certificates.counts(0)
    assert world.values("k") == [None] * 3
