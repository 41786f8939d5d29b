"""A member that has just been added is given its share at once; one that may have held something waits.

Covers `membership/newcomer.py`, and what `anti_entropy/recovery.py` makes of it.
"""

from basestore.consistency import Level
from basestore.topology.changes import AddMember, Standing
from tests.worlds.changing import change, leaders
from tests.worlds.moving import FIRST, KEYS, finish, loads, read, topology
from tests.worlds.world import World

REQUEST_S = 10.0  # how long a request lasts at most, and so who may have a former life waits


def grown() -> tuple[World, int]:
    """Three nodes that hold all there is, and a fourth that was added, and never ran."""
    world = World(3, partitions=8, logged=True, timeout_ms_max=round(REQUEST_S * 1e3))
    for key in KEYS:
        world.put(0, key, f"{key} at first")
    (name,) = leaders(world)
    at = next(at for at, node in enumerate(world.running) if node.name == name)
    outcome = change(world, at, AddMember("n4", "127.0.0.1:7403", "", 1, b""))
    assert not outcome.error
    new = world.add(outcome.number)
    world.run(1.0)
    return world, new


def standing(world: World, at: int, of: int) -> Standing:
    member = topology(world, at).member(world.member(of).number)
    assert member is not None
    return member.standing


def follower(world: World) -> int:
    """A node that does not lead."""
    leading = leaders(world)
    return next(at for at in range(3) if world.node(at).name not in leading)


def test_who_was_added_and_never_held_anything_is_given_its_share_at_once() -> None:
    world, new = grown()
    world.start(new)
    world.run(2.0)
    assert world.node(new).state == "up"
    assert world.member(new).number in loads(world)
    world.run(REQUEST_S / 2)
    assert not world.node(new).summaries.unfit
    finish(world)
    assert read(world, new, Level.ALL) == FIRST


def test_who_has_held_something_and_lost_its_disk_waits_though_its_topology_is_old() -> None:
    world, new = grown()
    behind = follower(world)
    others = [at for at in range(3) if at != behind]
    for at in (*others, new):
        world.cut.add(frozenset((behind, at)))
        world.unlink(behind, at)
    world.start(new)
    finish(world, others[0])
    assert standing(world, others[0], new) is Standing.MEMBER
    world.crash(new)
    world.wipe(new)
    world.cut = {frozenset((each, at)) for at in others for each in (new, behind)}
    world.start(new)
    world.run(4.0)
    assert standing(world, new, new) is Standing.JOINING
    assert world.node(new).state == "forgetful"
    for at in others:
        world.join(new, at)
        world.join(behind, at)
    world.run(4.0)
    assert standing(world, new, new) is Standing.MEMBER
    assert world.node(new).state == "forgetful"
    world.run(REQUEST_S)
    assert world.node(new).state == "up"
    assert read(world, new, Level.ALL) == FIRST
