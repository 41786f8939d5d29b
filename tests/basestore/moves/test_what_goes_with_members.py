"""What goes with a member that is removed, or has gone before there were fewer replicas: it is told, and
nothing is taken to be there that may be gone. Covers `left_of` of `repair/moving.py`, and `may_lack`."""

import pytest

from basestore.consistency import Level
from basestore.errors import RequestFailed
from basestore.results.receipts import Receipt
from basestore.topology.changes import RemoveMember, SetReplication
from tests.worlds.following import converged
from tests.worlds.moving import asked, finish, number
from tests.worlds.world import World


def alone(world: World, at: int, key: str) -> Receipt:
    """A write that this replica takes, and tells nobody of."""
    for other in range(len(world.nodes)):
        if other != at:
            world.part(at, other)
    call = world.set(at, key, "v", Level.ONE)
    world.settle()
    receipt = call.receipt()
    assert receipt.known_at == 1
    return receipt


def without_one() -> tuple[World, str, Receipt, Receipt]:
    """Of four a member was removed, who alone had taken the key's second write; and the receipts of both."""
    world = World(4, partitions=8, logged=True, reconcile=True)
    key = next(key for key in map(str, range(100)) if 3 in world.replicas(key))
    first = world.put(0, key, "at first")
    world.run(15.0)
    second = alone(world, 3, key)
    world.crash(3)
    world.run(5.0)
    asked(world, RemoveMember(number(world, 3)))
    finish(world)
    assert world.look(0, key).value == b"at first"
    return world, key, first, second


def test_what_the_dead_alone_had_is_not_proven_to_be_anywhere() -> None:
    world, key, first, second = without_one()
    found = converged(world, key=key, receipt=second)
    assert not found.proven
    assert {obstacle.kind for obstacle in found.obstacles} == {"lost"}
    assert converged(world, key=key, receipt=first).proven
    assert converged(world).proven  # nobody need accept what cost no quorum anything


def test_a_session_that_has_seen_it_is_told_so() -> None:
    world, key, _, second = without_one()
    same = (each for each in map(str, range(100)) if world.row(each)[:2] == world.row(key)[:2])
    other = next(each for each in same if each != key)  # of which nothing is held
    world.run(15.0)  # all that there is is stable by now, and nothing is there: as if it had been purged
    call = world.get(0, other, floor=second.version)
    world.run(1.5)
    with pytest.raises(RequestFailed):
        call.read()


def test_what_was_lost_with_a_store_is_not_there_for_fewer_replicas() -> None:
    world = World(3, partitions=4, logged=True, reconcile=True)
    world.run(3.0)
    receipt = alone(world, 2, "k")
    world.wipe(2)
    world.cut.clear()
    world.start(2)
    world.run(10.0)
    asked(world, SetReplication(1))
    finish(world)
    assert world.look(0, "k").value is None
    assert not converged(world, key="k", receipt=receipt).proven


@pytest.mark.parametrize("replicas", [1, 3])
def test_what_a_quorum_acknowledged_outlives_a_store_and_a_change_of_replicas(replicas: int) -> None:
    world = World(3, replication=4 - replicas, partitions=4, logged=True, reconcile=True)
    receipt = world.put(0, "k", "v")
    asked(world, SetReplication(replicas))
    finish(world)
    if replicas > 1:
        world.wipe(2)
        world.start(2)
        world.run(10.0)
    assert world.look(0, "k").value == b"v"
    assert converged(world, key="k", receipt=receipt).proven
