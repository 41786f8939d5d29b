"""A delete that was proven and purged stays one, whatever state all stores are in: as long as one disk knows
that it lacks the key because it was purged.

Covers what stores in doubt tell each other of that (`Summary.complete`), and what they drop for it.
"""

from dataclasses import replace

import pytest

from basestore.consistency import Level
from basestore.repair.digest_tree import STAMP_MAX, leaf_of
from basestore.results.receipts import ReadResult
from basestore.topology.changes import SetReplication
from tests.worlds.following import converged
from tests.worlds.moving import asked
from tests.worlds.world import TICK_S, World

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


# --- lists of changes, of a store in doubt that has forgotten from whom it has what ---------------


def compare(world: World, *pairs: tuple[int, int]) -> None:
    for one, other in pairs:
        world.node(one).scheduler.wish(other, 0)
        world.run(0.3)


def purged_at_one(world: World, kind: str) -> tuple[int, int, int]:
    """The replicas: the first and the last know that what a key held is stable, and have purged it; the one
    in between has not heard of it."""
    one, other, last = world.replicas("key")
    world.put(0, "key", "value", Level.ALL)
    if kind == "tombstone":
        world.delete(0, "key", Level.ALL)
    else:
        world.set(0, "key", "value of a moment", Level.ALL, ttl_s=0.1)
    world.run(6)
    compare(world, (one, other), (one, last), (other, last), (one, other), (one, last))
    assert [world.stored(each, "key") is None for each in (one, other, last)] == [True, False, True]
    return one, other, last


@pytest.mark.parametrize("kind", ["tombstone", "expired"])
@pytest.mark.parametrize("comes", [False, True])
def test_what_is_purged_does_not_come_back_by_one_that_took_it_before(comes: bool, kind: str) -> None:
    world = World(4, replication=3, partitions=1, drift_ms_max=200, logged=comes)
    one, other, last = purged_at_one(world, kind)
    lacking = ({0, 1, 2, 3} - {one, other, last}).pop() if comes else last
    for each in {one, other, last} - {other, lacking}:
        world.part(each, lacking)
    if comes:
        asked(world, SetReplication(4), other)
    else:
        world.wipe(lacking)
        world.start(lacking)
    world.run(3)
    assert not world.node(lacking).certificates.counts(0)
    assert world.stored(lacking, "key") is not None
    world.restart(lacking)
    compare(world, (one, other))
    assert world.stored(other, "key") is None
    world.run(3)
    assert world.values("key") == [None] * 4
    world.cut.clear()
    for each in {one, other, last} - {other, lacking}:
        world.join(each, lacking)
    world.run(5)
    assert world.node(lacking).certificates.counts(0)
    assert world.values("key") == [None] * 4
    assert not any(node.metrics.counts["mismatches"] for node in world.running)


def test_an_old_value_does_not_come_back_to_a_store_that_is_whole_by_now() -> None:
    """One in doubt has taken it from another, which has learned meanwhile that it was purged. Either has been
    started anew since, and does not know any more what was said in that exchange."""
    world = World(5, replication=5, partitions=1, reconcile=True)
    copies = deleted(world)
    in_doubt(world, 3)
    world.restore(3, copies[3])
    world.wipe(4)
    world.cut |= {frozenset((doubtful, whole)) for doubtful in (3, 4) for whole in (0, 1, 2)}
    start(world, 3, 4)
    while world.stored(4, "key") is None:
        world.run(TICK_S)
    world.configs[3] = replace(world.configs[3], forgetful=False)
    world.part(3, 4)
    for doubtful in (3, 4):
        world.restart(doubtful)
    for whole in (0, 1, 2):
        world.join(3, whole)
    world.run(4)
    assert [node.state for node in world.running] == [*["up"] * 4, "forgetful"]
    assert world.values("key") == [None, None, None, None, b"value"]
    world.join(3, 4)
    world.run(4)
    assert world.values("key") == [None] * 5
    for whole in (0, 1, 2):
        world.join(4, whole)
    world.run(10)
    assert [node.state for node in world.running] == ["up"] * 5
    assert world.values("key") == [None] * 5
