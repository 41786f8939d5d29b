"""A member that is drained leaves only once it keeps no write that nobody else has. Covers `_gone` of
`moves/conductor.py`, `Membership.leaving`, and what heartbeats say of hints."""

import pytest

from basestore.consistency import Level
from basestore.errors import Overloaded, ReplicaFailure
from basestore.topology.changes import DrainMember, Standing, TakeBack
from tests.worlds.changing import leaders
from tests.worlds.deferring import defer
from tests.worlds.late_hints import hints
from tests.worlds.moving import asked, number, topology
from tests.worlds.world import TICK_S, World


def standing(world: World, at: int, of: int) -> Standing:
    member = topology(world, at).member(number(world, of))
    assert member is not None
    return member.standing


def drained() -> tuple[World, int, int, int, str]:
    """A leader, a member that is drained from now on, one that is down, and a key that this one alone
    holds."""
    world = World(5, replication=1, partitions=8, logged=True)
    (name,) = leaders(world)
    leader = next(at for at in range(5) if world.node(at).name == name)
    goes, down = [at for at in range(5) if at != leader][-2:]
    key = next(key for key in map(str, range(100)) if world.replicas(key) == (down,))
    world.crash(down)
    world.run(3.0)
    asked(world, DrainMember(number(world, goes)), leader)
    return world, leader, goes, down, key


def about_to_leave() -> tuple[World, int, int, int, str]:
    """The same, once the member that is drained knows that it holds nothing."""
    world, leader, goes, down, key = drained()
    for _ in range(400):
        if world.node(goes).membership.leaving():
            break
        world.run(TICK_S)
    assert standing(world, goes, goes) is Standing.DRAINING
    return world, leader, goes, down, key


def test_who_is_about_to_leave_takes_no_write_for_others_alone() -> None:
    world, leader, goes, down, key = about_to_leave()
    call = world.set(goes, key, "v", Level.ANY, timeout_s=1.0)
    world.run(1.5)
    with pytest.raises(ReplicaFailure):
        call.receipt()
    world.run(2.0)
    assert standing(world, leader, goes) is Standing.LEFT
    elsewhere = world.set(leader, key, "w", Level.ANY, timeout_s=1.0)
    world.run(1.5)
    assert elsewhere.receipt()
    world.start(down)
    world.run(5.0)
    assert world.look(leader, key).value == b"w"


def test_nor_does_it_defer_any() -> None:
    world, _, goes, _, key = about_to_leave()
    call = defer(world, goes, key)
    world.settle()
    with pytest.raises(Overloaded, match="about to leave"):
        call.receipt()


def test_what_it_has_taken_before_it_knew_keeps_it() -> None:
    world, leader, goes, down, key = drained()
    call = world.set(goes, key, "v", Level.ANY, timeout_s=1.0)
    world.run(10.0)
    assert call.receipt()
    assert standing(world, leader, goes) is Standing.DRAINING
    world.start(down)
    world.run(10.0)
    assert standing(world, leader, goes) is Standing.LEFT
    assert world.look(leader, key).value == b"v"


def with_late() -> tuple[World, str]:
    """The last of five keeps the only copies of a write, which come too late for its replicas."""
    world = World(5, partitions=8, logged=True, reconcile=True)
    key = next(key for key in map(str, range(100)) if 4 not in world.replicas(key))
    for other in range(4):
        world.part(4, other)
    world.run(2.0)
    call = world.set(4, key, "v", Level.ANY)
    world.run(25.0)
    assert call.receipt()
    for other in range(4):
        world.join(4, other)
    world.run(5.0)
    assert sum(pile.late for pile in hints(world, 4).piles)
    return world, key


def test_one_that_comes_too_late_for_its_replicas_keeps_it_until_an_operator_has_decided() -> None:
    world, key = with_late()
    asked(world, DrainMember(number(world, 4)))
    world.run(15.0)
    assert standing(world, 0, 4) is Standing.DRAINING
    hints(world, 4, replay=True, late=True)
    world.run(5.0)
    assert standing(world, 0, 4) is Standing.LEFT
    assert world.look(0, key).value == b"v"


def test_late_ones_hold_no_closed_stamp_back() -> None:
    world, key = with_late()
    partition, holder = int.from_bytes(world.row(key)[:2]), world.replicas(key)[0]
    stamps = world.node(holder).closed_stamps
    (before,) = stamps.close([partition], world.now(holder))
    world.run(2.0)
    assert stamps.close([partition], world.now(holder)) > [before]


def test_once_its_moves_are_taken_back_it_takes_them_again() -> None:
    world, leader, goes, _, key = about_to_leave()
    world.hold(goes, leader)  # so that it does not leave meanwhile
    asked(world, TakeBack([]), leader)
    call = world.set(goes, key, "v", Level.ANY, timeout_s=1.0)
    world.run(1.0)
    assert call.receipt()
