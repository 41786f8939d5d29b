"""`plan` against a twin that says the same in the longest way."""

from hypothesis import given
from hypothesis import strategies as st

from repair.read_repair import plan
from repair.rule import Rule
from repair.version import Record
from tests.repair.records import records

replies = st.dictionaries(st.integers(0, 7), st.none() | records(), max_size=7)


@given(st.sampled_from(Rule), replies)
def test_a_plan_is_what_the_dumb_twin_says(rule: Rule, replies: dict[int, Record | None]) -> None:
    present = [record for record in replies.values() if record is not None]
    best: Record | None = None
    for candidate in present:
        if all(rule.winner(candidate, other) == candidate for other in present):
            best = candidate
    said = plan(rule, replies)
    assert said.winner == best
    assert set(said.stale) == {replica for replica, record in replies.items() if record != best}
    assert len(said.stale) == len(set(said.stale))
    assert said.confirmed == sum(record == best for record in replies.values())
    assert said.diverged == (len(set(replies.values())) > 1)


@given(st.sampled_from(Rule), replies)
def test_who_took_the_winner_confirms_it(rule: Rule, replies: dict[int, Record | None]) -> None:
    said = plan(rule, replies)
    mended = plan(rule, replies | dict.fromkeys(said.stale, said.winner))
    assert mended.winner == said.winner
    assert mended.confirmed == len(replies)
    assert not mended.diverged
