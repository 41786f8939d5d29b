"""Damage: a record that does not read as it was written counts for nothing, and what follows from that lasts.

Covers `replica/replica.py` (the door), `anti_entropy/healing.py`, `maintenance.py` and `scrub.py` as to
records whose digest does not fit.
"""

import pytest

from basestore.consistency import Level
from basestore.errors import ReplicaFailure
from basestore.handoff.pile import encode_hint
from basestore.protocol.replication import COPY, DIRECT, Apply, Hinted, Rejected
from basestore.repair.version import Record
from basestore.storage.keyspace import DATA
from tests.worlds.exchanges import check_summaries
from tests.worlds.following import converged, loss_accepted
from tests.worlds.world import World


def damaged(world: World, index: int, key: str) -> bytes:
    """One bit of a stored record is another. Returns what it was."""
    good = world.engines[index].get(DATA + world.row(key))
    assert good is not None
    world.spoil(index, key)
    return good


def checked(world: World) -> None:
    """All has been healed and counted anew."""
    world.run(6)
    for index, node in enumerate(world.nodes):
        if node is not None:
            assert not node.replica.damaged
            assert not node.maintenance.suspects
            check_summaries(world, index)


@pytest.mark.parametrize("heals_first", [False, True])
def test_a_record_that_was_damaged_once_and_is_sound_after_a_restart_is_counted_once(
    heals_first: bool,
) -> None:
    """The sums no longer counted it, and then counted it out once more: below 0, no node could start."""
    world = World(3, partitions=1)
    world.put(0, "k", "v", Level.ALL)
    good = damaged(world, 0, "k")
    world.isolate(0)
    world.get(0, "k", Level.ONE)
    world.node(0).maintenance.examine(0)
    world.run(1)
    assert world.node(0).replica.damaged
    if heals_first:
        world.rejoin(0)
        world.run(1.3)  # healed, and perhaps not counted anew yet
    world.crash(0)
    if not heals_first:
        world.engines[0].apply({DATA + world.row("k"): good})
        world.engines[0].sync()
    world.rejoin(0)
    world.start(0)
    world.run(1)
    world.delete(1, "k", Level.ALL)
    world.run(1)
    assert world.node(0).summaries.of[0].live == 0
    assert world.node(0).summaries.of[0].count == 1
    checked(world)


def test_a_count_below_zero_is_recounted_and_ends_no_node() -> None:
    world = World(3, partitions=1)
    world.put(0, "k", "v", Level.ALL)
    summary = world.node(0).summaries.of[0]
    summary.count = summary.live = 0
    world.delete(1, "k", Level.ALL)
    world.settle()
    assert summary.live == -1
    world.restart(0)
    checked(world)
    assert world.node(0).summaries.of[0].count == 1


@pytest.mark.parametrize("way", [DIRECT, COPY])
def test_a_record_that_was_damaged_on_its_way_is_not_stored(way: int) -> None:
    world = World(3, partitions=1)
    row = world.row("k")
    record = Record.seal(world.digester, row, world.stamp(), b"value")
    forged = record.blob[:-1] + b"?"
    outbox = world.links[0, 1]
    world.node(0).receive(1, outbox, [Apply(7, row, forged, way, 0)], world.now(0))
    world.settle()
    answers = [sent.message for sent in world.log if sent.source == 0]
    assert [answer for answer in answers if isinstance(answer, Rejected)][-1].reason.endswith(
        "it is not stored"
    )
    assert world.stored(0, "k") is None
    assert not world.node(0).replica.damaged


def test_a_hint_that_was_damaged_is_not_stored_nor_delivered() -> None:
    world = World(3, partitions=1, reconcile=True)
    row = world.row("k")
    record = Record.seal(world.digester, row, world.stamp(), b"value")
    world.node(0).receive(1, world.links[0, 1], [Hinted(7, row, record.blob[:-1] + b"?", b"")], world.now(0))
    world.settle()
    assert world.stored(0, "k") is None

    world.crash(2)
    world.run(3)
    world.put(0, "k", "v")
    world.run(1)
    pile = next(pile for pile in world.node(0).hints.piles if pile.count)
    hint = world.node(0).hints.kept(pile, row)
    assert hint is not None
    blob = hint.record.blob
    spoiled = hint._replace(record=Record(blob[:-1] + b"?"))
    world.node(0).hints.settle(pile, row, hint, "hints_delivered")
    pile.add(spoiled, row, 1)
    world.node(0).group_commit.stage(pile.key(row), encode_hint(spoiled))
    world.node(0).group_commit.stage(pile.age_key(spoiled, row), b"")
    world.settle()
    world.start(2)
    world.run(8)
    assert world.node(0).metrics.counts["hints_damaged"] == 1
    assert not world.node(0).hints.count(2)
    assert world.values("k") == [b"v"] * 3


def test_a_key_that_is_damaged_everywhere_can_be_written_again_once_its_loss_is_accepted() -> None:
    world = World(3, partitions=1, reconcile=True)
    world.put(0, "k", "v", Level.ALL)
    world.put(0, "k", "v", Level.ALL, bucket="once")
    for index in range(3):
        damaged(world, index, "k")
        world.spoil(index, "k", "once")
    for index in range(3):
        with pytest.raises(ReplicaFailure):
            world.look(index, "k")
        with pytest.raises(ReplicaFailure):
            world.look(index, "k", bucket="once")
    world.run(10)
    found = converged(world, timeout_s=60)
    assert not found.proven
    assert {obstacle.kind for obstacle in found.obstacles} >= {"lost"}
    assert loss_accepted(world, timeout_s=20).complete
    world.run(3)
    for bucket in ("default", "once"):
        assert not world.look(0, "k", bucket=bucket).found
        assert world.put(1, "k", "w", Level.ALL, bucket=bucket)
    checked(world)
    assert loss_accepted(world, timeout_s=20).complete
    assert converged(world, timeout_s=60).proven


def test_damage_that_nobody_can_heal_does_not_keep_others_from_being_healed() -> None:
    world = World(3, partitions=1, reconcile=True)
    for at in range(70):
        world.put(0, f"k{at}", "v", Level.ALL)
    world.put(0, "z", "v", Level.ALL)
    for at in range(70):
        for index in range(3):
            damaged(world, index, f"k{at}")
            world.node(index).replica.holds(world.row(f"k{at}"), b"")
    world.run(4)
    damaged(world, 0, "z")
    world.node(0).replica.holds(world.row("z"), b"")
    world.run(6)
    assert world.row("z") not in world.node(0).replica.damaged
    assert len(world.node(0).replica.damaged) == 70


def test_a_lone_node_says_that_a_damaged_record_is_lost() -> None:
    """There is nobody to heal it; it was proven for good."""
    world = World(1, partitions=1)
    receipt = world.put(0, "k", "v")
    world.run(30)
    assert converged(world, timeout_s=60).proven
    damaged(world, 0, "k")
    with pytest.raises(ReplicaFailure, match="where there is none, `basestore status` shows a loss"):
        world.look(0, "k")
    world.run(1)
    found = converged(world, receipt=receipt, timeout_s=60)
    assert not found.proven
    texts = [obstacle.text for obstacle in found.obstacles if obstacle.kind == "lost"]
    assert texts == ["writes may be lost: n1 recovered from 0 of 1 sources needed"]
    assert loss_accepted(world).complete
    world.run(1)
    assert world.put(0, "k", "w")
    assert converged(world, timeout_s=60).proven


def test_a_record_healed_from_too_few_sources_is_a_loss() -> None:
    world = World(3, partitions=1, reconcile=True)
    world.put(0, "k", "v", Level.ALL)
    damaged(world, 0, "k")
    damaged(world, 1, "k")
    for index in (0, 1):
        world.node(index).replica.holds(world.row("k"), b"")
    world.run(8)
    assert world.values("k") == [b"v"] * 3
    assert not converged(world, timeout_s=60).proven
    assert loss_accepted(world).complete
    assert converged(world, timeout_s=60).proven


def test_a_write_of_fewer_than_a_quorum_is_not_proven_once_its_record_was_healed_away() -> None:
    world = World(3, partitions=1, reconcile=True, hint_bytes_max=0)
    for other in (1, 2):
        world.part(0, other)
    receipt = world.put(0, "k", "v", Level.ONE)
    damaged(world, 0, "k")
    world.node(0).replica.holds(world.row("k"), b"")
    for other in (1, 2):
        world.join(0, other)
    world.run(8)
    assert world.values("k") == [None] * 3
    assert not converged(world, receipt=receipt, timeout_s=60).proven
    assert converged(world, timeout_s=60).proven  # nothing that a quorum acknowledged is lost
