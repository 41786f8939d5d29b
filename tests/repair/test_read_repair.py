"""`plan` against a twin that says the same in the longest way; and verdicts: what is known to be chosen of a
register, by what its replicas say."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from basestore.consistency import Level, quorums
from basestore.repair.read_repair import NOTHING, Agreed, Seen, agreed, findable, plan, reaches
from basestore.repair.rule import Rule
from basestore.repair.version import HEAD_BYTES, RECORD_BYTES_MIN, VERSION_BYTES, Digester, Record, Version
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


# --- verdicts ------------------------------------------------------------------------------------

NOW = 7  # the present epoch of the seats


def record(stamp: int) -> bytes:
    whole = Record.seal(Digester(bytes(32)), b"\0\0\1bk", Version(stamp, 1, 1), b"v", descent=bytes(48))
    return whole.blob[:RECORD_BYTES_MIN]


U, V, W = record(1), record(2), record(3)
HAS_V, NONE = Seen(V), Seen(b"")


def accepted(learned: bytes, later: bytes, since: int = NOW, *, votes: bool = True) -> Seen:
    return Seen(learned, later, since, votes)


@pytest.mark.parametrize(
    ("seen", "chosen", "pending"),
    [
        ([NONE, NONE, NONE], b"", b""),
        ([HAS_V, HAS_V, HAS_V], V, b""),
        ([HAS_V, NONE, NONE], V, b""),  # whoever has learned it says that it is chosen
        ([Seen(U), HAS_V, Seen(U)], V, b""),
        ([accepted(V, W), accepted(V, W), HAS_V], W, b""),
        ([accepted(V, W), accepted(b"", W)], W, b""),
        ([accepted(V, W), HAS_V, HAS_V], V, W),
        ([accepted(b"", W), NONE, NONE], b"", W),
        ([accepted(V, W), Seen(W), HAS_V], W, b""),
        # By some, and others have accepted an earlier one: neither is known to be chosen.
        ([accepted(U, W), accepted(U, V), Seen(U)], U, W),
        # Under other seats a quorum may have been another; and only acceptors count for one.
        ([accepted(V, W, NOW - 1), accepted(V, W, NOW - 1), HAS_V], V, W),
        ([accepted(V, W), accepted(V, W, NOW - 1), HAS_V], V, W),
        ([accepted(V, W), accepted(V, W, votes=False), HAS_V], V, W),
        # What was accepted and is not later than what is learned says nothing.
        ([accepted(V, U), HAS_V, HAS_V], V, b""),
    ],
)
def test_what_is_known_to_be_chosen(seen: list[Seen], chosen: bytes, pending: bytes) -> None:
    met = quorums((0, 1, 2), (0, 1, 2))[Level.SERIAL].met
    assert agreed(dict(enumerate(seen)), NOW, met) == Agreed(chosen, pending)


@pytest.mark.parametrize(("who", "chosen"), [((0, 1, 2), False), ((0, 1, 3), True), ((1, 3, 4), False)])
def test_while_seats_are_joint_a_quorum_of_both_must_have_accepted(
    who: tuple[int, ...], chosen: bool
) -> None:
    met = quorums((0, 1, 2), (1, 3, 4))[Level.SERIAL].met
    seen = {at: accepted(V, W) if at in who else HAS_V for at in range(5)}
    told = agreed(seen, NOW, met)
    assert told == (Agreed(W, b"") if chosen else Agreed(V, W))


def test_a_read_may_find_what_some_quorum_knows() -> None:
    met = quorums((0, 1, 2), (0, 1, 2))[Level.SERIAL].met
    v, w = Version.decode(V[:24]), Version.decode(W[:24])

    def found(*seen: Seen) -> object:
        heads = {at: each.greatest[:HEAD_BYTES] for at, each in enumerate(seen)}
        return findable(Rule.REGISTER, heads, met)

    assert found(accepted(V, W), HAS_V, HAS_V) == (w, v)
    assert found(accepted(V, W), accepted(V, W), HAS_V) == (w,)
    assert found(accepted(V, W), HAS_V) == (w,)  # of the third nothing is known: nobody can do without both
    assert found(HAS_V) is None
    assert found(NONE, NONE, NONE) == (None,)
