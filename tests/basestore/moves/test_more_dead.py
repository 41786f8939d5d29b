"""More are dead than a partition can spare, while it moves: what somebody has who lives, and counts, is not
dropped, and what is there is there at every quorum; nor does anybody wait for the dead. Covers
`repair/moving.py`, `Recovery._fill` and `StoreIdentity.dead`."""

from collections.abc import Callable

import pytest

from basestore.consistency import Level
from basestore.protocol.heartbeats import Remembered
from basestore.repair.seats import Seats, Stage
from basestore.replica.identity import State
from basestore.rows import row_partition
from basestore.topology.changes import AddMember, DrainMember, RemoveMember, ReplaceMember, TakeBack
from tests.worlds.changing import leaders
from tests.worlds.moving import asked, finish, number, topology
from tests.worlds.world import TICK_S, World

KEYS = [f"key {each}" for each in range(200)]


def loaded(count: int, replication: int, partitions: int) -> World:
    world = World(count, replication=replication, partitions=partitions, logged=True, reconcile=True)
    for key in KEYS:
        world.put(0, key, "old", Level.ALL)
    world.run(3)
    return world


def voters(world: World) -> set[int]:
    raft = world.node(0).membership.group.raft
    assert raft is not None
    return {voter.number for voter in raft.voters}


def indices(world: World) -> dict[int, int]:
    """Nodes, by the numbers of their members."""
    return {number(world, at): at for at in range(len(world.nodes))}


def of_partition(world: World, partition: int) -> list[str]:
    return [key for key in KEYS if row_partition(world.row(key)) == partition]


def first(world: World, at: int, fits: Callable[[int, Seats], bool]) -> int:
    """The first partition of this kind, by what this node knows, as soon as there is one."""
    for _ in range(1200):
        for partition, seats in enumerate(topology(world, at).seats):
            if fits(partition, seats):
                return partition
        world.run(TICK_S)
    raise AssertionError(topology(world, at).seats)


def is_fit(world: World, at: int, partition: int) -> bool:
    return partition not in world.node(at).replica.summaries.unfit


def test_who_took_the_place_of_one_that_was_away_keeps_what_it_has_when_the_others_die() -> None:
    world = loaded(7, 3, 16)
    voting, index = voters(world), indices(world)
    partition = first(world, 0, lambda at, of: len(voting & {*of.old}) < 3 and bool(of_partition(world, at)))
    a, b, away = topology(world).seats[partition].old
    asker = min(each for each in range(7) if each not in {index[a], index[b], index[away]})
    world.crash(index[away])
    held = of_partition(world, partition)
    for key in held:
        assert world.put(index[a], key, "new", Level.QUORUM).acknowledged == 2
    asked(world, DrainMember(away), asker)
    world.run(15)
    assert topology(world, asker).seats[partition].stage is Stage.JOINT, "it waits for who is away"
    for each in (a, b):
        world.crash(index[each])
    world.run(3)
    for each in (a, b):
        asked(world, RemoveMember(each), asker)
    world.run(5)
    world.start(index[away])
    finish(world, asker)
    assert {world.look(asker, key).value for key in held} == {b"new"}


@pytest.mark.parametrize(("stage", "target"), [(Stage.FILL, 0), (Stage.FILL, 1), (Stage.JOINT, 9)])
def test_what_a_living_member_was_given_is_not_dropped_when_all_others_die(stage: Stage, target: int) -> None:
    world = loaded(9, 2, 32)
    voting, index = voters(world), indices(world)
    going = {*topology(world).seats[target].old}
    rest = sorted(index.keys() - going)
    slow = rest[0] if target == 0 else rest[1]
    asker = index[rest[0]] if stage is Stage.JOINT or target else index[rest[1]]
    if stage is Stage.FILL:
        world.crash(index[slow])  # so that it fills for long
    for each in going:
        asked(world, DrainMember(each), asker)

    def goes_down(of: Seats) -> int | None:
        if stage is Stage.FILL:
            return slow if slow in of.new else None
        able = (n for n in of.new if index[n] != asker and len({n, *going} & voting) <= 2)
        return next(able, None)

    def fits(at: int, of: Seats) -> bool:
        if of.stage is not stage or {*of.old} != going or {*of.new} & going or goes_down(of) is None:
            return False
        return all(is_fit(world, index[n], at) for n in of.new if n != goes_down(of))

    partition = first(world, asker, fits)
    seats = topology(world, asker).seats[partition]
    down = goes_down(seats)
    assert down is not None
    (other,) = {*seats.new} - {down}
    for each in {*going, down}:
        if world.nodes[index[each]] is not None:
            world.crash(index[each])
    held = of_partition(world, partition)
    assert held
    assert all(world.stored(index[other], key) for key in held), "it has it all"
    for each in (*sorted(going), down):
        asked(world, RemoveMember(each), asker)
    finish(world, asker)
    assert {world.look(asker, key).value for key in held} == {b"old"}


def test_those_that_were_given_nothing_meet_who_was_given_all_before_they_count() -> None:
    world = loaded(9, 3, 32)
    voting, index = voters(world), indices(world)
    leader = next(at for at in range(9) if world.node(at).name == leaders(world)[0])
    own = number(world, leader)
    target = first(world, 0, lambda _, of: len({*of.old} & voting) <= 2 and own not in of.old)
    going = topology(world).seats[target].old
    for each in index.keys() - {*going, own}:  # who is to come is linked with nobody that holds it
        for holder in going:
            world.part(index[each], index[holder])
    for each in going:
        asked(world, DrainMember(each), leader)
    world.run(10)

    def fits(at: int, of: Seats) -> bool:
        aside = {*of.old} == {*going} and own not in of.new and not {*of.new} & {*going}
        return of.stage is Stage.FILL and aside and bool(of_partition(world, at))

    partition = first(world, leader, fits)
    d, e, f = (index[n] for n in topology(world, leader).seats[partition].new)
    for each in (e, f):
        world.part(d, each)
    for holder in going:
        world.join(d, index[holder])
    assert first(world, leader, lambda at, _: at == partition and is_fit(world, d, at)) == partition
    assert not is_fit(world, e, partition)
    for holder in going:
        world.crash(index[holder])
    world.run(2)
    for holder in going:
        asked(world, RemoveMember(holder), leader)
    world.run(20)
    assert not any(is_fit(world, each, partition) for each in (e, f)), "they wait for the third"
    for each in (e, f):
        world.join(d, each)
    finish(world, leader)
    assert {world.look(e, key).value for key in of_partition(world, partition)} == {b"old"}


def test_a_new_store_does_not_wait_for_the_word_of_the_dead() -> None:
    """It is to get what they held, and they leave only once it has."""
    world = World(4, replication=3, partitions=4, logged=True, reconcile=True, born=False)
    dead, unborn = 2, 3
    world.lose = lambda sent: (
        isinstance(sent.message, Remembered) and (sent.source, sent.target) == (dead, unborn)
    )
    for at in range(4):
        world.start(at)
    world.run(1)
    world.found()
    for key in KEYS:
        world.put(0, key, "v")
    assert world.node(unborn).identity.waits_for.startswith("a new store; n3 must first say")
    world.crash(dead)
    world.run(3)
    assert not world.node(unborn).identity.counts, "it may come back, and know an earlier store"
    asked(world, RemoveMember(number(world, dead)))
    finish(world)
    assert world.node(unborn).identity.counts
    assert all(
        set(seats.old) == {number(world, at) for at in (0, 1, unborn)} for seats in topology(world).seats
    )
    assert {world.look(0, key, Level.ALL).value for key in KEYS} == {b"v"}


@pytest.mark.parametrize("open_anew", [False, True])
def test_one_that_was_lost_is_known_to_others_than_the_dead(open_anew: bool) -> None:
    world = loaded(4, 3, 4)
    world.crash(3)
    asked(world, RemoveMember(number(world, 3)))
    world.run(0.3)
    world.wipe(1)
    node = world.start(1)
    world.run(0.3)
    if open_anew:
        node = world.restart(1)
        world.run(0.3)
    assert node.identity.state is State.FORGETFUL
    finish(world)
    assert node.identity.counts
    assert {world.look(0, key, Level.ALL).value for key in KEYS} == {b"old"}


def test_a_plan_that_would_leave_seats_to_the_dead_is_made_anew() -> None:
    """A cancel has left two where they were, and a user has the third replaced."""
    world = loaded(7, 3, 1)
    of = indices(world)
    *dead, third = topology(world).seats[0].old
    by, *_ = (each for each in of if each not in (*dead, third))
    for each in dead:
        world.stop(of[each])
    for each in dead:
        asked(world, RemoveMember(each), of[by])
        asked(world, TakeBack([]), of[by])
    assert topology(world, of[by]).stranded == dict.fromkeys(dead, 1)
    asked(world, ReplaceMember(third, by, dead=False), of[by])
    finish(world, of[by])
    assert len(set(topology(world, of[by]).seats[0].old) - {*dead, third}) == 3
    assert world.look(of[by], KEYS[0]).value == b"old"


def test_while_too_few_are_there_to_be_given_anything_what_is_planned_stands() -> None:
    """Two are drained, one is to take their place and is away: no plan is made without it."""
    world = loaded(4, 3, 1)
    asked(world, AddMember("n9", "127.0.0.1:9999", "", 1, b""))
    world.run(1.0)
    for at in (0, 1):
        asked(world, DrainMember(number(world, at)))
    world.run(3.0)
    assert topology(world).unplanned
    assert not topology(world).moving
