"""Laws of merging hints."""

from functools import reduce

from hypothesis import given
from hypothesis import strategies as st

from basestore.repair.rule import Rule
from basestore.repair.version import Digester, Record, Version
from basestore.repair.write_repair import Hint, admits, given_up, merge_hints
from tests.worlds.records import records

rules = st.sampled_from(Rule)
hints = st.builds(Hint.of, records(), st.booleans())


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
def test_the_grouping_does_not_matter_for_what_is_kept_and_since_when(
    rule: Rule, a: Hint, b: Hint, c: Hint
) -> None:
    left = merge_hints(rule, merge_hints(rule, a, b), c)
    right = merge_hints(rule, a, merge_hints(rule, b, c))
    assert (left.record, left.since) == (right.record, right.since)


@given(rules, st.lists(hints, min_size=1, max_size=6))
def test_it_stands_for_every_write_that_was_offered(rule: Rule, offered: list[Hint]) -> None:
    kept = reduce(lambda a, b: merge_hints(rule, a, b), offered)
    assert kept.since == min(hint.since for hint in offered)


@given(rules, records(), st.booleans(), st.booleans(), st.sampled_from([b"", bytes(16)]))
def test_an_only_copy_is_one_no_more_once_a_store_is_known_to_hold_it(
    rule: Rule, record: Record, before: bool, now: bool, stores: bytes
) -> None:
    kept = merge_hints(rule, Hint.of(record, before), Hint.of(record, now and not stores, stores))
    assert kept.only_copy == ((before or (now and not stores)) and not stores)


def test_what_stands_for_an_only_copy_stays_one_though_it_is_kept_twice() -> None:
    digester = Digester(bytes(32))
    first, then = (
        Record.seal(digester, b"row", Version(stamp, 1, 1), b"", tombstone=True) for stamp in (1, 2)
    )
    kept = merge_hints(Rule.LAST_WRITE_WINS, Hint.of(first, only_copy=True), Hint.of(then, only_copy=False))
    for _ in range(2):
        assert kept.only_copy
        kept = merge_hints(Rule.LAST_WRITE_WINS, kept, Hint.of(then, only_copy=False))


@given(rules, hints, hints)
def test_what_takes_an_only_copys_place_is_as_precious(rule: Rule, a: Hint, b: Hint) -> None:
    if a.record != b.record:
        assert merge_hints(rule, a, b).only_copy == (a.only_copy or b.only_copy)


@given(hints, st.integers(0, 1 << 20), st.integers(0, 1 << 20), st.integers(0, 1 << 20))
def test_only_copies_have_half_as_much_room_and_never_age(
    hint: Hint, kept: int, more: int, bytes_max: int
) -> None:
    room = bytes_max // 2 if hint.only_copy else bytes_max
    assert admits(hint, kept, more, bytes_max) == (kept + more <= room)
    written_ms = hint.since >> 16
    assert not given_up(hint, written_ms + 1000, 1000)
    assert given_up(hint, written_ms + 1001, 1000) is not hint.only_copy
