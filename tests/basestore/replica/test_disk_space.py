"""Disks that become full: what is refused, by whom it is said, and what goes on."""

from dataclasses import replace

import pytest

from basestore.consistency import Level
from basestore.errors import Overloaded, ReplicaFailure
from basestore.replica.disk_space import RESERVE_BYTES_MAX, DiskSpace
from tests.worlds.world import World

MIB = 1 << 20
SIZE = 400 * MIB  # a twentieth, its reserve, is 20 MiB
ROOMY, SHORT, CRAMPED = 20 * MIB, 20 * MIB - 1, 10 * MIB - 1


def tell(world: World, free: int, *nodes: int) -> None:
    for at in nodes or range(len(world.nodes)):
        world.node(at).disk_space.tell(free, SIZE)


def remove(world: World, key: str) -> None:
    """At all replicas."""
    call = world.delete(0, key, Level.ALL)
    world.settle()
    call.receipt()


@pytest.mark.parametrize("nodes", [1, 2, 3])
def test_below_the_reserve_values_are_refused_definitely_and_the_disk_is_named(nodes: int) -> None:
    world = World(nodes)
    world.put(0, "k", "old", Level.ALL)
    tell(world, SHORT)
    with pytest.raises(
        Overloaded, match=r"the disk of n1 .* is nearly full: 20479 KiB of 409600 KiB"
    ) as told:
        world.put(0, "k", "new", Level.ONE)
    assert told.value.definite
    assert world.look(0, "k", Level.ALL).value == b"old"
    scan = world.scan(0)
    world.settle()
    assert [item.key for item in scan.page()[0]] == [b"k"]
    tell(world, ROOMY)
    world.put(0, "k", "new", Level.ALL)


def test_a_delete_is_taken_from_the_reserve_down_to_its_half() -> None:
    world = World(3)
    world.put(0, "k", "v", Level.ALL)
    world.put(0, "l", "v", Level.ALL)
    tell(world, SHORT)
    remove(world, "k")
    assert not world.look(0, "k", Level.ALL).found
    tell(world, CRAMPED)
    with pytest.raises(Overloaded, match="nearly full"):
        remove(world, "l")
    assert world.look(0, "l", Level.ALL).found


def test_a_replica_that_is_short_is_named_and_the_others_make_a_quorum() -> None:
    world = World(3)
    tell(world, SHORT, 2)
    world.put(0, "k", "v")
    with pytest.raises(ReplicaFailure, match="the disk of n3"):
        world.put(0, "k", "v", Level.ALL)


def test_a_read_still_mends_a_replica_that_is_short_and_leaves_one_that_is_cramped() -> None:
    world = World(3)
    world.plant(0, "k", "v", world.stamp())
    tell(world, SHORT, 1)
    assert world.look(0, "k", Level.ALL).value == b"v"
    assert world.stored(1, "k") is not None
    world.plant(0, "l", "v", world.stamp())
    tell(world, CRAMPED, 1)
    assert world.look(0, "l").value == b"v"  # n3 was mended instead
    assert world.stored(1, "l") is None


def test_the_reserve_is_a_share_of_a_small_disk_and_at_most_a_gibibyte_of_a_large_one() -> None:
    node = World(1).node(0)
    node.disk_space.tell(SIZE, SIZE)
    assert node.disk_space.reserve == SIZE // 20
    node.disk_space.tell(1 << 40, 1 << 42)
    assert node.disk_space.reserve == RESERVE_BYTES_MAX


def test_the_reserve_is_what_the_configuration_says() -> None:
    world = World(1)
    node = world.node(0)
    space = DiskSpace(replace(node.config, disk_reserve_bytes=5), node.group_commit)
    space.tell(5, SIZE)
    world.put(0, "k", "v")
    space.tell(4, SIZE)
    with pytest.raises(Overloaded, match="0 KiB are kept in reserve"):
        world.put(0, "k", "v")


def test_status_and_metrics_tell_how_much_room_there_is() -> None:
    world = World(3)
    assert "disk free bytes" not in world.state(0).facts  # nothing was told
    tell(world, SHORT)
    facts = world.state(0).facts
    assert (facts["disk free bytes"], facts["disk reserve bytes"]) == (str(SHORT), str(20 * MIB))
    assert "nearly full" in facts["disk"]
    assert world.node(0).report.gauges().disk.free == SHORT
    tell(world, ROOMY)
    assert world.state(0).facts["disk"] == ""
