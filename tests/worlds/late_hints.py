"""Hints that come too late, and what a node says of the hints that it keeps."""

from basestore.client.calls import Calls
from basestore.consistency import Level
from basestore.results.hints import NodeHints
from tests.worlds.world import World


def hints(world: World, at: int, *, replay: bool = False, late: bool = False) -> NodeHints:
    asked = Calls("quorum", 1.0).hints(replay, late)
    call = world.ask(at, asked.make)
    world.settle()
    assert call.answer is not None
    return asked.read(call.answer, world.names)


def keep_late(world: World, key: str = "k", value: str = "v") -> int:
    """A node keeps the only copies of a write, which come too late for its replicas: it was cut off for
    longer than they stay open. Returns the node."""
    keeper = world.outsider("k")
    for replica in range(4):
        if replica != keeper:
            world.part(keeper, replica)
    world.run(2)
    call = world.set(keeper, key, value, Level.ANY)
    world.run(1)
    assert call.receipt()
    world.run(20)
    return keeper


def rejoin(world: World, keeper: int) -> None:
    for replica in range(4):
        if replica != keeper:
            world.join(keeper, replica)
    world.run(4)
