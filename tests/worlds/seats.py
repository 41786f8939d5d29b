"""Seats by hand: the step in which a node begins to use others, without the log that decides them."""

from collections.abc import Collection, Mapping

from basestore.repair.seats import Seats, Stage
from tests.worlds.world import World


def still(since: int, *members: int) -> Seats:
    return Seats.still(members, since)


def fill(since: int, old: tuple[int, ...], new: tuple[int, ...]) -> Seats:
    return Seats(since, Stage.FILL, old, new)


def joint(since: int, old: tuple[int, ...], new: tuple[int, ...]) -> Seats:
    return Seats(since, Stage.JOINT, old, new)


def adopt(
    world: World, seats: Mapping[int, Seats], *indices: int, dropped_since: int = 0,
    without: Mapping[int, Collection[int]] | None = None, skipped: bool = False,
) -> None:  # fmt: skip
    """These nodes begin to use these seats, or all that run."""
    for index in indices or range(len(world.nodes)):
        if world.nodes[index] is not None:
            world.node(index).recovery.adopt(
                seats, dropped_since, world.now(index), without=without, skipped=skipped
            )


def found(world: World) -> None:
    """The cluster has a topology from now on: everything stays where it is."""
    adopt(world, {each: Seats.still(members) for each, members in enumerate(world.placement.replicas)})
