"""Word: a store that waits for what an operator says of it says so."""

import pytest

from tests.worlds.world import World


@pytest.mark.parametrize(("count", "replication", "dead"), [(3, 2, False), (5, 3, False), (5, 3, True)])
def test_it_says_so_though_members_are_up_that_have_no_part_in_what_it_waits_for(
    count: int, replication: int, dead: bool
) -> None:
    world = World(count, replication=replication, reconcile=True, partitions=16)
    world.put(0, "k", "v")
    world.run(5)
    replicas = next(each for each in world.placement.replicas if 0 in each)
    gone = [index for index in replicas if index]
    world.stop(0)
    world.move(0)
    for index in gone:
        world.wipe(index)
    world.run(3)
    for index in [0] if dead else [0, *gone]:
        world.start(index)
    world.run(60)
    assert world.node(0).state == "forgetful"
    assert "--as-is" in world.node(0).reason


@pytest.mark.parametrize("met", [False, True])
def test_it_says_so_though_it_once_saw_enough_others(met: bool) -> None:
    world = World(3, reconcile=True)
    world.put(0, "k", "v")
    world.run(5)
    world.stop(0)
    world.move(0)
    if not met:
        world.crash(2)
    world.start(0)
    if met:
        world.run(0.5)
        world.crash(2)
    world.run(40)
    assert world.node(0).state == "forgetful"
    assert "--as-is" in world.node(0).reason
