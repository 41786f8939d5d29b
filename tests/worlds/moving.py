"""Moving: partitions that go from members to others in a world whose time moves by hand: what it holds at
first, and when all is as it is planned."""

from collections import Counter

from basestore.consistency import Level
from basestore.repair.seats import Stage
from basestore.storage import keyspace
from basestore.topology.changes import Change, Standing
from basestore.topology.topology import Topology
from tests.worlds.changing import change
from tests.worlds.world import World

KEYS = [f"key {number}" for number in range(40)]
FIRST = [f"{key} at first" for key in KEYS]
MOVES_S = 60.0


def loaded(count: int = 4, replication: int = 3, partitions: int = 8) -> World:
    world = World(count, replication=replication, partitions=partitions, logged=True)
    for key in KEYS:
        world.put(0, key, f"{key} at first")
    return world


def topology(world: World, at: int = 0) -> Topology:
    of = world.node(at).membership.group.topology
    assert of is not None
    return of


def number(world: World, at: int) -> int:
    return world.member(at).number


def asked(world: World, of: Change, at: int = 0) -> None:
    outcome = change(world, at, of)
    assert not outcome.error, outcome.error


def done(world: World, at: int = 0) -> bool:
    of = topology(world, at)
    still = all(seats.stage is Stage.STILL for seats in of.seats)
    going = (Standing.DRAINING, Standing.DEAD)
    return still and not of.plan and not of.unplanned and all(e.standing not in going for e in of.members)


def finish(world: World, at: int = 0) -> None:
    """Until all is as it is planned."""
    for _ in range(round(MOVES_S)):
        if done(world, at):
            world.run(3.0)
            return
        world.run(1.0)
    raise AssertionError(topology(world, at))


def loads(world: World, at: int = 0) -> dict[int, int]:
    return dict(Counter(each for seats in topology(world, at).seats for each in seats.new))


def read(world: World, at: int = 0, level: Level = Level.QUORUM) -> list[str | None]:
    calls = [world.get(at, key, level) for key in KEYS]
    world.settle()
    return [None if (value := call.read().value) is None else value.decode() for call in calls]


def stored(world: World, at: int) -> int:
    """Records on the disk of a node, of whatever partitions."""
    return len(list(world.engines[at].scan(*keyspace.records())))
