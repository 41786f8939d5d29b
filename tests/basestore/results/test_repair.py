"""Repairs: at an operator's word all replicas compare what they hold, and it is said when they have."""

import pytest

from basestore.client.arguments import scope_of
from basestore.results.repair import Repairing
from basestore.storage.keyspace import DATA
from tests.worlds.following import follow, names, repaired
from tests.worlds.world import World


def missed(world: World, keys: int) -> None:
    """n3 lacks some writes that nobody keeps a hint of."""
    world.part(0, 2)
    world.part(1, 2)
    for at in range(keys):
        world.put(0, f"k{at}", "v")
    world.join(0, 2)
    world.join(1, 2)
    world.run(1)


def test_all_pairs_are_compared_since_the_call() -> None:
    world = World(3)  # the rounds are off: nothing else compares
    done = repaired(world)
    assert done.complete
    assert not done.obstacles
    assert (done.pairs, done.done) == (12, 12)
    assert done.did["exchanges"] >= 12  # an exchange that was in another's way is opened again


def test_what_a_replica_lacks_is_brought_and_counted() -> None:
    world = World(3, hint_bytes_max=0)
    missed(world, 10)
    assert world.stored(2, "k0") is None
    done = repaired(world)
    assert done.complete
    assert all(None not in world.values(f"k{at}") for at in range(10))
    assert done.did["records_taken"] >= 10


def test_one_partition_alone() -> None:
    world = World(3)
    done = repaired(world, partition=2)
    assert (done.complete, done.pairs, done.did["exchanges"]) == (True, 3, 3)


def test_a_cluster_larger_than_its_replication() -> None:
    world = World(7, replication=3, partitions=16)
    done = repaired(world, at=5)
    assert (done.complete, done.pairs, done.done) == (True, 48, 48)


def test_a_full_repair_finds_what_a_disk_has_lost() -> None:
    world = World(3)
    for at in range(20):
        world.put(0, f"k{at}", "v")
    assert repaired(world).complete
    world.engines[1].apply({DATA + world.row("k7"): None})
    world.engines[1].sync()
    world.node(1).replica.marks.clear()
    assert repaired(world).complete
    assert world.stored(1, "k7") is None  # its sums say that it is there
    done = repaired(world, full=True)
    assert done.complete
    assert done.did["leaves_corrected"] == 1
    assert world.values("k7") == [b"v"] * 3


def test_a_full_repair_heals_what_is_damaged() -> None:
    world = World(3)
    world.put(0, "k", "v")
    world.run(1)
    key = DATA + world.row("k")
    stored = world.engines[2].get(key)
    assert stored is not None
    world.engines[2].apply({key: stored[:-9] + bytes((stored[-9] ^ 1,)) + stored[-8:]})
    world.engines[2].sync()
    done = repaired(world, full=True)
    assert done.complete
    assert done.did["records_healed"] == 1
    assert world.values("k") == [b"v"] * 3


def test_a_full_repair_of_a_single_replica_is_its_scrub() -> None:
    world = World(1)
    world.put(0, "k", "v")
    done = repaired(world, full=True)
    assert (done.complete, done.pairs) == (True, 0)


def test_who_is_down_is_named_and_the_others_are_compared() -> None:
    world = World(3)
    world.crash(2)
    world.run(3)
    done = repaired(world, timeout_s=5.0)
    assert not done
    assert (done.pairs, done.done) == (12, 4)
    (obstacle,) = done.obstacles
    assert (obstacle.kind, obstacle.nodes) == ("down", ("n3",))


def test_a_pair_that_cannot_talk_is_named() -> None:
    world = World(3)
    world.part(0, 1)
    done = repaired(world, at=2, timeout_s=5.0)
    (obstacle,) = done.obstacles
    assert (obstacle.kind, obstacle.nodes) == ("not compared", ("n1", "n2"))


def test_a_store_in_memory_can_be_repaired_too() -> None:
    assert repaired(World(3, durability="memory")).complete


def test_a_node_that_starts_in_the_middle_is_waited_for() -> None:
    world = World(3)
    world.crash(2)
    world.run(3)
    repairing = Repairing(scope_of("default", None), False, 30.0, world.monotonic)
    for _ in range(3):
        call, sent_s = world.ask(0, repairing.request), world.monotonic
        while not call.done:
            world.run(0.05)
        assert call.answer is not None
        repairing.hear(call.answer, names(world), sent_s)
        world.run(repairing.pause_s)
        assert repairing.result(world.monotonic) is None
    assert repairing.progress == (4, 12)
    world.start(2)
    done = follow(world, repairing)
    assert (done.complete, done.pairs, done.done) == (True, 12, 12)


@pytest.mark.parametrize(("count", "replication"), [(1, 1), (3, 1)])
def test_where_there_is_nobody_to_compare_with_that_is_said_at_once(count: int, replication: int) -> None:
    world = World(count, replication=replication)
    world.run(2)
    done = repaired(world)
    assert not done.complete
    assert (done.pairs, done.done) == (0, 0)
    assert done.waited_s < 1
    assert {each.kind for each in done.obstacles} == {"alone"}
    assert repaired(world, full=True).complete


@pytest.mark.parametrize(("count", "replication"), [(1, 1), (3, 1), (2, 2), (3, 3)])
def test_a_record_that_is_damaged_at_all_its_replicas_is_not_repaired(count: int, replication: int) -> None:
    world = World(count, replication=replication, reconcile=True)
    world.run(2)
    world.put(0, "key", "v")
    world.run(8)
    for replica in world.replicas("key"):
        world.spoil(replica, "key")
    done = repaired(world, full=True, timeout_s=20)
    assert not done.complete
    assert "damaged" in {each.kind for each in done.obstacles}


@pytest.mark.parametrize(("count", "replication"), [(1, 1), (3, 1), (2, 2), (3, 3)])
def test_stores_in_doubt_have_not_repaired_each_other(count: int, replication: int) -> None:
    world = World(count, replication=replication, reconcile=True, timeout_ms_max=10_000)
    world.run(2)
    world.put(0, "key", "v")
    world.run(20)
    for index in range(count):
        world.stop(index)
        world.move(index)
    for index in range(count):
        world.start(index)
    world.run(1)
    assert {node.state for node in world.running} == {"forgetful"}
    for full in (False, True):
        done = repaired(world, full=full, timeout_s=3)
        assert not done.complete or {node.state for node in world.running} == {"up"}
