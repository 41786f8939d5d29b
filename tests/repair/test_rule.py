"""The laws of rules, for both of them, equal versions with different digests included."""

from functools import reduce

import pytest
from hypothesis import given
from hypothesis import strategies as st

from basestore.repair.rule import Rule
from basestore.repair.version import Record, Version
from tests.worlds.records import DIGESTER, ROW, records

rules = st.sampled_from(Rule)


@given(rules, records(), records())
def test_winner_is_commutative(rule: Rule, a: Record, b: Record) -> None:
    assert rule.winner(a, b) == rule.winner(b, a)


@given(rules, records(), records(), records())
def test_winner_is_associative(rule: Rule, a: Record, b: Record, c: Record) -> None:
    assert rule.winner(a, rule.winner(b, c)) == rule.winner(rule.winner(a, b), c)


@given(rules, records())
def test_winner_is_idempotent(rule: Rule, a: Record) -> None:
    assert rule.winner(a, a) == a


@given(rules, records(), records())
def test_winner_decides_every_pair(rule: Rule, a: Record, b: Record) -> None:
    assert rule.winner(a, b) in (a, b)


@given(rules, records(), records())
def test_of_two_different_records_exactly_one_beats_the_other(rule: Rule, a: Record, b: Record) -> None:
    assert rule.beats(a.head, b.head) + rule.beats(b.head, a.head) == (a != b)


@given(rules, st.lists(records(), min_size=1, max_size=6), st.randoms(use_true_random=False))
def test_replicas_that_saw_the_same_records_hold_the_same(rule: Rule, seen: list[Record], random) -> None:  # type: ignore[no-untyped-def]
    shuffled = [*seen, random.choice(seen)]
    random.shuffle(shuffled)
    assert reduce(rule.winner, seen) == reduce(rule.winner, shuffled)


@given(records(), records())
def test_the_last_write_wins_or_the_first(a: Record, b: Record) -> None:
    later, earlier = (a, b) if a.version > b.version else (b, a)
    if a.version != b.version:
        assert Rule.LAST_WRITE_WINS.winner(a, b) == later
        assert Rule.FIRST_WRITE_WINS.winner(a, b) == earlier


@pytest.mark.parametrize("rule", Rule)
def test_equal_versions_are_decided_by_the_digest(rule: Rule) -> None:
    version = Version(1, 1, 1)
    a, b = (Record.seal(DIGESTER, ROW, version, value) for value in (b"a", b"b"))
    assert a.version == b.version
    assert rule.winner(a, b) == rule.winner(b, a)
    assert rule.winner(a, b).digest == (max if rule is Rule.LAST_WRITE_WINS else min)(a.digest, b.digest)


def test_only_where_the_first_write_wins_are_records_immutable_and_wins_final() -> None:
    for rule in Rule:
        implied = (rule.immutable, rule.reads_first, rule.final_when_stable)
        assert implied == (rule is Rule.FIRST_WRITE_WINS,) * 3


@pytest.mark.parametrize("rule", Rule)
def test_a_rule_travels_as_its_value(rule: Rule) -> None:
    assert Rule(rule.value) is rule
