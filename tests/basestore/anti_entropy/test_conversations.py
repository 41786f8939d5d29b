"""Exchanges word by word, held against their transcripts.

Covers `anti_entropy/exchange.py` and `comparison.py`.
"""

from basestore.consistency import Level
from basestore.protocol.registry import NUMBERS
from tests.worlds.exchanges import WORDS, talk, two, write
from tests.worlds.transcripts import Transcribe
from tests.worlds.world import World

ALL_ELSE = [kind for kind in NUMBERS if kind not in WORDS]


def miss(world: World, *written: tuple[int, str]) -> None:
    """Each node writes alone, and the other never learns of it."""
    world.part(0, 1)
    for index, key in written:
        world.set(index, key, "v", Level.ONE)
    world.settle()
    world.run(1.2)
    world.join(0, 1)
    world.run(0.6)


def test_an_exchange_after_an_outage_brings_what_was_missed_and_the_next_finds_both_equal(
    transcript: Transcribe,
) -> None:
    world = two()
    write(world, 3, "before")
    talk(world)
    write(world, 20, "meanwhile", missed_by=1)
    with transcript(world) as scene:
        scene("n2 missed twenty writes since the last certificate; n1 opens an exchange")
        talk(world)
        scene("and another one")
        talk(world)
    assert world.node(1).summaries.of[0].count == 23


def test_each_side_gets_what_it_lacks_first_by_sums_then_by_what_has_changed(transcript: Transcribe) -> None:
    world = two()
    world.put(0, "both", "v", Level.ALL)
    miss(world, (0, "of n1"), (1, "of n2"))
    with transcript(world, ALL_ELSE) as scene:
        scene("there is no certificate: the leaves that differ are found by sums, and listed by digests")
        talk(world)
        scene("nothing has changed since: the roots are equal")
        talk(world)
        miss(world, (0, "three"), (0, "more"), (0, "of n1 alone"), (1, "one more of n2"))
        scene("each lists and wants by runs of numbers: n2 has less to say, so n2 lists")
        talk(world)
    for node in world.running:
        assert node.summaries.of[0].count == 7
        assert [node.metrics.counts[f"exchanges_{kind}"] for kind in ("full", "same", "delta")] == [1, 1, 1]
