"""Seats by hand: the step in which a node begins to use others, without the log that decides them."""

from collections.abc import Collection, Mapping
from typing import Any

from basestore.protocol.groups import ApplyGroup, ReadGroup
from basestore.protocol.replication import Apply, Hinted, Read, ReadRange
from basestore.repair.seats import Seats, Stage
from tests.worlds.world import World

OLD, NEW = (0, 1, 2), (0, 3, 4)
ASKED = Apply | ApplyGroup | Hinted | Read | ReadGroup | ReadRange  # of a replica


def still(since: int, *members: int) -> Seats:
    return Seats.still(members, since)


def fill(since: int, old: tuple[int, ...], new: tuple[int, ...]) -> Seats:
    return Seats(since, Stage.FILL, old, new)


def joint(since: int, old: tuple[int, ...], new: tuple[int, ...]) -> Seats:
    return Seats(since, Stage.JOINT, old, new)


def adopt(
    world: World, seats: Mapping[int, Seats], *indices: int, dropped_since: int = 0,
    dead: Collection[int] = (), unsure: Collection[int] = (),
) -> None:  # fmt: skip
    """These nodes begin to use these seats, or all that run."""
    for index in indices or range(len(world.nodes)):
        if world.nodes[index] is not None:
            world.node(index).recovery.adopt(
                seats, dropped_since, world.now(index), dead=frozenset(dead), unsure=unsure
            )


def found(world: World) -> None:
    """The cluster has a topology from now on: everything stays where it is."""
    adopt(world, {each: Seats.still(members) for each, members in enumerate(world.placement.replicas)})


def moving(old: tuple[int, ...] = OLD, count: int = 5, partitions: int = 1, **options: Any) -> World:
    """A cluster that goes by a topology, in which the first partition, at first the only one, is held by
    `old`."""
    world = World(count, replication=len(old), partitions=partitions, logged=True, **options)
    world.run(1.0)  # the log is at rest
    world.adopt({0: still(100, *old)}, 100)
    make_fit(world)
    return world


def make_fit(world: World) -> None:
    """All that is held is held as it must be."""
    for node in world.running:
        node.replica.summaries.unfit.clear()
    world.settle()
    world.log.clear()


def enter(
    world: World, stage: str, old: tuple[int, ...] = OLD, new: tuple[int, ...] = NEW, partition: int = 0
) -> None:
    """All are in this stage of a change, and those who come hold what they must."""
    world.adopt({partition: fill(101, old, new)}, 101)
    if stage != "fill":
        world.adopt({partition: joint(102, old, new)}, 102)
    if stage == "still":
        world.adopt({partition: still(103, *new)}, 103)
    make_fit(world)


def silence(world: World, *members: int) -> None:
    """What these are asked, other than by themselves, never arrives."""
    world.lose = lambda sent: sent.target in members and isinstance(sent.message, ASKED)


def hear_all(world: World) -> None:
    """Nothing is lost any more."""
    world.lose = lambda sent: False
