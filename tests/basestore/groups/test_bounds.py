"""Groups keep the bounds of single requests: of frames, answers, rooms and times."""

from typing import Any

import pytest

from basestore.cluster.operations import RELIEVED_AT_ONCE
from basestore.consistency import Level
from basestore.groups.read_group import ReadGroup as Group
from basestore.protocol.client import Failed, Get, Got, Set, Written
from basestore.protocol.codec import Message
from basestore.protocol.groups import AppliedGroups, GetMany, HeldGroup, ReadGroup, first, requests_in, singly
from basestore.protocol.limits import BATCH_MESSAGES_MAX, KEY_BYTES_MAX, ProtocolError
from basestore.protocol.replication import Applied, Held, Rejected, Settled, Superseded
from basestore.repair.version import HEAD_BYTES
from basestore.transport.frames import FRAME_BYTES_MAX, FrameReader, pack
from tests.worlds.world import World


def sets(keys: list[bytes], level: Level = Level.QUORUM, value: bytes = b"new") -> list[Set]:
    return [Set(0, "default", key, value, level, 800, 0, b"proposal") for key in keys]


def gets(keys: list[bytes]) -> list[Get]:
    return [Get(0, "default", key, Level.QUORUM, 800, b"", True) for key in keys]


def numbered(count: int) -> list[bytes]:
    return [b"k%d" % number for number in range(count)]


@pytest.mark.parametrize("make", [gets, sets])
def test_what_many_clients_ask_in_a_turn_fits_into_frames(make: Any) -> None:
    world = World(3)
    world.hold(0, 1)
    for client in range(3):
        keys = [b"%d-%d-" % (client, number) + bytes(60_000) for number in range(60)]
        world.ask_together(0, make(keys))
    world.node(0).step(world.now(0))
    outbox = world.links[0, 1]
    frames = []
    while outbox.messages:
        frames.append(len(pack(outbox.take())))
    assert sum(frames) > 3_000_000
    assert max(frames) < FRAME_BYTES_MAX


def test_a_frame_asks_for_so_much_and_no_more() -> None:
    many = GetMany([1] * 1024, "default", [b"k"] * 1024, 2, 500)
    room = BATCH_MESSAGES_MAX // 1024
    assert requests_in(FrameReader().feed(pack([many] * room))) == BATCH_MESSAGES_MAX
    with pytest.raises(ProtocolError, match="asks for more than 8192 things"):
        FrameReader().feed(pack([many] * (room + 1)))


@pytest.mark.parametrize("room", [0, 1, 3, 7, 8, 20])
def test_of_many_only_those_are_taken_for_which_there_is_room(room: int) -> None:
    many = GetMany(list(range(1, 8)), "default", numbered(7), 2, 500)
    one = Get(8, "default", b"k", 2, 500, b"", True)
    taken, rest = first([many, one], room)
    assert requests_in(taken) == min(room, 8)
    assert singly(taken) + singly(rest) == singly([many, one])


def test_of_large_records_a_group_of_reads_reads_no_more_than_it_can_tell() -> None:
    world = World(2)
    world.put(0, "big", "x" * 700_000, Level.ALL)
    node, link = world.node(0), world.links[0, 1]
    row = world.row("big")
    looked: list[int] = []
    get_many = node.group_commit.engine.get_many

    def counted(keys: list[bytes]) -> list[bytes | None]:
        looked.append(len(keys))
        return get_many(keys)

    node.group_commit.engine.get_many = counted  # type: ignore[method-assign]
    node.receive(1, link, [ReadGroup(9, 0, [row] * 500, digests=False, marks=False)], world.now(0))
    assert sum(looked) < 50
    assert Held in map(type, link.messages), "some are told by themselves"


def test_at_any_what_leaves_a_group_is_hinted_halfway_as_all_are() -> None:
    world = World(3)
    for key in ("a", "b"):
        world.put(0, key, "old")
    world.spoil(0, "a")  # so this write is not the group's any more
    world.hold(0, 1)
    world.hold(0, 2)
    calls = world.ask_together(0, sets([b"a", b"b"], Level.ANY))
    world.run(0.6)
    assert [type(call.answer) for call in calls] == [Written, Written]


def test_what_has_left_an_answered_group_makes_room_when_it_is_told() -> None:
    world = World(3)
    world.hold(0, 2)
    operations = world.node(0).operations
    calls = world.ask_together(0, sets(numbered(20)))
    world.settle()
    assert all(call.done for call in calls)
    world.part(0, 1)  # it has confirmed: its word is of a store
    world.settle()
    assert operations.count == 20
    operations.relieve(world.now(0))
    world.settle()
    assert operations.count == 0


def test_room_is_made_by_so_many_requests_at_once() -> None:
    world = World(3, hint_bytes_max=1 << 30)
    world.hold(0, 2)
    for begin in range(0, 400, 200):
        world.ask_together(0, sets([b"%d" % number for number in range(begin, begin + 200)]))
    world.settle()
    node = world.node(0)
    node.operations.relieve(world.now(0))
    world.settle()
    assert node.operations.count == 400 - RELIEVED_AT_ONCE


def test_a_read_that_a_replica_answers_by_itself_is_counted_once() -> None:
    world = World(3)
    for key in ("a", "b", "c"):
        world.put(0, key, "x")
    calls = world.ask_together(0, gets([b"a", b"b", b"c", b"missing", b"missing too"]))
    world.run(4)
    assert all(call.done for call in calls)
    series = {(operation, level): each for operation, level, each in world.node(0).metrics.series()}
    assert series["get", "one"].ideal.total == len(calls)


@pytest.mark.parametrize("together", [False, True])
@pytest.mark.parametrize("make", [gets, sets])
def test_of_replicas_to_which_nothing_more_can_be_sent_each_is_known_at_once(
    make: Any, together: bool
) -> None:
    world = World(3)
    world.put(0, "k0", "old", Level.ALL)
    world.put(0, "k1", "old", Level.ALL)
    node = world.node(0)
    for other in (1, 2):
        world.hold(0, other)
        world.links[0, other].bytes = 1 << 40
    asked = make(numbered(2))
    calls = []
    for some in [asked] if together else [[each] for each in asked]:
        calls += world.ask_together(0, some)
        node.step(world.now(0))
    world.settle()
    for call in calls:
        assert isinstance(call.answer, Failed)
        assert {"n2", "n3"} <= set(call.answer.details), call.answer
    assert [pile.count for pile in node.hints.piles] == ([0, 2, 2] if make is sets else [0, 0, 0])


@pytest.mark.parametrize("kind", [Rejected, Superseded, Settled, Held, Applied])
@pytest.mark.parametrize("make", [gets, sets])
def test_an_answer_under_the_id_of_a_group_itself_is_of_nobody(make: Any, kind: type[Any]) -> None:
    world = World(3)
    for key in numbered(3):
        world.put(0, key.decode(), "old", Level.ALL)
    world.hold(0, 1)
    world.hold(0, 2)
    calls = world.ask_together(0, make(numbered(3)))
    node = world.node(0)
    node.step(world.now(0))
    (group,) = node.operations.each()
    head = bytes(HEAD_BYTES)
    answers: dict[type[Any], Message] = {
        Rejected: Rejected(group.ids[0], "no", True),
        Superseded: Superseded(group.ids[0], head),
        Settled: Settled(group.ids[0], 1, False),
        Held: Held(group.ids[0], b"", 0),
        Applied: Applied([group.ids[0]], b"", 1),
    }
    node.receive(1, world.links[0, 1], [answers[kind]], world.now(0))
    node.receive(1, world.links[0, 1], [AppliedGroups([group.ids[1], 3], [], b"", 1)], world.now(0))
    node.receive(1, world.links[0, 1], [HeldGroup(group.ids[1], [head] * 3)], world.now(0))
    world.release(0, 1)
    world.release(0, 2)
    world.run(2)
    assert [type(call.answer) for call in calls] == [Got if make is gets else Written] * 3
    assert (node.operations.count, node.operations.bytes) == (0, 0)


@pytest.mark.parametrize("wrong", [b"", bytes(KEY_BYTES_MAX + 1)])
def test_one_wrong_key_makes_no_other_read_a_special_one(wrong: bytes) -> None:
    world = World(3)
    for key in "abc":
        world.put(0, key, "v", Level.ALL)
    world.hold(0, 1)
    world.hold(0, 2)
    for keys in ([b"a", b"b"], [wrong], [b"c"]):
        world.ask_together(0, gets(keys))
    many = GetMany([7, 8], "default", [b"x", wrong], 2, 500)
    world.node(0).receive_client(world.node(0).open_client(), [many], world.now(0))
    world.node(0).step(world.now(0))
    (group,) = (each for each in world.node(0).operations.each() if isinstance(each, Group))
    assert len(group.ids) == 1 + 3
