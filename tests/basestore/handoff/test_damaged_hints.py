"""A hint that may be all that there is of a write is damaged: nobody knows whether the write is anywhere, and
that is said.

Covers `Hints.damaged`, and what `late_hints.py` does with such hints.
"""

from collections.abc import Collection

import pytest

from basestore.consistency import Level
from basestore.handoff.pile import decode_hint
from basestore.storage.keyspace import HINT, whole
from tests.worlds.following import converged, loss_accepted
from tests.worlds.late_hints import hints, keep_late, rejoin
from tests.worlds.world import World


def spoil_hints(world: World, at: int, members: Collection[int]) -> None:
    """Change a byte of the value in hints on a node's disk."""
    engine = world.engines[at]
    for key, stored in list(engine.scan(*whole(HINT))):
        if any(key.startswith(pile.key(b"")) for pile in world.node(at).hints.piles if pile.index in members):
            assert decode_hint(stored).record.value
            engine.apply({key: stored[:-1] + bytes((stored[-1] ^ 1,))})
    engine.sync()


def only_copies(replication: int) -> tuple[World, int]:
    """A write at ANY was taken while its replicas were down; and by whom."""
    world = World(4, replication=replication, reconcile=True)
    world.run(5)
    keeper = world.outsider("k")
    for replica in world.replicas("k"):
        world.crash(replica)
    world.run(8)
    assert world.put(keeper, "k", "v", Level.ANY)
    return world, keeper


@pytest.mark.parametrize("replication", [1, 2, 3])
def test_a_damaged_only_copy_is_a_loss_until_it_is_accepted(replication: int) -> None:
    world, keeper = only_copies(replication)
    replicas = world.replicas("k")
    spoil_hints(world, keeper, replicas)
    for replica in replicas:
        world.start(replica)
    world.run(60)
    assert b"v" not in world.values("k")
    found = converged(world)
    assert not found.proven
    lost = [obstacle.nodes for obstacle in found.obstacles if obstacle.kind == "lost"]
    assert lost == [(f"n{keeper + 1}",)]
    world.restart(keeper)
    world.run(5)
    assert world.state(keeper).loss is not None
    world.stop(keeper)
    world.run(3)
    at = replicas[0]
    assert not converged(world, at, timeout_s=5).proven  # its replicas know of it too
    world.start(keeper)
    world.run(5)
    assert loss_accepted(world, at).complete
    assert converged(world, at).proven
    assert world.node(keeper).losses.all_open == []


def test_where_a_hint_for_another_member_is_sound_nothing_is_lost() -> None:
    world, keeper = only_copies(3)
    spoiled, other, sound = world.replicas("k")
    spoil_hints(world, keeper, {spoiled, other})
    for replica in (spoiled, other, sound):
        world.start(replica)
        world.run(5)
    assert world.node(keeper).metrics.counts["hints_damaged"] == 2
    assert world.node(keeper).losses.all_open == []
    assert converged(world).proven
    assert [world.values("k")[replica] for replica in world.replicas("k")] == [b"v"] * 3


def test_a_late_hint_that_is_damaged_is_not_written_anew_and_is_a_loss() -> None:
    world = World(4, reconcile=True)
    keeper = keep_late(world)
    rejoin(world, keeper)
    assert [pile.late for pile in hints(world, keeper).piles] == [1] * 3
    spoil_hints(world, keeper, range(4))
    hints(world, keeper, replay=True, late=True)
    world.run(2)
    assert not world.look(0, "k").found
    assert not any(pile.count for pile in hints(world, keeper).piles)
    assert "lost" in {obstacle.kind for obstacle in converged(world).obstacles}
