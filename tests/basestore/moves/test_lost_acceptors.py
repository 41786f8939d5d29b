"""Where too few acceptors are left, what was agreed on may be lost: that is noted once, and told to all.

Covers `acceptors_left` of `repair/moving.py`, and what `membership/adoption.py` notes of the log,
now and when it is read anew.
"""

from functools import partial

import pytest

from basestore.consistency import Level
from basestore.protocol.anti_entropy import LossRow
from basestore.topology.changes import RemoveMember
from tests.worlds.following import converged, loss_accepted
from tests.worlds.moving import asked, finish, number, topology
from tests.worlds.registers import RegisterWorld
from tests.worlds.world import World

WAIT_S = 40.0


def is_barred(world: World, member: int, by: int) -> bool:
    """Of the first partition."""
    return member in topology(world, by).barred.get(0, set())


def nobody_is_barred(world: World, by: int) -> bool:
    return not topology(world, by).barred


def finishes(world: World, *, able: bool) -> None:
    """Whether anybody ever finishes what it has accepted."""
    for node in world.running:
        node.certificates.finishing.unfinished = lambda partition, since: not able


def opened(world: World) -> list[tuple[str, LossRow]]:
    return [(node.name, row) for node in world.running for row in node.losses.all_open]


def lost_in_turn(world: RegisterWorld, holders: list[int], asker: int) -> None:
    """Each has recovered, and is barred, before the next is lost."""
    for lost in holders:
        world.lose_store(lost)
        finishes(world, able=False)
        world.until(partial(is_barred, world, number(world, lost), asker), WAIT_S)
        assert world.node(lost).identity.counts


def of_three() -> tuple[RegisterWorld, list[int], int]:
    """Five nodes, those that hold the first partition, and one that does not."""
    world = RegisterWorld(5, replication=3, reconcile=True)
    holders = [at for at in range(5) if number(world, at) in topology(world).seats[0].old]
    return world, holders, next(at for at in range(5) if at not in holders)


def test_all_that_hold_it_know_and_where_enough_are_left_nothing_is_noted() -> None:
    world, holders, asker = of_three()
    lost_in_turn(world, holders[:1], asker)
    world.run(1)
    assert opened(world) == []
    lost_in_turn(world, holders[1:2], asker)
    world.run(1)
    noted = [world.node(at).losses.open(0) for at in holders]
    assert all(noted)
    assert {(row.sources, row.needed) for rows in noted for row in rows} == {(1, 2)}
    spared = [at for at, of in topology(world, asker).barred.items() if len(of) == 1]
    assert spared, "each loses all partitions that it holds"
    assert not any(node.losses.open(at) for node in world.running for at in spared)


@pytest.mark.parametrize("which", [0, 2])
def test_a_store_that_comes_later_does_not_note_anew_what_was_accepted(which: int) -> None:
    """It reads the log from the beginning."""
    world, holders, asker = of_three()
    lost_in_turn(world, holders[:2], asker)
    finishes(world, able=True)
    world.until(partial(nobody_is_barred, world, asker), WAIT_S)
    assert opened(world)
    loss_accepted(world, asker)
    world.run(10)
    assert opened(world) == []
    receipt = world.put(asker, "k", "w", Level.ALL)
    for at in holders:  # nor does one that is opened anew
        world.restart(at)
    world.run(5)
    assert opened(world) == []
    world.lose_store(holders[which])
    world.run(20)
    world.until(partial(nobody_is_barred, world, asker), WAIT_S)
    assert world.node(holders[which]).identity.counts
    assert opened(world) == []
    assert converged(world, asker, receipt=receipt).proven


def test_one_of_the_lost_that_was_away_until_it_was_accepted_does_not_note_it_anew() -> None:
    world = RegisterWorld(5, replication=5, partitions=2, reconcile=True)
    lost_in_turn(world, [0, 1], 4)
    world.run(5)
    world.lose_store(2)
    world.until(lambda: world.node(2).state == "up", WAIT_S)
    for other in (0, 1, 3, 4):
        world.hold(other, 2)
    world.until(partial(is_barred, world, number(world, 2), 4), WAIT_S)
    assert not is_barred(world, number(world, 2), 2), "it has not read that"
    world.crash(2)
    world.held.clear()
    finishes(world, able=True)
    world.run(30)
    assert topology(world, 4).barred == {at: {number(world, 2)} for at in range(2)}
    assert opened(world)
    loss_accepted(world, 4)
    world.run(10)
    assert opened(world) == []
    world.start(2)
    world.until(partial(nobody_is_barred, world, 4), WAIT_S)
    world.run(5)
    assert opened(world) == []


def test_where_nobody_is_left_those_that_have_come_note_it() -> None:
    world, holders, asker = of_three()
    lost_in_turn(world, holders, asker)
    world.run(1)
    for at in holders:
        assert {(row.sources, row.needed) for row in world.node(at).losses.open(0)} == {(0, 2), (1, 2)}


def test_a_store_that_comes_later_does_not_note_anew_with_whom_the_dead_left_a_partition() -> None:
    world = World(6, replication=3, partitions=2, logged=True, reconcile=True)
    seats = topology(world).seats[0].old
    index = {number(world, at): at for at in range(6)}
    stays = index[seats[2]]
    asker = next(at for at in range(6) if number(world, at) not in seats)
    for each in seats[:2]:
        world.crash(index[each])
    world.run(5)
    for each in seats[:2]:
        asked(world, RemoveMember(each), asker)
    finish(world, asker)
    world.run(5)
    assert opened(world)
    loss_accepted(world, asker)
    world.run(10)
    assert opened(world) == []
    world.wipe(stays)
    world.start(stays)
    world.run(30)
    assert opened(world) == []
