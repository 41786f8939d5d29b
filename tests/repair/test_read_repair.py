"""`plan` against a twin that says the same in the longest way."""

from hypothesis import given
from hypothesis import strategies as st

from basestore.repair.read_repair import NOTHING, plan, reaches
from basestore.repair.rule import Rule
from basestore.repair.version import VERSION_BYTES, Record
from tests.worlds.records import records

replies = st.dictionaries(st.integers(0, 7), st.just(NOTHING) | records().map(lambda r: r.head), max_size=7)


@given(st.sampled_from(Rule), replies)
def test_a_plan_is_what_the_dumb_twin_says(rule: Rule, replies: dict[int, bytes]) -> None:
    present = [head for head in replies.values() if head]
    best = NOTHING
    for candidate in present:
        if all(candidate == other or rule.beats(candidate, other) for other in present):
            best = candidate
    said = plan(rule, replies)
    assert said.winner == best
    assert set(said.stale) == {replica for replica, head in replies.items() if head != best}
    assert len(said.stale) == len(set(said.stale))
    assert said.confirmed == sum(head == best for head in replies.values())
    assert said.diverged == (len(set(replies.values())) > 1)


@given(st.sampled_from(Rule), replies)
def test_who_took_the_winner_confirms_it(rule: Rule, replies: dict[int, bytes]) -> None:
    said = plan(rule, replies)
    mended = plan(rule, replies | dict.fromkeys(said.stale, said.winner))
    assert mended.winner == said.winner
    assert mended.confirmed == len(replies)
    assert not mended.diverged


@given(st.sampled_from(Rule), records(), records())
def test_a_floor_is_reached_by_its_own_version_and_by_those_that_beat_it(
    rule: Rule, one: Record, other: Record
) -> None:
    floor = one.head[:VERSION_BYTES]
    assert reaches(rule, one.head, floor)
    assert not reaches(rule, NOTHING, floor)
    assert reaches(rule, other.head, b"")
    assert reaches(rule, NOTHING, b"")
    if other.version != one.version:
        assert reaches(rule, other.head, floor) == (rule.winner(one, other) == other)
