"""What is lost of writes that somebody rests on is told at once, and nothing is held against what is there.

Covers `Missing` in `results/loss.py`, and what a checkpoint notes for it.
"""

import pytest

from basestore.cli.data.checkpoint import Progress
from basestore.consistency import Level
from basestore.results.receipts import Receipt
from tests.worlds.following import loss_accepted, missing
from tests.worlds.world import World

KEYS = 20


def _written(world: World, level: Level = Level.QUORUM) -> Progress:
    progress = Progress()
    for at in range(KEYS):
        receipt = world.put(0, f"k{at}", "v", level)
        assert isinstance(receipt, Receipt)
        progress.note(receipt, 0)
    return progress


def _lose(world: World, *indices: int) -> None:
    for index in indices:
        world.wipe(index)
    for index in indices:
        world.start(index)
    world.run(30)
    assert {node.state for node in world.running} == {"up"}


def _world(count: int, replication: int) -> World:
    return World(count, replication=replication, reconcile=True)


@pytest.mark.parametrize(("count", "replication"), [(1, 1), (2, 2), (3, 1), (3, 3)])
def test_after_all_disks_were_lost_all_that_was_written_is_missing(count: int, replication: int) -> None:
    world = _world(count, replication)
    progress = _written(world)
    assert missing(world, progress.written) == ()
    _lose(world, *range(count))
    found = missing(world, progress.written)
    assert {obstacle.kind for obstacle in found} == {"lost"}
    assert {partition for obstacle in found for partition in obstacle.partitions} == {*progress.written}
    assert missing(world, _written(world).written) == (), "what is written since is there"


@pytest.mark.parametrize("accepted", [False, True])
@pytest.mark.parametrize("replication", [1, 3])
def test_a_loss_of_more_than_a_quorum_can_spare_is_told_accepted_or_not(
    replication: int, accepted: bool
) -> None:
    world = _world(3, replication)
    progress = _written(world)
    _lose(world, 1, 2)
    if accepted:
        assert loss_accepted(world).complete
    found = missing(world, progress.written)
    assert {name for obstacle in found for name in obstacle.nodes} == {"n2", "n3"}
    assert missing(world, _written(world).written) == ()


def test_a_disk_that_a_quorum_can_spare_costs_only_what_fewer_were_known_to_have() -> None:
    world = _world(3, 3)
    world.part(0, 1)
    world.part(0, 2)
    few = _written(world, Level.ONE)
    world.join(0, 1)
    world.join(0, 2)
    world.run(5)
    many = _written(world)
    _lose(world, 0)
    assert missing(world, many.written) == ()
    assert missing(world, few.written)


@pytest.mark.parametrize("replication", [1, 3])
def test_a_member_that_is_away_or_lags_is_no_loss(replication: int) -> None:
    world = World(3, replication=replication, hint_bytes_max=0)
    if replication == 3:
        world.part(0, 2)
    progress = _written(world)
    world.join(0, 2)
    world.run(2)
    assert missing(world, progress.written) == ()
    world.crash(2)
    world.run(2)
    assert missing(world, progress.written) == ()


def test_a_member_that_is_just_opening_is_waited_for() -> None:
    world = _world(1, 1)
    progress = _written(world)
    world.wipe(0)
    world.start(0)
    assert missing(world, progress.written)


@pytest.mark.parametrize("count", [2, 3])
def test_what_a_store_that_recovers_may_have_lost_is_not_taken_for_there(count: int) -> None:
    world = World(count, reconcile=True, timeout_ms_max=20_000)
    world.run(5)
    last = count - 1
    for other in range(last):
        world.part(last, other)
    progress = Progress()
    progress.note(world.put(last, "k", "v", Level.ONE), 0)
    world.wipe(last)
    world.cut.clear()
    world.start(last)
    world.run(1)
    assert world.node(last).state == "forgetful"
    assert [each.kind for each in missing(world, progress.written)] == ["recovering"]
    world.run(60)
    assert world.node(last).state == "up"
    assert "lost" in {each.kind for each in missing(world, progress.written)}
