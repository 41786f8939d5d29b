"""That a move has ended without who is dead, and that this one has left, is learned in one step: what only it
had is known to be lost all the same. Covers `MetadataGroup._learn` and `Adoption.foresee`."""

import pytest

from basestore.consistency import Level
from basestore.membership import metadata_group
from basestore.repair.seats import Stage
from basestore.rows import row_partition
from basestore.topology.changes import DrainMember, RemoveMember, Standing
from tests.worlds.changing import Asked, leaders
from tests.worlds.following import converged
from tests.worlds.moving import asked, number, topology
from tests.worlds.world import TICK_S, World

KEYS = [f"key {each}" for each in range(100)]


def fit_newcomer(world: World, leader: int, gone: int) -> tuple[int, int]:
    """A partition that this one gives to another, who is fit for it; and to whom."""
    index = {number(world, at): at for at in range(len(world.nodes))}
    for _ in range(2000):
        world.run(TICK_S)
        for at, seats in enumerate(topology(world, leader).seats):
            if seats.stage is Stage.FILL and seats.old == (number(world, gone),):
                (comes,) = (index[each] for each in seats.new)
                if comes != leader and at not in world.node(comes).replica.summaries.unfit:
                    return at, comes
    raise AssertionError("none fills")


@pytest.mark.parametrize("skipped", [False, True])
def test_a_move_that_ended_without_the_dead_is_a_loss_though_they_have_left_by_then(
    skipped: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    if skipped:  # it learns of both by a snapshot
        monkeypatch.setattr(metadata_group, "COMPACT_BYTES", 0)
    world = World(6, replication=1, partitions=12, logged=True, reconcile=True)
    for key in KEYS:
        world.put(0, key, key, Level.ALL)
    world.run(3)
    leader = next(at for at in range(6) if world.node(at).name == leaders(world)[0])
    gone = next(at for at in range(6) if at != leader)
    asked(world, DrainMember(number(world, gone)), leader)
    at, comes = fit_newcomer(world, leader, gone)
    world.part(gone, comes)
    key = next(each for each in map(str, range(10000)) if row_partition(world.row(each)) == at)
    receipt = world.put(gone, key, "v", Level.ALL)
    for _ in range(2000):
        world.run(TICK_S)
        if all(topology(world, each).seats[at].stage is Stage.JOINT for each in (comes, leader)):
            break
    world.run(0.5)
    world.crash(gone)
    world.run(0.5)
    for other in range(6):
        world.hold(other, comes)
    Asked(world, leader, RemoveMember(number(world, gone)), 77)
    for _ in range(400):
        world.run(TICK_S)
        member = topology(world, leader).member(number(world, gone))
        if member is not None and member.standing is Standing.LEFT:
            break
    assert topology(world, comes).seats[at].stage is Stage.JOINT, "it has not heard of that"
    if skipped:
        world.crash(comes)
    for other in range(6):
        world.release(other, comes)
    if skipped:
        world.start(comes)
    world.run(25)
    assert world.look(leader, key).value is None, "it is gone"
    assert not converged(world, leader, key=key, receipt=receipt).proven
