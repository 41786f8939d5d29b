"""As it is: what a receipt and a session of before are told once an operator has taken stores as they are.

Covers `Recovery.take_as_is`.
"""

import pytest

from basestore.consistency import Level
from basestore.errors import VersionLost
from basestore.results.convergence import GONE
from basestore.topology.changes import RemoveMember, SetReplication
from tests.worlds.following import converged
from tests.worlds.moving import asked, finish
from tests.worlds.moving import number as number_of
from tests.worlds.world import World


@pytest.mark.parametrize(("count", "replication"), [(1, 1), (2, 2), (3, 1), (3, 3)])
def test_what_was_written_after_the_backup_that_all_were_restored_from_is_not_proven(
    count: int, replication: int
) -> None:
    world = World(count, replication=replication, reconcile=True)
    old = world.put(0, "old", "v", Level.ALL)
    world.run(30)
    everyone = range(count)
    for index in everyone:
        world.stop(index)
    copies = [world.copy_store(index) for index in everyone]
    for index in everyone:
        world.start(index)
    world.run(5)
    receipt = world.put(0, "k", "v", Level.ALL)
    world.run(30)
    assert converged(world, receipt=receipt).proven
    for index in everyone:
        world.restore(index, copies[index], in_place=False)
    for index in everyone:
        world.start(index)
    world.run(20)
    world.take_as_is(*everyone)
    world.run(60)
    assert all(node is not None and node.state == "up" for node in world.nodes)
    world.put(0, "other", "v", Level.ALL)
    world.run(30)
    assert converged(world).proven, "no loss is open"
    told = [obstacle.text for obstacle in converged(world, receipt=receipt).obstacles]
    assert told == [GONE]
    call = world.get(0, "k", floor=receipt.version)
    world.run(2)
    with pytest.raises(VersionLost):
        call.read()
    call = world.get(0, "old", floor=old.version)
    world.run(2)
    assert call.read().value == b"v"


def test_a_store_that_is_taken_as_it_is_beside_whole_ones_costs_no_proof() -> None:
    world = World(3, reconcile=True)
    receipt = world.put(0, "k", "v")
    world.run(30)
    world.stop(2)
    world.restore(2, world.copy_store(2), in_place=False)
    world.start(2)
    world.run(1)
    world.take_as_is(2)
    world.run(30)
    assert world.node(2).state == "up"
    assert converged(world, receipt=receipt).proven


@pytest.mark.parametrize(("count", "replication"), [(2, 1), (2, 2)])
def test_who_alone_is_left_is_taken_as_it_is_and_does_without_the_other(count: int, replication: int) -> None:
    world = World(count, replication=replication, partitions=4, logged=True, reconcile=True)
    for number in range(8):
        world.put(0, f"k{number}", "v", Level.ALL)
    world.run(3)
    world.crash(1)
    world.run(1)
    world.restart(0)
    world.run(10)
    assert world.node(0).state == "starting"
    assert "--as-is" in world.node(0).reason
    assert "does not vote itself" in world.node(0).membership.leader.absence("", world.now(0))
    world.take_as_is(0)
    world.run(5)
    assert world.node(0).state == "up"
    if replication > 1:
        asked(world, SetReplication(1))
    asked(world, RemoveMember(number_of(world, 1)))
    finish(world)
    world.put(0, "k0", "w", Level.ALL)
    assert world.look(0, "k0").value == b"w"
    world.restart(0)
    world.run(3)
    assert world.node(0).state == "up", "nobody is left that it waits for"


def test_no_word_is_needed_where_another_is_whole() -> None:
    world = World(3, reconcile=True)
    world.put(0, "k", "v")
    world.run(5)
    world.stop(0)
    world.part(0, 1)
    world.part(0, 2)
    world.start(0)
    world.run(3)
    assert world.node(0).recovery.takeable
    world.join(0, 1)
    world.run(0.5)
    assert not world.node(0).recovery.takeable
    assert world.state(0).facts["copied"] == ""


def test_what_one_lacks_that_was_rolled_back_and_taken_is_not_proven() -> None:
    world = World(2, replication=1, partitions=4, logged=True, reconcile=True)
    old, new, *_ = [key for key in map(str, range(50)) if world.replicas(key) == (0,)]
    world.put(0, old, "v", Level.ALL)
    world.run(3)
    copy = world.copy_store(0)
    receipt = world.put(0, new, "v", Level.ALL)
    world.run(3)
    world.crash(1)
    world.restore(0, copy)  # of the blocks of a disk: nobody is there who knows
    world.start(0)
    world.run(10)
    world.take_as_is(0)
    world.run(5)
    asked(world, RemoveMember(number_of(world, 1)))
    finish(world)
    world.run(10)
    assert world.look(0, new).value is None
    assert not converged(world, key=new, receipt=receipt).proven, "it was acknowledged at ALL"


def test_who_waits_for_a_word_on_another_hears_that_it_was_given() -> None:
    """Two lie elsewhere before they have recovered: so each waits for the other, taken as it is or not."""
    world = World(3, reconcile=True)
    world.put(0, "k", "v", Level.ALL)
    world.run(5)
    copies = [world.copy_store(index) for index in (0, 1)]
    world.put(0, "k", "w", Level.ALL)
    world.run(5)
    for index, copy in enumerate(copies):
        world.part(index, 1 - index)
        world.restore(index, copy)
        world.start(index)
        world.run(0.5)
        assert "rolled back" in world.node(index).reason
        world.stop(index)
        world.remount(index)
    for index in (0, 1):
        world.hold(2, index)  # by whose answer they would know
        world.start(index)
    world.join(0, 1)
    world.run(3)
    assert [node.state for node in world.running] == ["forgetful", "forgetful", "up"]
    assert all(world.node(index).recovery.takeable for index in (0, 1))
    world.take_as_is(0, 1)
    world.run(0.1)
    for index in (0, 1):
        world.release(2, index)
    world.run(30)
    assert [node.state for node in world.running] == ["up"] * 3
    assert world.look(0, "k").value == b"w"
