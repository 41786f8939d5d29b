"""Members that are drained, removed and replaced, and partitions that move, on whole nodes: whoever drives it
may stop at any moment. Covers `moves/conductor.py` and `moves/reports.py`."""

from unittest.mock import patch

import pytest

from basestore.consistency import Level
from basestore.membership import metadata_group
from basestore.protocol.groups import ApplyGroup
from basestore.protocol.replication import Apply, Hinted
from basestore.repair.seats import Stage
from basestore.replica.dropped_rows import GivenUpRows
from basestore.replica.summaries import COMES, Summaries
from basestore.rows import row_partition
from basestore.storage import keyspace
from basestore.topology.changes import (
    CancelMoves,
    DrainMember,
    Rebalance,
    RemoveMember,
    ReplaceMember,
    SetReplication,
    SetSetting,
    Standing,
    TakeBack,
)
from basestore.topology.entries import Suggestion, encode_entry
from tests.worlds.changing import leaders
from tests.worlds.exchanges import check_summaries
from tests.worlds.following import converged, loss_accepted
from tests.worlds.moving import (
    FIRST,
    KEYS,
    MOVES_S,
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
from tests.worlds.world import TICK_S, World


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
    asked(world, TakeBack([]))
    world.run(1.0)
    assert {at: topology(world).seats[at].old for at in moving} == moving
    assert done(world)
    world.start(2)
    world.run(5.0)
    assert read(world, level=Level.ALL) == FIRST
    assert done(world)


def test_a_move_is_not_taken_back_to_a_store_that_was_lost_just_before() -> None:
    world = loaded(3, replication=1)
    asked(world, DrainMember(number(world, 2)))
    while not (moving := [at for at, of in enumerate(topology(world).seats) if of.stage is Stage.JOINT]):
        world.run(TICK_S)
    world.wipe(2)
    world.start(2)
    asked(world, TakeBack(moving))
    assert not topology(world).barred, "it is known already"
    for _ in range(round(MOVES_S)):
        world.run(1.0)
        if not any(at in topology(world).plan for at in moving):
            break
    assert {topology(world).seats[at].old for at in moving} == {(number(world, 2),)}
    world.run(3.0)
    kept = [at for at, key in enumerate(KEYS) if row_partition(world.row(key)) in moving]
    assert kept
    values = read(world)
    assert [values[at] for at in kept] == [FIRST[at] for at in kept]


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


def test_nothing_begins_to_move_while_a_cancel_is_on_its_way() -> None:
    world = loaded()
    asked(world, DrainMember(number(world, 3)))
    while not topology(world).plan:
        world.run(TICK_S)
    name = leaders(world)[0]
    at = next(at for at, node in enumerate(world.running) if node.name == name)
    node, now = world.node(at), world.now(at)
    raft = node.membership.group.raft
    assert raft is not None
    cancel = encode_entry(Suggestion(CancelMoves([]), 7, 0, 0))
    node.membership.asking.change(cancel, 1.0, lambda became, now: None, now)
    assert raft.log.entry(raft.log.last).data == cancel
    node.moves.conductor.tick(now._replace(monotonic=now.monotonic + 1.0))
    assert raft.log.entry(raft.log.last).data == cancel
    world.run(2.0)
    assert {seats.stage for seats in topology(world).seats} == {Stage.STILL}
    assert not topology(world).plan


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


def test_one_that_fills_waits_for_what_may_count_on_its_former_life() -> None:
    """Its store was lost with a write that it had acknowledged. Were it to compare itself at once with one
    that this write has not reached yet, it would count without it."""
    world = World(4, replication=3, partitions=1, logged=True)
    for replicas in (2, 3):  # since then whoever begins anew cannot tell whether it kept its seat
        asked(world, SetReplication(replicas))
        finish(world)
    numbers = [number(world, index) for index in range(4)]
    first, second, lost = map(numbers.index, topology(world).seats[0].old)
    (coordinator,) = {0, 1, 2, 3} - {first, second, lost}
    world.hold(coordinator, first)
    world.hold(coordinator, second)
    call = world.set(coordinator, "key", "value")
    world.settle()
    assert world.stored(lost, "key") is not None
    world.wipe(lost)
    world.part(lost, second)
    world.start(lost)
    world.run(0.5)
    assert world.node(lost).summaries.unfit == {0}
    world.release(coordinator, first)
    world.settle()
    assert call.receipt().acknowledged == 2
    world.run(2.0)
    world.join(lost, second)
    world.run(1.0)
    assert world.node(lost).certificates.counts(0)
    world.isolate(first)
    found = world.get(second, "key")
    world.run(1.0)
    assert found.read().value == b"value"


def test_who_was_away_for_long_counts_where_it_has_kept_its_seat(monkeypatch: pytest.MonkeyPatch) -> None:
    """What was decided meanwhile it gets in one piece, which says since when each has had its seat."""
    world, foreseen, foresee_unfit = loaded(5), dict[int, bytes](), Summaries.foresee_unfit
    monkeypatch.setattr(metadata_group, "COMPACT_BYTES", 0)
    away = number(world, 4)
    before = topology(world).seats
    world.stop(4)
    asked(world, SetReplication(4))
    world.run(10.0)
    changed = [at for at, seats in enumerate(topology(world).seats) if seats.since != before[at].since]
    held = [at for at in changed if away in before[at].old]
    comes = {at for at in changed if away in topology(world).seats[at].new} - {*held}
    assert len(held) > 3

    def foresee(self: Summaries, partition: int, how: bytes) -> None:
        foreseen[partition] = how
        foresee_unfit(self, partition, how)

    monkeypatch.setattr(Summaries, "foresee_unfit", foresee)
    world.start(4)
    world.run(0.3)
    assert world.node(4).peers.epoch == topology(world).epoch
    assert foreseen == dict.fromkeys(comes, COMES)
    finish(world)
    assert read(world, 4, Level.ALL) == FIRST


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


def test_rows_that_are_left_of_a_partition_go_after_a_crash_and_its_sums_fit_when_it_is_given_back() -> None:
    world = World(3, replication=3, partitions=2, logged=True)
    for key in KEYS[:20]:
        world.put(0, key, "v")
    with patch.object(GivenUpRows, "purge", lambda given_up, most: None):
        asked(world, SetReplication(2))
        finish(world)
        gave = next(at for at in range(3) if len(world.node(at).summaries.of) < 2)
        other = (gave + 1) % 3
        (given,) = {0, 1} - world.node(gave).summaries.of.keys()
        # By what is written elsewhere the log records that speak of it are checkpointed, and go.
        world.node(gave).summaries.summary_log.checkpoint_at_bytes = 0
        for key in KEYS[20:]:
            world.put(other, key, "v")
        world.run(1.0)
        world.crash(gave)
    assert list(world.engines[gave].scan(*keyspace.records_of(given)))
    world.start(gave)
    world.run(2.0)
    assert not list(world.engines[gave].scan(*keyspace.records_of(given)))
    asked(world, SetReplication(3), other)
    finish(world, other)
    check_summaries(world, gave)
    assert not any(node.metrics.counts["mismatches"] for node in world.running)
