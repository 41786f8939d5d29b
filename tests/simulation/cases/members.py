"""Cases of members: what the cluster's log makes of those that come and go, and of who is to hold what; and
when whoever leads lets them go."""

from dataclasses import replace
from functools import partial

from basestore.consistency import Level
from basestore.errors import InvalidRequest
from basestore.protocol.client import Failed
from basestore.protocol.membership import ChangeTopology
from basestore.repair import moving
from basestore.repair.moving import Report
from basestore.repair.seats import Seats, Stage
from basestore.topology.changes import (
    AddMember,
    CancelMoves,
    Change,
    DrainMember,
    RemoveMember,
    ReplaceMember,
    SetMember,
    SetPlan,
    SetReplication,
    SetSeats,
    Standing,
    TakeBack,
)
from basestore.topology.entries import Suggestion, encode_entry
from basestore.topology.topology import Topology
from tests.simulation.cases import registry
from tests.worlds.changing import Asked, change, leaders, voters
from tests.worlds.moving import asked, finish, number, topology
from tests.worlds.topologies import Log, cluster, founded
from tests.worlds.world import World

shows = partial(registry.shows, family="members")
of_moves = registry.shows
OLD, NEW = (1, 2, 3), (1, 2, 4)
JOINT = Seats(7, Stage.JOINT, OLD, (1, 4, 5))


def log(count: int = 4) -> Log:
    """Of members of which the first three hold each of two partitions."""
    of = Log(founded(cluster(count, replication=3, partitions=2)))
    of.topology = replace(of.topology, seats=tuple(Seats.still(OLD) for _ in of.topology.seats))
    return of


def enter(of: Log, *stages: Stage) -> None:
    """The first partition comes to these stages."""
    for stage in stages:
        seats = Seats.still(NEW) if stage is Stage.STILL else Seats(0, stage, OLD, NEW)
        assert not of.add(SetSeats([seats.row(0)])).error


def joining(name: str = "n9", address: str = "h:1") -> AddMember:
    return AddMember(name, address, "", 1, b"")


def standing(of: Log, member: int) -> Standing:
    held = of.topology.member(member)
    assert held is not None
    return held.standing


def refused(of: Log, *changes: Change) -> bool:
    """Whether the last of these is, and nothing has changed by it."""
    *before, last = changes
    for each in before:
        assert not of.add(each).error
    was = of.topology
    error = of.add(last).error
    return bool(error) and (of.topology.members, of.topology.plan) == (was.members, was.plan)


# --- seats ---------------------------------------------------------------------------------------


@of_moves("a cancelled move ends")
def a_move_that_is_taken_back_leaves_it_to_those_that_held_it() -> None:
    for stages in ((Stage.FILL,), (Stage.FILL, Stage.JOINT)):
        of = log()
        enter(of, *stages)
        assert not of.add(CancelMoves([0])).error
        assert of.topology.seats[0].old == OLD


@of_moves("what is taken back goes on")
def a_move_that_is_to_be_taken_back_is_left_to_the_leader() -> None:
    of = log()
    enter(of, Stage.FILL)
    was = of.topology.seats
    assert not of.add(TakeBack([0])).error
    assert of.topology.seats == was
    assert of.topology.goal(0) == OLD
    assert Topology.decode(of.topology.encode()) == of.topology
    assert not of.add(SetSeats([Seats.still(OLD).row(0)])).error
    assert not of.topology.plan


@of_moves("what has ended is taken back")
def a_move_that_ends_before_it_is_taken_back_has_ended() -> None:
    of = log()
    enter(of, Stage.FILL, Stage.JOINT)
    assert not of.add(TakeBack([0])).error
    assert not of.add(SetSeats([Seats.still(NEW).row(0)])).error
    assert not of.topology.plan
    assert of.topology.goal(0) == NEW


@of_moves("any step is as good as the next")
def nobody_holds_it_who_was_not_filled() -> None:
    of = log()
    for seats in (Seats.still(NEW), Seats(0, Stage.JOINT, OLD, NEW)):
        assert of.add(SetSeats([seats.row(0)])).error
    enter(of, Stage.FILL)
    assert of.add(SetSeats([Seats.still(NEW).row(0)])).error


@of_moves("a move is taken back after its end")
def what_has_ended_is_not_taken_back() -> None:
    of = log()
    enter(of, Stage.FILL, Stage.JOINT, Stage.STILL)
    assert of.add(SetSeats([Seats.still(OLD).row(0)])).error
    assert of.topology.seats[0].old == NEW


@of_moves("seats keep the epoch that they had")
def seats_are_those_of_the_entry_that_gave_them() -> None:
    of = log()
    enter(of, Stage.FILL)
    assert of.topology.seats[0].since == of.topology.epoch


# --- who is a member -----------------------------------------------------------------------------


@shows("a number is given twice")
def a_number_is_given_once() -> None:
    of = log()
    first = of.add(joining()).number
    assert not of.add(SetMember(first, standing="left")).error
    assert of.add(joining()).number > first


@shows("two have one name")
def a_name_is_of_one_member() -> None:
    assert refused(log(), joining("n2"))


@shows("two have one address")
def an_address_is_of_one_member() -> None:
    assert refused(log(), joining(address="10.0.0.2:7400"))


@shows("who holds partitions has left")
def who_holds_partitions_does_not_leave() -> None:
    assert refused(log(), SetMember(3, standing="left"))


@shows("who has left is one again")
def who_has_left_does_not_come_back() -> None:
    assert refused(log(), SetMember(4, standing="left"), SetMember(4, standing="member"))


@shows("who has left is drained")
def of_who_has_left_nothing_is_asked() -> None:
    assert refused(log(5), SetMember(4, standing="left"), DrainMember(4))


# --- who stays -----------------------------------------------------------------------------------


@shows("too few stay")
def as_many_stay_as_there_are_replicas() -> None:
    for goes in (DrainMember(2), RemoveMember(2), ReplaceMember(2, 4, True)):
        assert refused(log(), DrainMember(1), goes)


@shows("more replicas than members")
def there_are_no_more_replicas_than_members_that_stay() -> None:
    of = log()
    assert not of.add(DrainMember(4)).error
    assert of.add(SetReplication(4)).error
    assert of.topology.replication == 3


@shows("who is dead is drained")
def who_is_dead_is_not_drained() -> None:
    assert refused(log(), RemoveMember(1), DrainMember(1))


@shows("nobody stays after all")
def who_is_not_drained_any_more_stays() -> None:
    of = log()
    assert not of.add(DrainMember(1)).error
    assert not of.add(CancelMoves([])).error
    assert standing(of, 1) is Standing.MEMBER


# --- who takes whose place -----------------------------------------------------------------------


@shows("one takes a place beside itself")
def nobody_holds_a_partition_twice() -> None:
    assert refused(log(), ReplaceMember(1, 2, False))


@shows("one that goes takes a place")
def nobody_that_goes_takes_a_place() -> None:
    assert refused(log(5), DrainMember(4), ReplaceMember(1, 4, False))


@shows("one takes its own place")
def nobody_takes_its_own_place() -> None:
    assert "by itself" in log().add(ReplaceMember(4, 4, False)).error


@shows("who is replaced stays")
def who_is_replaced_goes() -> None:
    for dead, as_what in ((True, Standing.DEAD), (False, Standing.DRAINING)):
        of = log()
        assert not of.add(ReplaceMember(1, 4, dead)).error
        assert standing(of, 1) is as_what


# --- what is planned -----------------------------------------------------------------------------


def planned(of: Log, *goal: int) -> SetPlan:
    """A plan that is made now."""
    return SetPlan(of.topology.epoch, [[0, *goal]])


@shows("a plan names one that goes")
def nobody_that_goes_is_given_anything() -> None:
    of = log()
    assert not of.add(DrainMember(4)).error
    assert refused(of, planned(of, 1, 2, 4))


@shows("a plan names fewer than there are to be")
def each_partition_is_to_have_all_its_replicas() -> None:
    of = log()
    assert refused(of, planned(of, 1, 4))
    assert refused(of, planned(of, 1, 4, 4))


@shows("one that joins counts before it is given anything")
def one_that_joins_counts_once_it_is_given_something() -> None:
    of = log()
    first, second = of.add(joining()).number, of.add(joining("n10", "h:2")).number
    assert not of.add(planned(of, 1, 2, first)).error
    assert (standing(of, first), standing(of, second)) == (Standing.MEMBER, Standing.JOINING)


@shows("one that is not there is given partitions")
def one_that_was_never_started_is_given_nothing() -> None:
    world = World(3, replication=2, partitions=2, logged=True)
    added = change(world, 0, joining()).number
    world.run(2.0)
    of = topology(world)
    assert not any(added in each for each in (*of.plan.values(), *(seats.both for seats in of.seats)))


@shows("who joins is waited for by clocks")
def the_clock_of_one_that_was_never_started_is_not_waited_for() -> None:
    world = World(1, partitions=1, logged=True)
    assert not change(world, 0, joining()).error
    world.restart(0)
    world.run(3.0)
    assert world.node(0).peers.clock.confirmed


# --- who has gone --------------------------------------------------------------------------------


@shows("who votes has left")
def who_votes_has_not_left() -> None:
    world = World(4, replication=2, partitions=1, logged=True)
    leads, held = leaders(world)[0], topology(world).seats[0].both
    free = [
        at
        for at in range(4)
        if number(world, at) in set(voters(world, 0)) - {*held} and world.node(at).name != leads
    ]
    goes = free[0]
    asking = Asked(world, next(at for at in range(4) if at != goes), DrainMember(number(world, goes)), 5)
    for _ in range(60):
        world.run(0.05)
        for at in {*range(4)} - {goes}:
            member = topology(world, at).member(number(world, goes))
            assert member is not None
            assert member.standing is not Standing.LEFT or number(world, goes) not in voters(world, at)
    assert asking.became is not None


@shows("who keeps an only copy has left")
def who_keeps_an_only_copy_has_not_left() -> None:
    world = World(5, replication=2, partitions=1, logged=True)
    holders = world.replicas("k")
    keeper, other, _ = [at for at in range(5) if at not in holders]
    for at in holders:
        world.crash(at)
    world.run(6.0)
    call = world.set(keeper, "k", "v", Level.ANY)
    world.run(1.0)
    assert call.receipt().version
    asked(world, DrainMember(number(world, keeper)), other)
    world.run(3.0)
    member = topology(world, other).member(number(world, keeper))
    assert member is not None
    assert member.standing is Standing.DRAINING
    for at in holders:
        world.start(at)
    finish(world, other)
    assert world.look(other, "k").value == b"v"


@shows("who answers is dead")
def who_answers_is_not_removed_as_dead() -> None:
    world = World(4, replication=2, partitions=1, logged=True)
    for goes in (RemoveMember(number(world, 2)), ReplaceMember(number(world, 2), number(world, 3), True)):
        entry = encode_entry(Suggestion(goes, 7, 0, 0))
        call = world.ask(0, partial(ChangeTopology, entry=entry, timeout_ms=1000, again=False))
        world.settle()
        assert isinstance(call.answer, Failed)
        assert call.answer.code == InvalidRequest.code


@shows("who is dead is waited for")
def who_is_dead_is_not_waited_for() -> None:
    reports = {1: Report(True, {2}), 4: Report(True, {1, 2}), 5: Report(True, {1, 2})}
    assert moving.awaited(JOINT, reports, (1, 2, 4, 5), frozenset()) == {3}
    assert moving.awaited(JOINT, reports, (1, 2, 4, 5), frozenset({3})) == set()


@shows("as many are to be met though they are dead")
def where_two_of_three_are_dead_the_third_is_enough() -> None:
    assert moving.complete(4, Report(True, {1}), JOINT, frozenset({2, 3}))


@shows("what only the dead had is no loss")
def what_two_of_three_may_have_had_alone_is_a_loss() -> None:
    world = World(5, replication=3, partitions=1, logged=True)
    world.put(0, "k", "v")
    stays, *gone = world.replicas("k")
    other = next(at for at in range(5) if at not in (stays, *gone))
    for at in gone:
        world.crash(at)
    world.run(6.0)
    goes: list[Change] = [SetReplication(1), *(RemoveMember(number(world, at)) for at in gone)]
    for at, each in enumerate(goes):
        Asked(world, other, each, 5 + at)
    finish(world, other)
    (seats,) = topology(world, other).seats
    assert seats.old == (number(world, stays),)
    assert world.node(stays).losses.all_open


@shows("who has left serves")
def who_is_told_that_it_has_left_serves_nobody() -> None:
    world = World(3, logged=True)
    world.node(2).introductions.dismiss(0, world.now(2))
    assert world.node(2).membership.closed()
