"""Objections: who remembers more of a store than its copy holds says so, however late it is there.

Covers what is kept of the stores that a store is a copy of (`replica/identity.py`), on both sides.
"""

import pytest

from basestore.consistency import Level
from basestore.protocol.heartbeats import Remembered
from tests.worlds.world import World


def older() -> World:
    """Node 0 is given an old copy; only node 2, which is not there, knows more."""
    world = World(3)
    world.put(0, "k", "old", Level.ALL)
    world.run(1.5)
    copy = world.copy_store(0)
    world.crash(1)
    world.put(2, "k", "new")
    world.run(1.5)
    world.crash(2)
    world.restore(0, copy, in_place=False)
    return world


def objected(world: World) -> None:
    assert world.node(0).state == "forgetful"
    world.run(4)
    assert world.look(0, "k").value == b"new"


@pytest.mark.parametrize("moved", [False, True])
@pytest.mark.parametrize("taken", [False, True])
def test_who_remembers_more_may_object_after_restarts_and_further_copies_too(
    moved: bool, taken: bool
) -> None:
    world = older()
    world.start(0)
    world.start(1)
    world.settle()
    if taken:
        world.take_as_is(0)
    world.crash(0)
    if moved:
        world.move(0)
    world.start(0)
    world.settle()
    world.take_as_is(0)
    assert world.node(0).state == "up"
    world.start(2)
    world.settle()
    objected(world)


def test_an_objection_that_was_lost_is_said_again() -> None:
    world = older()
    world.start(0)
    world.start(1)
    world.settle()
    world.take_as_is(0)
    world.lose = lambda sent: isinstance(sent.message, Remembered) and sent.source == 2
    world.start(2)
    world.settle()
    assert world.node(0).state == "up"
    world.lose = lambda _: False
    world.unlink(0, 2)
    world.link(0, 2)
    world.settle()
    objected(world)
