"""Laws of merging hints."""

from functools import reduce

from hypothesis import given
from hypothesis import strategies as st

from repair.rule import Rule
from repair.write_repair import Hint, merge_hints
from tests.repair.records import records

rules = st.sampled_from(Rule)
hints = st.builds(Hint, records(), st.booleans())


@given(rules, hints)
def test_the_first_hint_is_kept_and_a_repetition_changes_nothing(rule: Rule, hint: Hint) -> None:
    assert merge_hints(rule, None, hint) == hint
    assert merge_hints(rule, hint, hint) == hint


@given(rules, hints, hints)
def test_the_record_kept_is_the_rules_winner(rule: Rule, a: Hint, b: Hint) -> None:
    assert merge_hints(rule, a, b).record == rule.winner(a.record, b.record)


@given(rules, hints, hints)
def test_the_order_does_not_matter(rule: Rule, a: Hint, b: Hint) -> None:
    assert merge_hints(rule, a, b) == merge_hints(rule, b, a)


@given(rules, hints, hints, hints)
def test_the_grouping_does_not_matter(rule: Rule, a: Hint, b: Hint, c: Hint) -> None:
    assert merge_hints(rule, merge_hints(rule, a, b), c) == merge_hints(rule, a, merge_hints(rule, b, c))


@given(rules, st.lists(hints, min_size=1, max_size=6))
def test_an_only_copy_is_one_no_more_once_it_is_known_to_be_held_elsewhere(
    rule: Rule, offered: list[Hint]
) -> None:
    kept = reduce(lambda a, b: merge_hints(rule, a, b), offered)
    assert kept.only_copy == all(hint.only_copy for hint in offered if hint.record == kept.record)
