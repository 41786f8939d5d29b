"""A delete that was proven and purged stays one, whatever state all stores are in: as long as one disk knows
that it lacks the key because it was purged.

Covers what stores in doubt tell each other of that (`Summary.complete`), and what they drop for it.
"""

from dataclasses import replace

import pytest

from basestore.consistency import Level
from basestore.repair.digest_tree import STAMP_MAX, leaf_of
from basestore.results.receipts import ReadResult
from tests.worlds.following import converged
from tests.worlds.world import World

Disk = dict[bytes, bytes]


def deleted(world: World) -> dict[int, Disk]:
    """A key is written, backups are made, it is deleted, and no disk holds anything of it any more."""
    world.run(2)
    world.put(0, "key", "value", Level.ALL)
    world.run(3)
    copies = {index: world.copy_store(index) for index in world.replicas("key")}
    world.delete(0, "key", Level.ALL)
    world.run(8)
    assert converged(world).proven
    assert [world.stored(index, "key") for index in copies] == [None] * len(copies)
    return copies


def in_doubt(world: World, *indices: int) -> None:
    """These nodes are stopped, and will be told that their stores may be old copies."""
    for index in indices:
        world.stop(index)
        world.configs[index] = replace(world.configs[index], forgetful=True)


def start(world: World, *indices: int) -> None:
    for index in indices:
        world.start(index)


def found(world: World) -> ReadResult:
    call = world.get(0, "key")
    world.run(2)
    return call.read()


LAYOUTS = [(3, 3), (2, 2), (3, 2)]


@pytest.mark.parametrize(("count", "replication"), LAYOUTS)
@pytest.mark.parametrize("durability", ["sync", "interval"])
def test_it_stays_where_all_stores_are_in_doubt_and_one_is_older(
    count: int, replication: int, durability: str
) -> None:
    world = World(count, replication=replication, reconcile=True, durability=durability)  # type: ignore[arg-type]
    copies = deleted(world)
    if durability == "interval":
        for index in range(count):
            world.crash(index)
    else:
        in_doubt(world, *range(count))
    old = max(copies)
    world.restore(old, copies[old])
    start(world, *range(count))
    world.run(20)
    assert [node.state for node in world.running] == ["up"] * count
    assert not found(world).found
    assert world.values("key") == [None] * count


@pytest.mark.parametrize("first", [(0, 2), (1, 2), (0, 1)])
def test_it_stays_where_one_disk_is_new_and_one_is_older_whoever_meets_first(first: tuple[int, int]) -> None:
    world = World(3, reconcile=True, partitions=1)
    copies = deleted(world)
    in_doubt(world, 0, 1, 2)
    world.wipe(0)
    world.restore(2, copies[2])
    world.cut |= {frozenset(pair) for pair in ((0, 1), (0, 2), (1, 2)) if pair != first}
    start(world, 0, 1, 2)
    world.run(4)
    for pair in list(world.cut):
        world.join(*pair)
        world.run(2)
    world.run(10)
    assert [node.state for node in world.running] == ["up"] * 3
    assert world.values("key") == [None] * 3


def test_what_a_new_disk_has_heard_of_it_outlives_who_told_it() -> None:
    world = World(3, reconcile=True, partitions=1)
    copies = deleted(world)
    in_doubt(world, 0, 1, 2)
    world.wipe(0)
    world.restore(2, copies[2])
    start(world, 0, 1)
    world.run(4)
    told = world.node(1).summaries.of[0].complete
    assert 0 < told <= world.node(0).summaries.of[0].complete < STAMP_MAX
    world.wipe(1)
    start(world, 2, 1)
    world.run(15)
    assert [node.state for node in world.running] == ["up"] * 3
    assert world.values("key") == [None] * 3


def test_it_comes_back_only_where_no_disk_knows_of_it_any_more_and_then_that_is_said() -> None:
    world = World(2, reconcile=True)
    copies = deleted(world)
    in_doubt(world, 0, 1)
    world.wipe(0)
    world.restore(1, copies[1])
    start(world, 0, 1)
    world.run(20)
    assert found(world).found
    assert {loss.sources for node in world.running for loss in node.losses.all_open} == {0}
    assert not converged(world, timeout_s=5).proven


def test_a_store_in_doubt_keeps_a_tombstone_though_it_hears_that_it_is_stable() -> None:
    """It is all that keeps an older value from coming back, should nobody be left who has purged it."""
    world = World(2, reconcile=True, partitions=1)
    world.run(2)
    world.put(0, "key", "value", Level.ALL)
    world.run(1)
    copy = world.copy_store(1)
    call = world.delete(0, "key", Level.ALL)
    world.settle()
    version = call.receipt().version
    assert version is not None
    in_doubt(world, 0, 1)
    world.restore(1, copy)
    world.start(0)
    world.node(0).certificates.adopt(0, version.stamp)  # a third was heard, and is gone again
    world.run(1)
    tombstone = world.stored(0, "key")
    assert tombstone is not None
    assert tombstone.tombstone
    world.start(1)
    world.run(15)
    assert [node.state for node in world.running] == ["up"] * 2
    assert not found(world).found


def test_what_a_disk_has_lost_is_not_taken_for_purged() -> None:
    """The newest of two stores in doubt lacks a row that its sums still count: so it was not purged."""
    world = World(2, reconcile=True, partitions=1)
    deleted(world)
    world.put(0, "kept", "value", Level.ALL)
    world.run(3)
    copy = world.copy_store(1)
    leaf = leaf_of(world.row("kept"))  # what lies in the same leaf has the two compare row by row
    beside = next(name for name in map(str, range(1 << 20)) if leaf_of(world.row(name)) == leaf)
    world.put(0, beside, "value", Level.ALL)
    world.run(8)
    in_doubt(world, 0, 1)
    world.restore(1, copy)
    world.engines[0].apply({b"r" + world.row("kept"): None})
    world.engines[0].sync()
    start(world, 0, 1)
    world.run(25)
    assert [node.state for node in world.running] == ["up"] * 2
    assert world.values("kept") == [b"value"] * 2


def test_an_old_copy_that_is_emptied_says_nothing_of_what_was_purged() -> None:
    """It was given up for another store, so what it lacks now it has just thrown away."""
    world = World(3, reconcile=True, partitions=1)
    copies = deleted(world)
    world.wipe(2)
    world.start(2)
    world.run(6)
    world.restore(2, copies[2])
    world.start(2)
    while not world.node(2).identity.outlived:
        assert world.turn()
    assert world.node(2).summaries.of[0].complete > 0
    world.isolate(2)
    world.run(1)
    assert world.node(2).summaries.of[0].complete == 0
    world.rejoin(2)
    world.run(10)
    assert [node.state for node in world.running] == ["up"] * 3
