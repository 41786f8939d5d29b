"""Whose requests a replica answers: of those who mean the same seats, and as one that holds what it must.

Covers `replica/admission.py` where epochs differ. Node n1 asks n2; the steps in which they begin to use other
seats are made by hand.
"""

from collections.abc import Callable
from typing import Any

import pytest

from basestore.protocol.groups import AppliedGroups, ApplyGroup, HeldGroup, ReadGroup
from basestore.protocol.replication import (
    COPY,
    DIRECT,
    Applied,
    Apply,
    Held,
    HeldDigest,
    Hinted,
    Moved,
    Range,
    Read,
    ReadRange,
    Rejected,
    Superseded,
)
from basestore.repair.version import Record
from basestore.replica.admission import HELD_BYTES_MAX, HELD_MAX, HELD_S
from basestore.topology.changes import SetSeats
from tests.worlds.changing import change
from tests.worlds.seats import NEW, OLD, fill, joint, make_fit, moving, still
from tests.worlds.world import World

ASKER, ASKED = 0, 1
ANSWERS = (Applied, AppliedGroups, Superseded, Held, HeldDigest, HeldGroup, Range)
ID = 1 << 40  # of no operation


def record(world: World, value: bytes = b"v", key: str = "k") -> bytes:
    return Record.seal(world.digester, world.row(key), world.stamp(0), value).blob


def _apply(world: World) -> Apply:
    return Apply(ID, world.row("k"), record(world), DIRECT, 0)


def _read(world: World) -> Read:
    return Read(ID, world.row("k"), 0, False, False, False)


KINDS: dict[str, tuple[Callable[[World], Any], list[int]]] = {
    "apply": (_apply, [ID]),
    "write back": (lambda world: _apply(world)._replace(way=COPY), [ID]),
    "apply group": (
        lambda world: ApplyGroup(
            ID, 0, [world.row("k"), world.row("l")], [record(world), record(world, key="l")]
        ),
        [ID + 1, ID + 2],
    ),
    "hint": (lambda world: Hinted(ID, world.row("k"), record(world), b""), [ID]),
    "read": (_read, [ID]),
    "read group": (
        lambda world: ReadGroup(ID, 0, [world.row("k"), world.row("l")], True, False),
        [ID + 1, ID + 2],
    ),
    "range": (lambda world: ReadRange(ID, [0], b"default", b"", b"", 10, 0, 0), [ID]),
}
every_kind = pytest.mark.parametrize(("make", "ids"), KINDS.values(), ids=KINDS.keys())


def ask(world: World, message: Any) -> None:
    """Put it to n2. Nothing moves yet."""
    world.node(ASKER).peers.send(ASKED, message, 100)


def answers(world: World) -> list[Any]:
    """What n2 has said of what was asked here, but for Moved and Rejected."""
    sent = [each.message for each in world.log if each.source == ASKED and each.target == ASKER]
    return [each for each in sent if isinstance(each, ANSWERS)]


def named(world: World, kind: type) -> list[int]:
    return [sent.message.id for sent in world.sent(kind, ASKED)]  # type: ignore[attr-defined]


def nothing_is_done(world: World) -> bool:
    return not answers(world) and world.stored(ASKED, "k") is world.stored(ASKED, "l") is None


@every_kind
def test_whoever_means_other_seats_is_told_so_and_nothing_is_done(
    make: Callable[[World], Any], ids: list[int]
) -> None:
    world = moving()
    world.adopt({0: fill(101, OLD, NEW)}, 101, ASKED)
    world.settle()
    ask(world, make(world))
    world.settle()
    moved = [sent.message for sent in world.sent(Moved, ASKED)]
    assert moved == [Moved(each, 101) for each in ids]
    assert nothing_is_done(world)
    assert not world.sent(Rejected)


@every_kind
def test_an_epoch_that_has_changed_other_things_is_no_matter(
    make: Callable[[World], Any], ids: list[int]
) -> None:
    world = moving()
    world.adopt({}, 110, ASKED)
    world.settle()
    ask(world, make(world))
    world.settle()
    assert answers(world)
    assert not world.sent(Moved)


@every_kind
def test_what_is_said_under_a_later_epoch_waits_until_that_is_in_use_and_is_done_once(
    make: Callable[[World], Any], ids: list[int]
) -> None:
    world = moving()
    world.adopt({0: fill(101, OLD, NEW)}, 101, ASKER)
    world.settle()
    ask(world, make(world))
    world.settle()
    assert nothing_is_done(world)
    world.adopt({0: fill(101, OLD, NEW)}, 101, ASKED)
    world.settle()
    once = len(answers(world))
    assert once in (1, len(ids))
    assert not world.sent(Moved)
    world.run(HELD_S + 0.2)
    assert len(answers(world)) == once
    assert not world.sent(Rejected)


@every_kind
def test_it_does_not_wait_for_ever(make: Callable[[World], Any], ids: list[int]) -> None:
    world = moving()
    world.adopt({0: fill(101, OLD, NEW)}, 101, ASKER)
    ask(world, make(world))
    world.settle()
    world.run(HELD_S - 0.1)
    assert not world.sent(Rejected)
    world.run(0.2)
    refused: list[Any] = [sent.message for sent in world.sent(Rejected, ASKED)]
    assert [(each.id, each.passing) for each in refused] == [(each, True) for each in ids]
    world.adopt({0: fill(101, OLD, NEW)}, 101, ASKED)
    world.settle()
    assert nothing_is_done(world)


@every_kind
def test_what_waits_is_not_taken_for_what_is_meant_later(
    make: Callable[[World], Any], ids: list[int]
) -> None:
    world = moving()
    world.adopt({0: fill(101, OLD, NEW)}, 101, ASKER)
    ask(world, make(world))
    world.settle()
    world.adopt({0: joint(102, OLD, NEW)}, 102, ASKER)
    world.settle()
    world.adopt({0: fill(101, OLD, NEW)}, 101, ASKED)
    world.adopt({0: joint(102, OLD, NEW)}, 102, ASKED)
    world.settle()
    assert named(world, Moved) == ids
    assert nothing_is_done(world)


@every_kind
def test_what_waits_ends_with_its_link(make: Callable[[World], Any], ids: list[int]) -> None:
    world = moving()
    world.adopt({0: fill(101, OLD, NEW)}, 101, ASKER)
    ask(world, make(world))
    world.settle()
    world.part(ASKER, ASKED)
    world.adopt({0: fill(101, OLD, NEW)}, 101, ASKED)
    world.settle()
    assert nothing_is_done(world)
    world.join(ASKER, ASKED)
    world.settle()
    assert nothing_is_done(world)


@every_kind
def test_one_that_does_not_hold_yet_what_it_must_answers_nothing(
    make: Callable[[World], Any], ids: list[int]
) -> None:
    world = moving()
    world.node(ASKED).replica.summaries.unfit.add(0)
    ask(world, make(world))
    world.settle()
    assert named(world, Rejected) == ids
    assert all(sent.message.passing for sent in world.sent(Rejected, ASKED))  # type: ignore[attr-defined]
    assert nothing_is_done(world)


@every_kind
def test_nor_does_it_to_itself(make: Callable[[World], Any], ids: list[int]) -> None:
    world = moving()
    node = world.node(ASKED)
    node.replica.summaries.unfit.add(0)
    node.peers.send(ASKED, make(world), 100)
    world.settle()
    assert world.stored(ASKED, "k") is world.stored(ASKED, "l") is None
    assert node.operations.served == 0


@every_kind
def test_what_it_does_not_hold_yet_of_another_partition_is_no_matter(
    make: Callable[[World], Any], ids: list[int]
) -> None:
    world = moving()
    world.node(ASKED).replica.summaries.unfit.add(1)
    ask(world, make(world))
    world.settle()
    assert answers(world)


def test_to_heal_a_record_also_one_that_is_not_complete_is_asked() -> None:
    world = moving()
    world.node(ASKED).replica.summaries.unfit.add(0)
    ask(world, _read(world)._replace(healing=True))
    world.settle()
    assert answers(world)
    assert not world.sent(Rejected)


def test_but_not_one_that_goes_by_other_seats() -> None:
    world = moving()
    world.adopt({0: fill(101, OLD, NEW)}, 101, ASKED)
    world.settle()
    ask(world, _read(world)._replace(healing=True))
    world.settle()
    assert named(world, Moved) == [ID]


def test_a_link_says_nothing_of_an_epoch_until_its_end_does() -> None:
    world = moving()
    peers = world.node(ASKED).peers
    assert peers.all[ASKER].told_epoch == 100
    assert peers.all_level
    peers.link(ASKER, world.now(ASKED))
    assert peers.all[ASKER].told_epoch == 0
    assert not peers.all_level
    peers.tell_epoch(ASKER, 100)
    assert peers.all_level
    outbox = peers.all[ASKER].outbox
    assert peers.unlink(ASKER, outbox, world.now(ASKED))
    assert peers.all[ASKER].told_epoch == 0
    assert peers.all_level  # of those that are linked


def test_only_so_many_requests_of_a_link_wait() -> None:
    world = moving()
    world.adopt({0: fill(101, OLD, NEW)}, 101, ASKER)
    for number in range(HELD_MAX + 2):
        ask(world, _read(world)._replace(id=ID + number))
    world.settle()
    assert named(world, Rejected) == [ID + HELD_MAX, ID + HELD_MAX + 1]
    world.adopt({0: fill(101, OLD, NEW)}, 101, ASKED)
    world.settle()
    assert len(world.sent(Held, ASKED)) == HELD_MAX


def test_only_so_many_bytes_of_a_link_wait() -> None:
    world = moving()
    world.adopt({0: fill(101, OLD, NEW)}, 101, ASKER)
    size = HELD_BYTES_MAX // 8
    for number in range(9):
        ask(world, Apply(ID + number, world.row("k"), record(world, bytes(size)), DIRECT, 0))
    world.settle()
    assert named(world, Rejected) == [ID + 7, ID + 8]


def test_how_many_members_no_quorum_needs_goes_by_the_smallest() -> None:
    world = moving((0, 1, 2, 3, 4))
    peers = world.node(0).peers
    assert peers.spare == 2
    world.adopt({0: fill(101, (0, 1, 2, 3, 4), (0, 1, 2))}, 101)
    assert peers.spare == 1
    world.adopt({0: joint(102, (0, 1, 2, 3, 4), (0, 1, 2))}, 102)
    world.adopt({0: still(103, 0, 1, 2)}, 103)
    assert peers.spare == 1
    world.adopt({0: fill(104, (0, 1, 2), (0,))}, 104)
    assert peers.spare == 0
    make_fit(world)


def test_whoever_is_told_that_others_hold_it_has_asked_for_what_it_lacks_by_then() -> None:
    world = World(5, partitions=1, logged=True)
    world.run(1.0)
    old = world.placement.replicas[0]
    new = (old[0], old[1], next(each for each in range(5) if each not in old))
    (leader,) = [node.me for node in world.running if node.membership.group.raft.leads]  # type: ignore[union-attr]
    asker = next(each for each in range(5) if each != leader)
    world.hold(leader, asker)  # what it brings along does not come
    numbers = fill(0, old, new).named(dict(enumerate(world.node(leader).peers.number_of)))
    outcome = change(world, leader, SetSeats([numbers.row(0)]))
    assert world.node(asker).membership.group.epoch == outcome.epoch
