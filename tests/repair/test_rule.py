"""The laws of rules, for all of them, equal versions with different digests included."""

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
    assert rule.winner(a, b).digest == (min if rule is Rule.FIRST_WRITE_WINS else max)(a.digest, b.digest)


@pytest.mark.parametrize(
    ("rule", "implied"),
    [
        (Rule.LAST_WRITE_WINS, (False, False, False, False)),
        (Rule.FIRST_WRITE_WINS, (True, True, True, False)),
        (Rule.REGISTER, (False, False, False, True)),
        (Rule.FIRST_WRITE_AGREED, (True, False, False, True)),
    ],
    ids=str,
)
def test_what_each_rule_implies(rule: Rule, implied: tuple[bool, ...]) -> None:
    assert (rule.immutable, rule.reads_first, rule.final_when_stable, rule.serial) == implied
    assert rule.plain == (rule is Rule.LAST_WRITE_WINS)


@pytest.mark.parametrize("rule", Rule)
def test_a_rule_travels_as_its_value(rule: Rule) -> None:
    assert Rule(rule.value) is rule


@pytest.mark.parametrize("rule", Rule)
def test_a_rule_has_a_name_for_users_and_one_that_travels(rule: Rule) -> None:
    assert Rule.of(rule.word, agreed=rule.agreed) is rule is Rule(rule.value)
    assert str(rule) == (f"{rule.word}, agreed" if rule.agreed else rule.word)


@pytest.mark.parametrize(
    ("word", "agreed", "said"),
    [
        ("newest", False, "is last-write-wins or first-write-wins or register, not 'newest'"),
        ("first-write-wins-agreed", True, "not 'first-write-wins-agreed'"),
        ("register", True, "give up `agreed`, or rule register for first-write-wins"),
    ],
)
def test_a_name_that_no_rule_has_is_refused_with_those_that_there_are(
    word: str, agreed: bool, said: str
) -> None:
    with pytest.raises(ValueError, match=said):
        Rule.of(word, agreed=agreed)
