"""As it is: what a receipt and a session of before are told once an operator has taken stores as they are.

Covers `Recovery.take_as_is`.
"""

import pytest

from basestore.consistency import Level
from basestore.errors import VersionLost
from basestore.results.convergence import GONE
from tests.worlds.following import converged
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
