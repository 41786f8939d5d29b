"""What an operator sees of hints: per node and peer, and their delivery at his word."""

import pytest

from basestore.cli.cluster.hints import rows
from basestore.consistency import Level
from basestore.errors import ConnectionLost
from basestore.protocol.operator import HintPiles, HintsOf, PileRow, Replay
from basestore.protocol.replication import Hinted
from basestore.results.hints import HintPile, NodeHints, node_hints
from tests.worlds.world import Sent, World


def look(world: World, at: int, *, replay: bool = False) -> NodeHints:
    call = world.ask(at, Replay if replay else HintsOf)
    world.settle()
    assert call.answer is not None
    found = node_hints(call.answer, world.cluster.names)
    assert list(rows(found))  # there is always something to print
    return found


def pile(world: World, at: int) -> HintPile:
    (only,) = look(world, at).piles
    return only


def test_a_node_that_keeps_no_hints_says_so() -> None:
    found = look(World(3), 1)
    assert (found.node, found.piles, found.answered) == ("n2", (), True)


def test_hints_are_counted_with_their_bytes_and_the_age_of_the_oldest() -> None:
    world = World(3)
    world.stop(2)
    world.settle()
    first = world.put(0, "k", "v").version
    world.run(1)
    world.put(0, "l", "v" * 100)
    kept = pile(world, 0)
    assert (kept.peer, kept.alive, kept.count, kept.only_copies, kept.debt) == ("n3", False, 2, 0, {})
    assert kept.bytes > 100
    assert first is not None
    assert kept.oldest_ms == first.wall_ms
    assert look(world, 1).piles == ()


def test_only_copies_are_told_apart() -> None:
    world = World(5)
    at = world.outsider("k")
    for replica in world.replicas("k"):
        world.part(at, replica)
    world.settle()
    world.set(at, "k", "v", Level.ANY)
    world.settle()
    piles = look(world, at).piles
    assert len(piles) == 3
    assert {kept.only_copies for kept in piles} == {1}


def test_what_there_was_no_room_for_is_a_debt_of_its_partition() -> None:
    world = World(3, hint_bytes_max=100)
    world.stop(2)
    world.settle()
    version = world.put(0, "k", "v" * 500).version
    world.run(1)
    owed = pile(world, 0)
    assert version is not None
    assert (owed.count, owed.oldest_ms) == (0, None)
    assert owed.debt == {int.from_bytes(world.row("k")[:2]): version.wall_ms}


def test_replay_delivers_at_once_what_a_refusal_held_back() -> None:
    world = World(3)
    world.put(0, "k", "old", Level.ALL)
    world.stop(2)
    world.settle()
    world.put(0, "k", "new")
    world.spoil(2, "k")
    world.start(2)
    world.part(1, 2)  # it cannot heal from one replica
    world.run(2)
    world.log.clear()

    def copies(sent: Sent) -> bool:
        return isinstance(sent.message, Hinted)

    for _ in range(30):  # until delivery rests
        world.run(0.05)
        if any(map(copies, world.log)):
            break
    world.log.clear()
    look(world, 0)
    assert not any(map(copies, world.log))
    replayed = look(world, 0, replay=True)
    assert [(kept.peer, kept.alive, kept.count) for kept in replayed.piles] == [("n3", True, 1)]
    assert any(map(copies, world.log))


def test_replay_while_the_peer_is_down_changes_nothing() -> None:
    world = World(3)
    world.stop(2)
    world.settle()
    world.put(0, "k", "v")
    assert look(world, 0, replay=True).piles == look(world, 0).piles


@pytest.mark.parametrize(
    "answer",
    [
        HintPiles(1, "n1", 5, [PileRow(9, True, 1, 1, 1, 1, 0, 0)], [], 0, 0),
    ],
)
def test_an_answer_that_makes_no_sense_is_an_error_with_advice(answer: HintPiles) -> None:
    with pytest.raises(ConnectionLost, match="check its version"):
        node_hints(answer, {0: "n1"})
