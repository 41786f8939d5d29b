"""Debts end once it is proven that what was owed is lacking no more; late hints wait for an operator.

Covers `handoff/debts.py` and `late_hints.py`.
"""

import pytest

from basestore.client.calls import Calls
from basestore.errors import InvalidRequest
from basestore.protocol.operator import HintsOf, Replay
from basestore.protocol.replication import Read
from tests.worlds.following import converged
from tests.worlds.late_hints import hints, keep_late, rejoin
from tests.worlds.world import World, number_of


def owing(world: World) -> None:
    """n3 has missed a write of k, and there was no room for a hint."""
    world.part(0, 2)
    world.part(1, 2)
    world.run(1)
    world.put(0, "k", "v")


def reunite(world: World) -> None:
    world.join(0, 2)
    world.join(1, 2)


def ended(world: World, at: int = 0) -> int:
    return world.node(at).metrics.counts["debts_ended"]


# --- debts ------------------------------------------------------------------------------------------


def test_a_debt_ends_when_all_that_was_owed_is_stable() -> None:
    world = World(3, reconcile=True, hint_bytes_max=0)
    owing(world)
    world.run(20)
    assert len(world.node(0).debts.of[2]) == 1
    reunite(world)
    world.run(2)
    assert len(world.node(0).debts.of[2]) == 1  # it may be there by now; that is not proven
    assert converged(world).proven
    world.run(6)
    assert len(world.node(0).debts.of[2]) == 0
    assert ended(world) == 1
    assert hints(world, 0).piles == ()
    assert len(world.restart(0).debts.of[2]) == 0


def test_a_debt_that_was_added_to_ends_only_with_its_last_write() -> None:
    world = World(3, reconcile=True, hint_bytes_max=0)
    owing(world)
    world.run(20)
    world.put(0, "k", "again")
    reunite(world)
    world.run(4)
    assert len(world.node(0).debts.of[2]) == 1
    assert converged(world).proven
    world.run(6)
    assert len(world.node(0).debts.of[2]) == 0


def test_a_debt_from_before_a_restart_ends_when_all_up_to_the_start_is_stable() -> None:
    world = World(3, reconcile=True, hint_bytes_max=0)
    owing(world)
    world.restart(0)
    world.part(0, 2)
    world.run(12)
    assert len(world.node(0).debts.of[2]) == 1
    reunite(world)
    world.run(2)
    assert converged(world).proven
    world.run(8)
    assert len(world.node(0).debts.of[2]) == 0


def test_of_partitions_that_others_hold_a_replica_is_asked() -> None:
    world = World(4, reconcile=True, hint_bytes_max=0)
    keeper = world.outsider("k")
    late = world.replicas("k")[2]
    for other in range(4):
        if other != late:
            world.part(other, late)
    world.run(1)
    world.put(keeper, "k", "v")
    assert len(world.node(keeper).debts.of[late]) == 1
    for other in range(4):
        if other != late:
            world.join(other, late)
    world.run(1)
    assert converged(world, key="k").proven
    world.run(11)
    assert len(world.node(keeper).debts.of[late]) == 0
    assert world.node(keeper).operations.count == 0


def test_while_nobody_answers_a_debt_stays() -> None:
    world = World(3, reconcile=True, hint_bytes_max=0)
    owing(world)
    world.crash(1)
    world.run(30)
    assert len(world.node(0).debts.of[2]) == 1
    assert ended(world) == 0


# --- late hints -------------------------------------------------------------------------------------


def test_a_hint_that_comes_too_late_is_kept_and_shown_and_not_applied() -> None:
    world = World(4, reconcile=True)
    keeper = keep_late(world)
    rejoin(world, keeper)
    piles = hints(world, keeper).piles
    assert [(pile.count, pile.late) for pile in piles] == [(1, 1)] * 3
    world.run(10)
    hints(world, keeper, replay=True)  # not without the word
    world.run(5)
    assert world.look(0, "k").found is False


def outcomes(world: World, at: int) -> dict[str, str]:
    """What clients' requests at a node came to."""
    facts = world.node(at).metrics.facts()
    return {name: count for name, count in facts.items() if name.startswith("requests ")}


def test_at_an_operators_word_it_is_written_anew() -> None:
    world = World(4, reconcile=True)
    keeper = keep_late(world)
    rejoin(world, keeper)
    hints(world, keeper, replay=True, late=True)
    world.run(1)
    result = world.look(0, "k")
    assert result.value == b"v"
    assert result.version is not None
    assert result.version.origin >> 48 == number_of(keeper) + 1
    counts = world.node(keeper).metrics.counts
    assert counts["hints_late_rewritten"] >= 1
    assert counts["hints_late_rewritten"] + counts["hints_late_superseded"] == 3
    assert hints(world, keeper).piles == ()
    assert converged(world).proven


def test_what_an_operator_has_written_anew_is_no_clients_request() -> None:
    world = World(4, reconcile=True)
    keeper = keep_late(world)
    rejoin(world, keeper)
    before = outcomes(world, keeper)
    hints(world, keeper, replay=True, late=True)
    world.run(1)
    assert world.node(keeper).metrics.counts["hints_late_rewritten"] >= 1
    assert outcomes(world, keeper) == before


def test_what_is_newer_makes_it_void() -> None:
    world = World(4, reconcile=True)
    keeper = keep_late(world)
    world.put(world.replicas("k")[0], "k", "newer")
    rejoin(world, keeper)
    hints(world, keeper, replay=True, late=True)
    world.run(1)
    assert world.look(0, "k").value == b"newer"
    counts = world.node(keeper).metrics.counts
    assert counts["hints_late_rewritten"] == 0
    assert hints(world, keeper).piles == ()


def test_when_a_quorum_cannot_be_read_it_stays_for_the_next_time() -> None:
    world = World(4, reconcile=True)
    keeper = keep_late(world)
    rejoin(world, keeper)
    world.lose = lambda sent: sent.source == keeper and isinstance(sent.message, Read)
    hints(world, keeper, replay=True, late=True)
    world.run(8)
    assert [pile.late for pile in hints(world, keeper).piles] == [1] * 3
    world.lose = lambda _: False
    world.run(2)
    hints(world, keeper, replay=True, late=True)
    world.run(2)
    assert hints(world, keeper).piles == ()
    assert world.look(0, "k").value == b"v"


def test_late_hints_are_decided_by_a_replay_only() -> None:
    calls = Calls("quorum", 1.0)
    with pytest.raises(InvalidRequest, match="by a replay only"):
        calls.hints(replay=False, late=True)
    assert calls.hints(replay=True, late=True).make(3) == Replay(3, True)
    assert calls.hints(replay=False, late=False).make(3) == HintsOf(3)
