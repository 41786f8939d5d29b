"""Exchanges word by word, held against their transcripts."""

from tests.worlds.exchanges import talk, two, write
from tests.worlds.transcripts import Transcribe


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


def test_without_a_certificate_the_sums_say_where_to_look(transcript: Transcribe) -> None:
    world = two()
    write(world, 40, "both")
    write(world, 1, "one", missed_by=1)
    with transcript(world) as scene:
        scene("n2 lacks one record of 41, and there is no certificate; n1 opens an exchange")
        talk(world)
    assert world.node(1).summaries.of[0].count == 41
