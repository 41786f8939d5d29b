"""What nodes tell each other of their stores, held against its transcript.

Covers `peering/introductions.py` and `replica/identity.py`.
"""

from basestore.consistency import Level
from tests.worlds.transcripts import Transcribe
from tests.worlds.world import World


def test_a_node_whose_store_was_wiped_learns_that_it_had_one_and_gets_it_back(transcript: Transcribe) -> None:
    world = World(3)
    world.put(0, "k", "v", Level.ALL)
    world.wipe(2)
    with transcript(world) as scene:
        scene("n3 starts on an empty store: its peers remember the last one")
        world.start(2)
        world.settle()
        scene("it recovers from both")
        world.run(2)
    assert world.values("k") == [b"v"] * 3
