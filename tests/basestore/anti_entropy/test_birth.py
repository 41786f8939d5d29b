"""Birth: what was written before the stores came to be is not proven by them, nor told to be unknown.

Covers `anti_entropy/birth.py`, and what receipts and sessions are told of it.
"""

import pytest

from basestore.anti_entropy.birth import PROPOSED
from basestore.consistency import Level
from basestore.errors import VersionLost
from basestore.protocol.client import Written
from basestore.results.convergence import GONE
from tests.worlds.following import converged
from tests.worlds.world import WALL_MS, World

HOUR_MS = 3_600_000
SIZES = pytest.mark.parametrize(("count", "replication"), [(1, 1), (2, 2), (3, 1), (3, 3)])


def births(world: World) -> set[int]:
    return {node.identity.birth for node in world.nodes if node is not None}


def begin_anew(world: World) -> None:
    """All disks are lost at once."""
    for index in range(len(world.nodes)):
        world.wipe(index)
    for index in range(len(world.nodes)):
        world.start(index)
    world.run(30)
    world.put(0, "other", "v")
    world.run(30)
    assert all(node is not None and node.state == "up" for node in world.nodes)


@SIZES
def test_a_receipt_of_before_all_disks_were_lost_is_not_proven(count: int, replication: int) -> None:
    world = World(count, replication=replication, reconcile=True)
    receipt = world.put(0, "k", "v", Level.ALL)
    begin_anew(world)
    found = converged(world, receipt=receipt)
    assert not found.proven
    assert [obstacle.text for obstacle in found.obstacles] == [GONE]
    assert converged(world).proven, "it is no alarm: of what there is all is proven"


@SIZES
@pytest.mark.parametrize("level", [Level.ONE, Level.QUORUM])
def test_a_session_of_before_all_disks_were_lost_is_told_that_what_it_saw_is_lost(
    count: int, replication: int, level: Level
) -> None:
    world = World(count, replication=replication, reconcile=True)
    receipt = world.put(0, "k", "v")
    begin_anew(world)
    call = world.get(0, "k", level, floor=receipt.version)
    world.run(2)
    with pytest.raises(VersionLost):
        call.read()


@SIZES
def test_the_first_write_of_a_new_cluster_is_proven_whatever_the_clocks(count: int, replication: int) -> None:
    world = World(count, replication=replication, reconcile=True, born=False)
    world.skew_ms = [900, -900, 0][:count]
    for index in range(count):
        world.start(index)
    world.settle()
    assert len(births(world)) == 1
    receipts = [world.put(index, f"k{index}", "v") for index in range(count)]
    world.run(30)
    assert all(converged(world, receipt=receipt).proven for receipt in receipts)


def test_a_new_cluster_that_nobody_has_written_to_is_proven_empty() -> None:
    world = World(1, reconcile=True)
    world.run(30)
    assert converged(world).proven


def test_members_agree_on_one_birth_and_know_it_after_a_restart() -> None:
    world = World(3, born=False)
    world.skew_ms = [0, 700, 300]
    world.start(0)
    world.start(1)
    world.run(5)
    assert births(world) == {0}, "nobody is born before all have spoken"
    world.start(2)
    world.settle()
    (birth,) = births(world)
    told_ms = birth >> 16
    assert 0 <= max(world.now(index).wall_ms for index in range(3)) - told_ms < 1000, "it is new"
    for index in range(3):
        world.restart(index)
    world.settle()
    assert births(world) == {birth}


def test_a_store_that_recovers_takes_over_the_birth_of_the_others() -> None:
    world = World(3)
    (birth,) = births(world)
    world.wipe(2)
    world.run(20)
    world.start(2)
    world.run(20)
    assert world.node(2).state == "up"
    assert births(world) == {birth}


def test_a_backup_of_before_all_disks_were_lost_proves_nothing_of_then() -> None:
    world = World(3, reconcile=True)
    receipt = world.put(0, "gone", "v")
    copy = world.copy_store(1)
    begin_anew(world)
    (birth,) = births(world)
    world.restore(1, copy)
    world.start(1)
    world.run(40)
    assert births(world) == {birth}
    assert not converged(world, at=1, receipt=receipt).proven


@pytest.mark.parametrize("ahead_ms", [HOUR_MS, -HOUR_MS])
def test_while_nobody_can_tell_the_time_no_store_is_born(ahead_ms: int) -> None:
    world = World(2, reconcile=True, born=False)
    world.skew_ms[1] = ahead_ms
    for index in range(2):
        world.start(index)
    world.run(5)
    assert births(world) == {0}
    world.stop(1)
    world.skew_ms[1] = 0
    world.start(1)
    world.run(5)
    assert births(world) != {0}
    receipt = world.put(0, "k", "v", Level.ALL)
    world.run(30)
    assert converged(world, receipt=receipt).proven


def test_a_member_that_cannot_tell_the_time_leaves_the_birth_to_the_others() -> None:
    world = World(3, reconcile=True, born=False)
    world.skew_ms[2] = HOUR_MS
    for index in range(3):
        world.start(index)
    world.run(5)
    (birth,) = births(world)
    assert WALL_MS < birth >> 16 < WALL_MS + HOUR_MS
    receipt = world.put(0, "k", "v")
    world.run(30)
    assert all(obstacle.text != GONE for obstacle in converged(world, receipt=receipt).obstacles)


def test_a_member_that_stumbles_while_the_cluster_is_born_does_not_raise_the_birth() -> None:
    world = World(3, reconcile=True, born=False)
    world.freeze(0)
    for index in range(3):
        world.start(index)
    world.run(1)
    world.crash(0)
    world.thaw(0)
    world.run(1)
    world.start(0)
    while not (world.node(1).identity.counts and world.node(2).identity.counts):
        world.turn()
    call = world.set(1, "k", "v")
    world.run(60)
    assert len(births(world)) == 1
    assert converged(world, receipt=call.receipt()).proven


def test_what_was_proposed_once_stands_after_a_crash() -> None:
    world = World(3, born=False)
    world.freeze(2)
    for index in range(3):
        world.start(index)
    world.run(3)
    proposed = world.engines[0].get(PROPOSED)
    assert proposed is not None
    assert births(world) == {0}, "n3 has proposed nothing durably"
    world.crash(0)
    world.thaw(2)
    world.run(5)
    world.start(0)
    world.run(3)
    assert world.engines[0].get(PROPOSED) == proposed
    assert births(world) != {0}
    assert len(births(world)) == 1


def test_clocks_that_were_set_right_before_the_cluster_was_born_leave_nothing_behind() -> None:
    world = World(3, reconcile=True, born=False)
    world.skew_ms[0] = world.skew_ms[1] = HOUR_MS
    for index in (0, 1):
        world.start(index)
    world.run(5)
    world.skew_ms[:] = [0, 0, 0]
    world.run(30)
    world.start(2)
    world.run(10)
    receipt = world.put(0, "k", "v")
    world.run(30)
    assert converged(world, receipt=receipt).proven


def test_nothing_is_stamped_below_the_birth_by_clocks_that_lie_far_apart() -> None:
    world = World(3, reconcile=True, born=False)
    world.skew_ms[:] = [1900, 0, -1900]  # each agrees with a majority
    for index in range(3):
        world.start(index)
    early = []
    for _ in range(40):
        early.append(world.set(2, "k", "early", Level.ONE))
        world.run(0.1)
    (birth,) = births(world)
    receipts = [call.receipt() for call in early if isinstance(call.answer, Written)]
    assert receipts
    assert all(receipt.version is not None and receipt.version.stamp > birth for receipt in receipts)
    receipt = world.put(2, "k", "v", Level.ALL)
    world.run(60)
    assert converged(world, receipt=receipt).proven


@pytest.mark.parametrize(("count", "replication"), [(2, 2), (3, 3), (3, 2), (5, 3)])
def test_a_dead_node_that_is_replaced_does_not_raise_the_birth(count: int, replication: int) -> None:
    world = World(count, replication=replication, reconcile=True)
    receipt = world.put(0, "k", "v", Level.ALL)
    (birth,) = births(world)
    world.run(30)
    last = count - 1
    world.wipe(last)
    world.run(10)
    for index in range(last):  # all others, together, for the new address
        world.stop(index)
    world.start(last)
    world.run(1)
    for index in range(last):
        world.start(index)
    world.run(40)
    assert births(world) == {birth}
    assert converged(world, receipt=receipt).proven


def test_nothing_is_stamped_before_the_birth_is_known() -> None:
    world = World(3, replication=1, reconcile=True, born=False)
    world.freeze(2)
    for index in range(3):
        world.start(index)
    world.run(3)
    node = world.node(1)
    assert node.peers.clock.sure(world.now(1))
    assert not node.clock.ready(world.now(1).wall_ms)
    world.thaw(2)
    world.run(3)
    assert node.identity.birth
    receipt = world.put(1, "k", "v", Level.ALL)
    world.run(30)
    assert converged(world, receipt=receipt).proven


@pytest.mark.parametrize(("replication", "level"), [(3, Level.ONE), (1, Level.ALL)])
@pytest.mark.parametrize(("skew_ms", "alone_s"), [(0, 0), (HOUR_MS, 0), (0, 2)])
def test_a_birth_is_younger_than_the_last_store_that_was_lost(
    replication: int, level: Level, skew_ms: int, alone_s: int
) -> None:
    world = World(3, replication=replication, reconcile=True)
    world.run(5)
    world.part(0, 2)
    world.part(1, 2)
    for index in (0, 1):
        world.wipe(index)
        world.start(index)
    world.run(20)
    key = next(name for name in map("k{}".format, range(50)) if 2 in world.replicas(name))
    receipt = world.put(2, key, "v", level)  # n3 goes on alone
    world.run(20)
    world.wipe(2)
    world.skew_ms[2] = skew_ms
    if alone_s:
        world.start(2)
        world.run(alone_s)
    world.cut.clear()
    if alone_s:
        world.link(0, 2)
        world.link(1, 2)
    else:
        world.start(2)
    world.run(20)
    if skew_ms:
        world.stop(2)
        world.skew_ms[2] = 0
        world.start(2)
    world.run(60)
    world.put(0, "other", "v")
    world.run(30)
    assert not any(world.values(key))
    assert not converged(world, receipt=receipt).proven
