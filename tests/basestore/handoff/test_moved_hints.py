"""Hints for members that have given up their partition. Covers `handoff/moved_hints.py`."""

from typing import Any

import pytest

from basestore.consistency import Level
from basestore.repair.seats import Seats, Stage
from basestore.repair.write_repair import Hint
from basestore.topology.changes import RemoveMember
from tests.worlds.changing import change
from tests.worlds.world import World

KEEPER, LEAVER = 3, 2
OLD, NEW = (0, 1, 2), (0, 1, 3)


def seated(**options: Any) -> World:
    """Partition 0, the only one, is held by the first three of four."""
    world = World(4, replication=3, partitions=1, logged=True, **options)
    world.adopt({0: Seats.still(OLD, 100)}, 100)
    world.run(1.0)
    return world


def move(world: World, *to: Seats) -> None:
    """All nodes go by these seats, one after the other."""
    for at, seats in enumerate(to):
        world.adopt({0: seats}, 101 + at)
    for node in world.running:
        node.moved_hints.look([0])
    world.run(1.0)


def changed() -> list[Seats]:
    return [
        Seats(101, Stage.FILL, OLD, NEW),
        Seats(102, Stage.JOINT, OLD, NEW),
        Seats.still(NEW, 103),
    ]


def kept(world: World, at: int) -> dict[int, int]:
    """How many hints a node keeps, by member."""
    return {pile.index: pile.count for pile in world.node(at).hints.piles if pile.count}


def test_hints_for_a_dead_member_go_once_others_hold_what_it_did() -> None:
    world = World(4, replication=3, partitions=8, logged=True)
    world.stop(LEAVER)
    world.run(1.0)
    for number in range(20):
        assert world.put(KEEPER, f"key {number}", "v").acknowledged >= 2
    world.run(2.0)
    assert kept(world, KEEPER).keys() == {LEAVER}
    assert not change(world, 0, RemoveMember(world.cluster.members[LEAVER].number)).error
    world.run(20.0)
    assert kept(world, KEEPER) == {}
    assert world.node(KEEPER).debts.of[LEAVER] == {}
    for number in range(20):
        call = world.get(KEEPER, f"key {number}", Level.ALL)
        world.settle()
        assert call.read().value == b"v"


def test_a_copy_goes_for_all_who_hold_it_have_it() -> None:
    world = seated()
    world.stop(LEAVER)
    world.run(1.0)
    assert world.put(1, "k", "v").acknowledged == 2
    world.run(2.0)
    assert kept(world, 1) == {LEAVER: 1}
    move(world, *changed())
    assert kept(world, 1) == {}


def test_an_only_copy_is_kept_for_those_that_hold_it_now() -> None:
    world = seated()
    for at in OLD:
        world.stop(at)
    world.run(3.0)
    call = world.set(KEEPER, "k", "v", Level.ANY)
    world.run(6.0)
    assert call.receipt().version
    assert kept(world, KEEPER) == {0: 1, 1: 1, 2: 1}
    move(world, *changed())
    assert 2 not in kept(world, KEEPER)
    assert kept(world, KEEPER).keys() >= {0, 1}
    only = world.node(KEEPER).hints.only_copies()
    assert only[::2] == [0]  # partition 0 is kept open for it yet


def test_a_hint_that_comes_behind_the_change_is_found_all_the_same() -> None:
    world = seated()
    world.stop(LEAVER)
    world.run(1.0)
    assert world.put(1, "k", "v").acknowledged == 2
    world.run(2.0)
    for at, seats in enumerate(changed()):
        world.adopt({0: seats}, 101 + at)
    assert kept(world, 1) == {LEAVER: 1}
    world.run(21.0)
    assert kept(world, 1) == {}


def test_what_is_kept_for_a_member_that_was_to_come_is_not_lost_when_the_move_is_taken_back() -> None:
    world = seated()
    move(world, Seats(101, Stage.FILL, OLD, NEW), Seats(102, Stage.JOINT, OLD, NEW))
    world.stop(KEEPER)
    world.run(1.0)
    call = world.set(1, "k", "v", Level.ONE)
    world.run(4.0)
    assert call.receipt().acknowledged >= 1
    assert kept(world, 1) == {KEEPER: 1}
    world.adopt({0: Seats.still(OLD, 103)}, 103)
    world.node(1).moved_hints.look([0])
    world.run(2.0)
    assert kept(world, 1) == {}
    call = world.get(1, "k", Level.ALL)
    world.settle()
    assert call.read().value == b"v"


def test_what_is_owed_to_who_gave_it_up_is_forgiven_at_once_and_not_what_is_owed_when_it_is_back() -> None:
    world = seated(hint_bytes_max=0)
    world.stop(LEAVER)
    world.run(1.0)
    assert world.put(1, "k", "v").acknowledged == 2
    world.run(2.0)
    node = world.node(1)
    assert node.debts.of[LEAVER].keys() == {0}
    for at, seats in enumerate(changed()):
        world.adopt({0: seats}, 101 + at)
    node.moved_hints.look([0])
    assert node.debts.of[LEAVER] == {}
    for at, seats in enumerate((Seats(104, Stage.FILL, NEW, OLD), Seats(105, Stage.JOINT, NEW, OLD))):
        world.adopt({0: seats}, 104 + at)
    record = world.stored(1, "k")
    assert record is not None
    node.debts.owe(LEAVER, world.row("k"), Hint.of(record, False))
    world.run(1.0)  # what was looked at before is gone through
    assert not node.moved_hints.pending
    assert node.debts.of[LEAVER].keys() == {0}


@pytest.mark.parametrize("count", [1, 600])
def test_however_many_there_are_all_are_gone_through(count: int) -> None:
    world = seated()
    world.stop(LEAVER)
    world.run(1.0)
    calls = [world.set(1, f"key {number}", "v") for number in range(count)]
    world.run(3.0)
    assert all(call.receipt().acknowledged == 2 for call in calls)
    assert kept(world, 1) == {LEAVER: count}
    move(world, *changed())
    world.run(2.0)
    assert kept(world, 1) == {}
