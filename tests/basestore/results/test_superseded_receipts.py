"""Superseded receipts: what beat a write is proven to be there only if it cannot have gone with a disk."""

from basestore.consistency import Level
from basestore.results.convergence import GONE
from tests.worlds.following import converged
from tests.worlds.world import World


def superseded(world: World) -> None:
    world.plant(1, "k", "older", world.stamp(1000))
    world.plant(0, "k", "newest", world.stamp(1500))


def test_what_beat_a_write_at_one_replica_only_may_have_gone_with_its_disk() -> None:
    world = World(3, reconcile=True)
    world.run(5)
    superseded(world)
    call = world.set(2, "k", "v")
    world.settle()
    receipt = call.receipt()
    assert receipt.superseded_by is not None
    world.wipe(0)
    world.run(3)
    world.start(0)
    world.run(60)
    found = converged(world, receipt=receipt)
    assert not found.proven
    assert [obstacle.text for obstacle in found.obstacles] == [GONE]


def test_where_no_disk_was_lost_it_is_proven() -> None:
    world = World(3, reconcile=True)
    world.run(5)
    superseded(world)
    call = world.set(2, "k", "v")
    world.run(60)
    assert call.receipt().superseded_by is not None
    assert converged(world, receipt=call.receipt()).proven
    assert world.values("k") == [b"newest"] * 3


def test_what_a_quorum_was_found_to_hold_outlives_a_disk_that_is_replaced() -> None:
    world = World(3, reconcile=True)
    won = world.put(0, "k", "v", Level.ALL, bucket="once")
    lost = world.put(1, "k", "w", bucket="once")
    world.run(30)
    again = world.put(1, "k", "w", bucket="once")
    world.wipe(2)
    world.start(2)
    world.run(40)
    assert world.node(2).state == "up"
    assert [converged(world, receipt=each).proven for each in (won, lost, again)] == [True] * 3
