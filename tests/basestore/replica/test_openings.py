"""A store that was opened anew counts only with those who would know of it after a power cut.

Covers the end of an introduction, in `replica/identity.py` and `peering/introductions.py`.
"""

import pytest

from basestore.consistency import Level, Outcome
from basestore.errors import Unavailable
from basestore.protocol.heartbeats import Confirmed, Remembered
from tests.worlds.world import World


def test_a_peer_counts_only_once_it_is_durable_that_it_was_opened() -> None:
    world = World(3)
    world.freeze(1)
    world.restart(0)
    world.run(3)
    assert not world.node(1).peers.alive[0]
    world.thaw(1)
    world.run(0.1)
    assert world.node(1).peers.alive[0]


def test_a_disk_that_hangs_keeps_no_others_from_counting_each_other() -> None:
    world = World(3)
    world.freeze(1)
    world.restart(0)
    world.run(0.2)
    assert world.node(0).state == "up"
    assert world.node(2).peers.alive[0]
    assert world.node(0).peers.alive == [True] * 3
    assert world.put(0, "k", "v").outcome is Outcome.STORED


@pytest.mark.parametrize(("count", "replication"), [(2, 1), (2, 2), (3, 1), (3, 3)])
def test_a_store_counts_only_once_a_peer_knows_for_good_that_it_was_opened(
    count: int, replication: int
) -> None:
    world = World(count, replication=replication)
    world.lose = lambda sent: isinstance(sent.message, Confirmed) and sent.source == 0
    world.restart(0)
    world.run(5)
    assert world.node(0).state == "starting"
    assert "on its disk" in world.node(0).reason
    mine = next(key for key in map(str, range(99)) if 0 in world.replicas(key))
    with pytest.raises(Unavailable):
        world.put(0, mine, "v", Level.ALL)
    world.lose = lambda _: False
    world.freeze(*range(1, count))
    world.run(5)
    assert world.node(0).state == "starting"
    world.thaw(1)
    world.run(0.1)
    assert world.node(0).state == "up"


@pytest.mark.parametrize("lost", [Confirmed, Remembered])
@pytest.mark.parametrize(("count", "replication"), [(2, 1), (2, 2), (3, 1), (3, 2), (3, 3)])
def test_all_come_back_together_whatever_word_is_lost_at_first(
    lost: type, count: int, replication: int
) -> None:
    world = World(count, replication=replication)
    for index in range(count):
        world.crash(index)
    world.lose = lambda sent: isinstance(sent.message, lost)
    for index in range(count):
        world.start(index)
    world.run(1)
    assert not any(node.linked for node in world.running)
    world.lose = lambda _: False
    world.run(3)
    assert all(node.linked for node in world.running)


def test_no_quorum_is_made_up_with_a_store_of_whose_opening_a_power_cut_would_leave_nothing() -> None:
    """After such a cut a file system that is put back would pass for what it was, without the write."""
    world = World(3)
    world.part(0, 2)
    world.freeze(1)
    world.stop(0)
    world.start(0)
    world.run(0.5)
    call = world.set(1, "k", "v", Level.QUORUM)
    world.run(0.5)
    assert not call.done
    world.thaw(1)
    world.run(0.5)
    assert call.receipt().outcome is Outcome.STORED
