"""What is asked together while who holds some of it is being changed.

Covers `groups/`: who asks two quorums is in no group, and groups begin anew with what they are made of.
"""

import pytest

from basestore.consistency import Level
from basestore.protocol.client import Delete, Get, Set
from basestore.protocol.groups import ApplyGroup, ReadGroup
from basestore.protocol.replication import Apply, Moved, Read
from tests.worlds.seats import NEW, OLD, enter, fill, hear_all, joint, moving, silence
from tests.worlds.world import Call, World

KEYS = [b"k%d" % number for number in range(24)]
LEVELS = [Level.ONE, Level.QUORUM, Level.ALL]


def sets(level: Level = Level.QUORUM, value: bytes = b"v") -> list[Set]:
    return [Set(0, "default", key, value, level, 1000, 0, b"proposal") for key in KEYS]


def deletes(level: Level = Level.QUORUM) -> list[Delete]:
    return [Delete(0, "default", key, level, 1000, b"proposal") for key in KEYS]


def gets(level: Level = Level.QUORUM) -> list[Get]:
    return [Get(0, "default", key, level, 1000, b"", True) for key in KEYS]


def four_partitions(stage: str = "joint") -> World:
    """The first of which is being changed."""
    world = moving(partitions=4)
    enter(world, stage)
    return world


def is_moving(world: World, key: bytes) -> bool:
    return world.row(key.decode())[:2] == bytes(2)


def by_moving(world: World, calls: list[Call]) -> tuple[list[Call], list[Call]]:
    """Those that ask for what is being changed, and the others."""
    pairs = list(zip(KEYS, calls, strict=True))
    changed = [call for key, call in pairs if is_moving(world, key)]
    others = [call for key, call in pairs if not is_moving(world, key)]
    assert len(changed) > 1
    assert len(others) > 1
    return changed, others


@pytest.mark.parametrize("level", LEVELS)
def test_what_is_asked_together_has_what_it_would_have_alone(level: Level) -> None:
    world = four_partitions()
    writes = world.ask_together(0, sets(level), level)
    world.settle()
    assert all(call.receipt().acknowledged >= call.receipt().required for call in writes)
    reads = world.ask_together(0, gets(level), level)
    world.settle()
    assert [call.read().value for call in reads] == [b"v"] * len(KEYS)
    gone = world.ask_together(0, deletes(level), level)
    world.settle()
    assert all(call.receipt().acknowledged >= call.receipt().required for call in gone)
    reads = world.ask_together(0, gets(level), level)
    world.settle()
    assert [call.read().value for call in reads] == [None] * len(KEYS)


@pytest.mark.parametrize("requests", [sets(), deletes(), gets()], ids=["sets", "deletes", "gets"])
def test_no_group_holds_what_asks_two_quorums(requests: list[Set | Delete | Get]) -> None:
    world = four_partitions()
    calls = world.ask_together(0, requests)
    world.settle()
    assert all(call.done for call in calls)
    groups = [each.message for each in (*world.sent(ApplyGroup), *world.sent(ReadGroup))]
    assert groups
    assert not [row for group in groups for row in group.rows if row[:2] == bytes(2)]  # type: ignore[attr-defined]
    asked = {each.target for each in (*world.sent(Apply), *world.sent(Read))}
    assert asked & {3, 4}


@pytest.mark.parametrize("silent", [(1, 2), (3, 4)])
def test_only_what_is_being_changed_waits_for_both_quorums(silent: tuple[int, ...]) -> None:
    world = four_partitions()
    world.lose = lambda sent: sent.target in silent and isinstance(sent.message, Apply)
    changed, others = by_moving(world, world.ask_together(0, sets()))
    world.settle()
    assert not any(call.done for call in changed)
    assert all(call.done for call in others)


@pytest.mark.parametrize("silent", [(1, 2), (3, 4)])
def test_only_reads_of_what_is_being_changed_wait_for_both_quorums(silent: tuple[int, ...]) -> None:
    world = four_partitions()
    world.ask_together(0, sets(Level.ALL))
    world.settle()
    world.lose = lambda sent: sent.target in silent and isinstance(sent.message, Read)
    changed, others = by_moving(world, world.ask_together(0, gets()))
    world.settle()
    assert not any(call.done for call in changed)
    assert all(call.done for call in others)


@pytest.mark.parametrize("requests", [sets(), deletes(), gets()], ids=["sets", "deletes", "gets"])
@pytest.mark.parametrize("stage", ["fill", "joint", "still"])
def test_a_group_under_way_begins_anew_with_what_is_changed(
    requests: list[Set | Delete | Get], stage: str
) -> None:
    world = moving(partitions=4)
    world.ask_together(0, sets(Level.ALL, b"before"))
    world.settle()
    silence(world, 1, 2, 3, 4)
    calls = world.ask_together(0, requests)
    world.settle()
    assert not any(call.done for call in by_moving(world, calls)[0])
    hear_all(world)
    enter(world, stage)
    changed, _ = by_moving(world, calls)
    assert all(call.done for call in changed)
    world.run(1.2)
    assert all(call.done for call in calls)


def test_what_a_group_has_heard_before_counts_for_nothing() -> None:
    world = moving(partitions=4)
    for index in (1, 2):
        world.hold(index, 0)
    calls = world.ask_together(0, sets())  # the words of n2 and n3 are on their way
    world.settle()
    silence(world, 1, 2, 3, 4)
    world.adopt({0: fill(101, OLD, NEW)}, 101)
    world.adopt({0: joint(102, OLD, NEW)}, 102)
    for index in (1, 2):
        world.release(index, 0)
    world.settle()
    changed, others = by_moving(world, calls)
    assert not any(call.done for call in changed)
    assert all(call.done for call in others)


@pytest.mark.parametrize("requests", [sets(), gets()], ids=["sets", "gets"])
def test_of_a_group_each_is_told_by_itself_that_others_hold_it(requests: list[Set | Get]) -> None:
    world = moving(partitions=4)
    world.ask_together(0, sets(Level.ALL, b"before"))
    world.settle()
    world.adopt({0: fill(101, OLD, NEW)}, 101, 1, 2)
    world.settle()
    calls = world.ask_together(0, requests)
    world.settle()
    changed, others = by_moving(world, calls)
    assert world.sent(Moved)
    assert not any(call.done for call in changed)
    assert all(call.done for call in others)
    world.adopt({0: fill(101, OLD, NEW)}, 101, 0)
    world.settle()
    assert all(call.done for call in changed)
