"""Members that are drained, removed and replaced, and partitions that move, on whole nodes: whoever drives it
may stop at any moment. Covers `moves/conductor.py` and `moves/reports.py`."""

import pytest

from basestore.consistency import Level
from basestore.protocol.groups import ApplyGroup
from basestore.protocol.replication import Apply, Hinted
from basestore.repair.seats import Stage
from basestore.rows import row_partition
from basestore.topology.changes import (
    CancelMoves,
    DrainMember,
    Rebalance,
    RemoveMember,
    ReplaceMember,
    SetReplication,
    SetSetting,
    Standing,
)
from tests.worlds.changing import leaders
from tests.worlds.following import converged, loss_accepted
from tests.worlds.moving import (
    FIRST,
    KEYS,
    asked,
    done,
    finish,
    loaded,
    loads,
    number,
    read,
    stored,
    topology,
)
from tests.worlds.world import World


@pytest.mark.parametrize("gone", [0, 3])
def test_a_member_that_is_drained_holds_nothing_any_more_and_has_left(gone: int) -> None:
    world, other = loaded(), 1
    asked(world, DrainMember(number(world, gone)))
    finish(world, other)
    left = topology(world, other).member(number(world, gone))
    assert left is not None
    assert left.standing is Standing.LEFT
    assert number(world, gone) not in loads(world, other)
    assert stored(world, gone) == 0
    world.stop(gone)
    assert read(world, other, Level.ALL) == FIRST


def test_nothing_moves_more_than_it_must() -> None:
    world = loaded(5)
    before = topology(world).seats
    asked(world, DrainMember(number(world, 4)))
    finish(world)
    gone = number(world, 4)
    for was, now in zip(before, topology(world).seats, strict=True):
        assert set(was.old) - {gone} <= set(now.old)


def test_a_dead_member_of_four_is_removed_and_nothing_is_lost() -> None:
    world = loaded()
    world.stop(3)
    asked(world, RemoveMember(number(world, 3)))
    finish(world)
    assert number(world, 3) not in loads(world)
    assert read(world, level=Level.ALL) == FIRST
    assert not world.node(0).losses.all_open
    assert converged(world, timeout_s=20).proven


def test_what_only_the_dead_held_is_a_loss_until_it_is_accepted() -> None:
    world = loaded(5)
    world.stop(3)
    world.stop(4)
    asked(world, RemoveMember(number(world, 3)))
    asked(world, RemoveMember(number(world, 4)))
    finish(world)
    assert read(world, level=Level.ALL).count(None) == 0
    assert world.node(0).losses.all_open
    assert not converged(world, timeout_s=5).proven
    assert loss_accepted(world, timeout_s=20).complete
    assert converged(world, timeout_s=20).proven


def test_a_member_takes_exactly_the_place_of_another() -> None:
    world = World(4, replication=2, partitions=8, logged=True)
    asked(world, SetReplication(1))
    finish(world)
    before = [seats.old for seats in topology(world).seats]
    old, by = number(world, 3), number(world, 0)
    asked(world, ReplaceMember(old, by, dead=False))
    finish(world)
    assert [seats.old for seats in topology(world).seats] == [
        tuple(by if each == old else each for each in held) for held in before
    ]


def test_replicas_are_raised_and_lowered() -> None:
    world = loaded(5)
    for replicas in (5, 1, 3):
        asked(world, SetReplication(replicas))
        finish(world)
        assert {len(seats.old) for seats in topology(world).seats} == {replicas}
        assert read(world, level=Level.ALL) == FIRST
        assert max(loads(world).values()) - min(loads(world).values()) <= 1
    assert converged(world, timeout_s=20).proven


def test_a_move_that_is_cancelled_leaves_a_partition_as_it_was() -> None:
    world = loaded()
    world.stop(2)  # which is to hold more, and is waited for
    asked(world, DrainMember(number(world, 3)))
    world.run(6.0)
    moving = {at: each.old for at, each in enumerate(topology(world).seats) if each.stage is not Stage.STILL}
    assert moving
    asked(world, CancelMoves([]))
    world.run(1.0)
    assert {at: topology(world).seats[at].old for at in moving} == moving
    assert done(world)
    world.start(2)
    world.run(5.0)
    assert read(world, level=Level.ALL) == FIRST
    assert done(world)


def test_the_leader_may_go_at_any_moment() -> None:
    world = loaded(5)
    asked(world, SetSetting("moves.at_once", "1"))
    asked(world, DrainMember(number(world, 4)))
    for _ in range(6):
        world.run(1.3)
        name, *_ = leaders(world)
        world.restart(
            next(at for at, node in enumerate(world.nodes) if node is not None and node.name == name)
        )
        world.run(6.0)
    finish(world)
    assert number(world, 4) not in loads(world)
    assert read(world, level=Level.ALL) == FIRST


def test_writes_go_on_while_partitions_move() -> None:
    world = loaded()
    asked(world, SetSetting("moves.at_once", "2"))
    asked(world, DrainMember(number(world, 3)))
    for turn in range(30):
        for at in (0, 1, 2):
            for key in KEYS[at::3]:
                assert world.put(at, key, f"{key} {turn}").acknowledged >= 2
        assert read(world, 1) == [f"{key} {turn}" for key in KEYS]
        world.run(0.3)
    finish(world)
    assert read(world, level=Level.ALL) == [f"{key} 29" for key in KEYS]


def test_a_rebalance_of_what_is_balanced_moves_nothing() -> None:
    world = loaded()
    asked(world, Rebalance())
    finish(world)
    first = topology(world).seats
    asked(world, Rebalance())
    finish(world)
    assert topology(world).seats == first


def test_a_member_that_held_a_partition_once_is_a_newcomer_to_it() -> None:
    world = loaded(5)
    for replicas in (2, 4):
        asked(world, SetReplication(replicas))
        finish(world)
        for key in KEYS:
            world.put(0, key, f"{key} of {replicas}")
    assert read(world, level=Level.ALL) == [f"{key} of 4" for key in KEYS]


def test_a_member_that_keeps_an_only_copy_has_not_left_before_that_is_delivered() -> None:
    world = loaded()
    key = next(each for each in KEYS if 3 not in world.placement.replicas[row_partition(world.row(each))])
    world.lose = lambda sent: sent.source == 3 and isinstance(sent.message, Apply | ApplyGroup | Hinted)
    call = world.set(3, key, "kept by n4 alone", Level.ANY, timeout_s=0.5)
    world.run(1.0)
    assert call.receipt().acknowledged == 0
    asked(world, DrainMember(number(world, 3)))
    world.run(20.0)
    drained = topology(world).member(number(world, 3))
    assert drained is not None
    assert (drained.standing, loads(world).get(drained.number, 0)) == (Standing.DRAINING, 0)
    world.lose = lambda _: False
    finish(world)
    found = world.get(0, key, Level.ALL)
    world.settle()
    assert found.read().value == b"kept by n4 alone"
