"""A node at rest is ticked seldom; what needs a look every moment keeps it from resting."""

from basestore.cluster.peers import ASLEEP_S
from basestore.consistency import Level
from basestore.observe.rest import RESTING_TICK_S, TICK_S
from tests.worlds.world import World


def pause_s(world: World, at: int) -> float:
    """How long after a tick the next one is due."""
    node = world.node(at)
    node.tick(world.now(at))
    return node.rest.next_tick()[0] - world.now(at).monotonic


def rested(world: World) -> World:
    world.run(10)
    return world


def test_a_node_with_nothing_to_do_rests() -> None:
    world = rested(World(3))
    assert pause_s(world, 0) > RESTING_TICK_S - TICK_S


def test_one_whose_caller_waits_does_not() -> None:
    world = rested(World(3))
    world.hold(0, 1)
    world.hold(0, 2)
    world.set(0, "k", "v", Level.QUORUM)
    world.node(0).step(world.now(0))
    assert pause_s(world, 0) < 2 * TICK_S


def test_nor_does_one_that_holds_what_is_not_durable_yet_though_nobody_asked_it() -> None:
    world = rested(World(3))
    world.freeze(1)
    done = world.set(0, "k", "v", Level.QUORUM)
    world.settle()
    assert done.done
    assert not world.node(1).operations.count
    assert pause_s(world, 1) < 2 * TICK_S
    world.thaw(1)
    world.settle()
    assert pause_s(rested(world), 1) > RESTING_TICK_S - TICK_S


def test_a_node_at_rest_is_not_taken_for_one_that_was_paused() -> None:
    assert ASLEEP_S > 2 * RESTING_TICK_S
