"""Restored twice: a backup is put back once more, before anybody has said a word of the first time.

Covers `Maintenance`'s emptying of old copies: it waits for somebody who is known to hold more.
"""

import pytest

from basestore.consistency import Level
from tests.worlds.world import World


@pytest.mark.parametrize("times", [1, 2])
def test_the_newest_backup_is_kept_however_often_it_is_put_back(times: int) -> None:
    world = World(3, reconcile=True)
    world.put(0, "old", "v", Level.ALL)
    world.run(3)
    world.stop(1)
    older = world.copy_store(1)
    world.start(1)
    world.run(3)
    world.put(0, "k", "v", Level.ALL)
    world.run(10)
    world.stop(0)
    newest = world.copy_store(0)
    world.wipe(2)
    world.restore(1, older, in_place=False)
    world.start(1)
    world.start(2)
    for _ in range(times):
        if world.nodes[0] is not None:
            world.stop(0)
        world.restore(0, newest, in_place=False)
        world.start(0)
        world.run(8)
    world.take_as_is(0)
    world.run(40)
    assert all(node is not None and node.state == "up" for node in world.nodes)
    assert world.values("k") == [b"v"] * 3


def test_a_purged_delete_stays_so_where_the_backup_that_knows_of_it_is_put_back_twice() -> None:
    world = World(3, reconcile=True)
    world.put(0, "k", "v", Level.ALL)
    world.run(3)
    older = world.copy_store(1)
    call = world.delete(0, "k", Level.ALL)
    world.run(60)
    assert call.receipt()
    assert all(world.stored(index, "k") is None for index in range(3)), "purged"
    knowing = world.copy_store(0)
    world.wipe(2)
    world.restore(1, older, in_place=False)
    world.restore(0, knowing, in_place=False)
    for index in range(3):
        world.start(index)
    world.run(5)
    world.restore(0, knowing, in_place=False)
    world.start(0)
    world.run(40)
    assert not any(world.values("k"))


def test_the_original_keeps_what_it_has_though_a_copy_of_it_was_tried() -> None:
    world = World(3, reconcile=True)
    world.put(0, "old", "v", Level.ALL)
    world.run(3)
    world.stop(2)
    world.put(1, "k", "v")  # by n1 and n2
    world.run(1)
    world.stop(0)
    original, places = world.copy_store(0), world.places[0]
    world.crash(1)  # n2 is gone
    world.start(2)
    world.restore(0, original, in_place=False)
    world.start(0)
    world.run(10)
    world.stop(0)
    world.restore(0, original)
    world.places[0] = places
    world.start(0)
    world.run(10)
    assert world.values("k")[0] == b"v"
    world.wipe(1)  # it is replaced
    world.start(1)
    world.run(40)
    assert all(node is not None and node.state == "up" for node in world.nodes)
    assert world.values("k") == [b"v"] * 3
