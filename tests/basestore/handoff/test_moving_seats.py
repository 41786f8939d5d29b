"""Hints, deferred writes and writes at ANY while who holds a partition is being changed: they are for those
who stay and those who come, and for those who leave, too, for a change may be taken back."""

import pytest

from basestore.consistency import Level, Outcome, ReplicaState
from basestore.errors import ReplicaFailure
from basestore.handoff.debts import ROUND_S
from basestore.protocol.replication import Apply, Hinted, Read
from tests.worlds.deferring import defer
from tests.worlds.seats import NEW, OLD, enter, fill, hear_all, joint, moving, silence, still
from tests.worlds.world import World

APART = (0, 1), (2, 3)


def crash(world: World, *members: int) -> None:
    for member in members:
        world.crash(member)
    world.run(0.2)


def test_one_is_kept_for_one_that_leaves_too_for_it_may_stay() -> None:
    world = moving()
    enter(world, "joint")
    crash(world, 2, 4)
    world.put(0, "k", "v")
    hints = world.node(0).hints
    assert (hints.count(2), hints.count(4)) == (1, 1)
    (kept,) = [hint for member, hint in hints.of_row(world.row("k")) if member == 4]
    assert not kept.only_copy
    world.run(0.5)
    assert not world.sent(Hinted)


def test_a_hint_goes_to_one_that_comes() -> None:
    world = moving()
    enter(world, "joint")
    world.lose = lambda sent: sent.target == 4 and isinstance(sent.message, Apply)
    world.set(0, "k", "v", timeout_s=0.5)
    world.run(0.6)
    assert world.node(0).hints.count(4) == 1
    assert world.stored(4, "k") is None
    hear_all(world)
    world.run(3.0)
    assert world.sent(Hinted)
    assert world.node(0).hints.count(4) == 0
    record = world.stored(4, "k")
    assert record is not None
    assert record.value == b"v"


def test_one_that_leaves_is_never_named_as_having_it() -> None:
    old, new = (0, 1, 2), (1, 2, 3)
    world = moving(old)
    enter(world, "joint", old, new)
    crash(world, 3)
    world.put(0, "k", "v")
    hints = world.node(0).hints
    (hint,) = [hint for member, hint in hints.of_row(world.row("k")) if member == 3]
    stores = [world.node(index).identity.store for index in range(3)]
    named = [store in hint.stores for store in stores]
    assert named[0] is False
    assert any(named)


def test_what_only_one_that_leaves_has_taken_is_kept_as_the_only_copy_until_one_that_stays_has_it() -> None:
    world = moving(APART[0])
    enter(world, "joint", *APART)
    silence(world, 2, 3)
    world.set(0, "k", "v", Level.ANY, timeout_s=1.0)
    world.run(0.6)
    hints = world.node(0).hints
    assert all(hint.only_copy for _, hint in hints.of_row(world.row("k")))
    assert {member for member, _ in hints.of_row(world.row("k"))} == {2, 3}


@pytest.mark.parametrize("back", [False, True])
def test_an_only_copy_that_one_that_leaves_has_taken_is_kept_until_that_has_ended(back: bool) -> None:
    world, (old, new) = moving(APART[0]), APART
    silence(world, *old)
    world.set(4, "k", "v", Level.ANY, timeout_s=1.0)
    world.run(1.2)
    kept = world.node(4).hints.of_row(world.row("k"))
    assert [(member, hint.only_copy) for member, hint in kept] == [(0, True), (1, True)]
    enter(world, "joint", old, new)
    hear_all(world)
    world.run(20.0)
    assert world.stored(0, "k") is not None, "they have it"
    assert len(world.node(4).hints.of_row(world.row("k"))) == 1
    world.adopt({0: still(103, *(old if back else new))}, 103)
    world.run(20.0)
    assert world.node(4).hints.of_row(world.row("k")) == []
    for member in old if back else new:
        assert world.stored(member, "k") is not None


def test_at_any_a_hint_for_one_that_stays_will_do_and_not_the_word_of_one_that_leaves() -> None:
    world = moving(APART[0])
    enter(world, "joint", *APART)
    silence(world, 2, 3)
    call = world.set(0, "k", "v", Level.ANY, timeout_s=1.0)
    world.settle()
    assert world.stored(1, "k") is not None
    assert not call.done
    world.run(0.6)
    receipt = call.receipt()
    assert receipt.acknowledged == 0
    assert {receipt.replicas[f"n{each + 1}"] for each in APART[1]} >= {ReplicaState.HINTED}


def test_at_any_without_room_for_a_hint_it_has_failed_though_one_that_leaves_has_it() -> None:
    world = moving(APART[0], hint_bytes_max=0)
    enter(world, "joint", *APART)
    silence(world, 2, 3)
    call = world.set(0, "k", "v", Level.ANY, timeout_s=1.0)
    world.run(1.2)
    with pytest.raises(ReplicaFailure):
        call.receipt()


def test_a_deferred_write_is_kept_for_those_who_hold_it_and_those_who_come() -> None:
    world = moving()
    enter(world, "joint")
    call = defer(world, 0)
    world.settle()
    receipt = call.receipt()
    assert receipt.outcome is Outcome.DEFERRED
    assert {member for member, _ in world.node(0).hints.of_row(world.row("k"))} == {*OLD, *NEW}
    assert set(receipt.replicas) == {f"n{each + 1}" for each in {*OLD, *NEW}}
    world.run(2.0)
    assert [world.values("k")[each] for each in NEW] == [b"v"] * 3


def test_of_a_write_that_is_sent_anew_hints_are_only_copies_for_who_had_it_may_have_lost_it() -> None:
    new = (0, 1, 3)
    world = moving()
    silence(world, 1, 2)
    world.set(4, "k", "v", timeout_s=0.5)
    world.settle()
    assert world.stored(0, "k") is not None
    world.lose = lambda sent: isinstance(sent.message, Apply | Hinted)
    world.adopt({0: fill(101, OLD, new)}, 101)
    world.adopt({0: joint(102, OLD, new)}, 102)
    world.run(0.6)
    kept = world.node(4).hints.of_row(world.row("k"))
    assert [(member, hint.only_copy) for member, hint in kept] == [(each, True) for each in (*new[:2], 2, 3)]


def test_an_answered_write_keeps_hints_for_those_it_waits_for_when_seats_change() -> None:
    world = moving()
    silence(world, 2)
    assert world.put(0, "k", "v").acknowledged == 2
    assert world.node(0).hints.count(2) == 0
    world.adopt({0: fill(101, OLD, (0, 1, 3))}, 101)
    world.settle()
    assert world.node(0).hints.count(2) == 1
    other = world.put(0, "other", "v")
    assert other.acknowledged == 2
    world.adopt({0: joint(102, OLD, (0, 1, 3))}, 102)
    world.settle()
    kept = world.node(0).hints.of_row(world.row("other"))
    assert [member for member, _ in kept] == [2]  # it leaves, or stays


def test_at_one_the_word_of_one_that_comes_is_not_enough_for_the_change_may_be_taken_back() -> None:
    world = moving(APART[0])
    enter(world, "joint", *APART)
    world.lose = lambda sent: isinstance(sent.message, Apply | Hinted) and sent.target in APART[0]
    call = world.set(2, "k", "v", Level.ONE, timeout_s=0.5)
    world.settle()
    assert world.stored(2, "k") is not None
    assert not call.done
    world.run(0.6)
    assert {member for member, _ in world.node(2).hints.of_row(world.row("k"))} >= set(APART[0])


def test_of_a_deferred_write_that_only_those_that_come_have_taken_what_is_kept_stays_the_only_copy() -> None:
    world = moving(APART[0])
    enter(world, "joint", *APART)
    silence(world, *APART[0])
    defer(world, 4)
    world.run(2.0)
    assert [world.values("k")[each] for each in APART[1]] == [b"v"] * 2
    kept = world.node(4).hints.of_row(world.row("k"))
    assert [(member, hint.only_copy) for member, hint in kept] == [(0, True), (1, True)]


def test_at_any_what_is_kept_by_one_that_comes_is_the_only_copy_though_it_has_taken_it_itself() -> None:
    world = moving(APART[0])
    enter(world, "joint", *APART)
    silence(world, 0, 1, 3)
    world.set(2, "k", "v", Level.ANY, timeout_s=1.0)
    world.run(0.6)
    assert world.stored(2, "k") is not None
    kept = dict(world.node(2).hints.of_row(world.row("k")))
    assert kept[0].only_copy
    assert kept[1].only_copy


def test_nothing_is_kept_for_one_that_has_left_since_a_write_was_sent() -> None:
    world = moving()
    enter(world, "joint")
    silence(world, 2)
    assert world.put(0, "k", "v").acknowledged >= 2
    assert world.node(0).hints.count(2) == 0
    world.adopt({0: still(103, *NEW)}, 103)
    world.settle()
    assert world.node(0).hints.of_row(world.row("k")) == []


def test_whether_a_debt_has_ended_is_asked_of_one_that_stays() -> None:
    world = moving((1, 2), hint_bytes_max=0)
    crash(world, 2)
    world.put(0, "k", "v", Level.ONE)
    world.run(0.2)
    assert world.node(0).debts.partitions == {0}
    world.restart(2)
    world.run(0.5)
    enter(world, "joint", (1, 2), (3, 2))
    world.run(ROUND_S + 1)
    assert {sent.target for sent in world.sent(Read, 0)} == {2}
