"""Whole conversations of a coordinator and its replicas, held against their transcripts.

Covers `coordinator/quorum_write.py` and `quorum_read.py`.
"""

from basestore.consistency import Level
from tests.worlds.transcripts import Transcribe
from tests.worlds.world import World


def test_a_quorum_write_goes_on_without_a_dead_replica_and_its_hint_is_delivered(
    transcript: Transcribe,
) -> None:
    world = World(3)
    world.stop(2)
    world.settle()
    with transcript(world) as scene:
        scene("n3 is down; n1 takes a write at QUORUM and keeps a hint for n3")
        world.put(0, "k", "v")
        scene("n3 is back: each tells the other of its store, then n1 delivers the hint")
        world.start(2)
        world.run(2)
    assert world.values("k") == [b"v"] * 3
    assert world.node(0).hints.count(2) == 0


def test_a_quorum_read_repairs_a_stale_replica_before_it_answers(transcript: Transcribe) -> None:
    world = World(3)
    world.put(0, "k", "old", Level.ALL)
    version = world.stamp()
    for index in (0, 2):
        world.plant(index, "k", "new", version)
    with transcript(world) as scene:
        scene("n2 alone holds the older record; n1 reads at QUORUM, from itself and n2")
        assert world.look(0, "k").value == b"new"
    assert world.values("k") == [b"new"] * 3
