"""Groups of reads: what a replica answers from the disk and what from its marks; how many make a group."""

from typing import Any

import pytest

from basestore.consistency import Level
from basestore.protocol.client import Get
from basestore.protocol.groups import ReadGroup
from basestore.protocol.limits import GROUP_MAX, KEY_BYTES_MAX
from tests.worlds.world import World

KEYS = [b"a", b"b", b"c"]


def gets(keys: list[bytes], level: Level) -> list[Get]:
    return [Get(0, "default", key, level, 800, b"", True) for key in keys]


def written() -> World:
    """A world that compares behind each read."""
    world = World(3, read_repair=1.0)
    for key in KEYS:
        world.put(0, key.decode(), "x", Level.ALL)
    return world


def asked(world: World) -> list[Any]:
    return [sent.message for sent in world.sent(ReadGroup)]


def rot(world: World, index: int) -> None:
    """A record changes on the disk, and its mark stands."""
    marks = dict(world.node(index).replica.marks.of)
    world.spoil(index, "a")
    world.node(index).replica.marks.note_all(list(marks), marks.values())


@pytest.mark.parametrize("level", [Level.QUORUM, Level.ALL])
def test_what_confirms_a_read_has_been_read_and_checked(level: Level) -> None:
    world = written()
    for index in (1, 2):
        rot(world, index)
    world.ask_together(0, gets(KEYS, level))
    world.run(3)
    assert all(world.node(index).metrics.counts["records_healed"] for index in (1, 2))
    assert not any(each.marks for each in asked(world))


def test_behind_a_read_at_one_replicas_are_compared_by_their_marks() -> None:
    world = written()
    looked: list[int] = []
    for index in (1, 2):
        world.node(index).group_commit.get_many = looked.append  # type: ignore[assignment, method-assign]
    calls = world.ask_together(0, gets(KEYS, Level.ONE))
    world.settle()
    assert [each.marks for each in asked(world)] == [True, True]
    assert all(call.read().value == b"x" for call in calls)
    assert not looked


def test_behind_a_read_at_one_a_replica_without_marks_looks_at_its_disk() -> None:
    world = written()
    rot(world, 2)
    world.node(2).replica.marks.clear()
    world.ask_together(0, gets(KEYS, Level.ONE))
    world.run(3)
    assert world.node(2).metrics.counts["records_healed"] == 1


def test_as_many_reads_of_long_keys_as_come_are_asked_in_groups_of_so_many_bytes() -> None:
    world = World(3)
    keys = [b"%d" % number + bytes(KEY_BYTES_MAX - 10) for number in range(40)]
    calls = world.ask_together(0, gets(keys, Level.QUORUM))
    world.settle()
    assert all(call.done for call in calls)
    assert len(asked(world)) >= 3


def test_reads_of_many_clients_make_several_groups() -> None:
    world = World(3)
    calls = []
    for part in (b"a", b"b", b"c"):
        keys = [part + b"%d" % number for number in range(500)]
        calls += world.ask_together(0, gets(keys, Level.QUORUM))
    world.settle()
    assert all(call.done for call in calls)
    assert max(len(each.rows) for each in asked(world)) == GROUP_MAX
