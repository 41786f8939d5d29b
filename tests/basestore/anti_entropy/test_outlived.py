"""Outlived: an old copy is compared as it is only where all others are here, and too few are whole."""

from basestore.consistency import Level
from tests.worlds.world import World


def test_an_old_copy_takes_back_no_final_write_while_a_whole_replica_is_away() -> None:
    world = World(3, reconcile=True)
    world.run(5)
    world.part(0, 1)
    world.part(0, 2)
    world.run(3)
    world.put(0, "k", "w", Level.ONE, bucket="once")  # on n1 alone
    world.stop(0)
    old = world.copy_store(0)
    world.wipe(0)
    world.cut.clear()
    world.start(0)
    while world.node(0).state != "up":
        world.run(0.05)
    world.put(1, "k", "v", Level.ALL, bucket="once")
    world.part(0, 2)
    world.run(40)
    world.part(0, 1)
    world.part(2, 1)
    world.join(0, 2)
    world.run(20)  # n2 has not heard how far all is stable by now
    told = world.look(2, "k", Level.ONE, bucket="once")
    assert told.final
    assert told.value == b"v"
    world.crash(2)
    world.wipe(0)
    world.engines[0].apply(old)
    world.engines[0].sync()
    world.cut.clear()
    world.start(0)
    world.run(30)
    world.start(2)
    world.run(60)
    assert all(node is not None and node.state == "up" for node in world.nodes)
    assert world.look(2, "k", bucket="once").value == b"v"
