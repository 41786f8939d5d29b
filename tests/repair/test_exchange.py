"""Laws of what an exchange decides: runs, roles, snapshots and virtual roots, against dumb sets.

Covers `repair/exchange.py` and `repair/runs.py`.
"""

import hypothesis.strategies as st
import pytest
from hypothesis import given

from basestore.repair.digest_tree import MASK, STAMP_MAX, Summary, digest_of, leaf_of
from basestore.repair.exchange import (
    WHOLE,
    Completeness,
    Merge,
    Snapshot,
    Step,
    decode_digests,
    encode_digests,
    next_step,
)
from basestore.repair.rule import Rule
from basestore.repair.runs import Members, Runs, decode_runs, encode_runs, runs_of, without
from basestore.repair.version import KEY_BYTES, Digester, Record, Version

numbers = st.dictionaries(
    st.integers(0, (1 << 64) - 1), st.sets(st.integers(1, 300), min_size=1, max_size=60), max_size=3
)
stamps = st.integers(0, 20)
DIGESTER = Digester(bytes(KEY_BYTES))


def spelled(runs: Runs) -> dict[int, set[int]]:
    return {o: {n for first, last in spans for n in range(first, last + 1)} for o, spans in runs.items()}


@given(numbers)
def test_runs_come_back_as_they_were_encoded(sets: dict[int, set[int]]) -> None:
    runs = runs_of(sets)
    assert spelled(runs) == sets
    assert decode_runs(encode_runs(runs)) == runs


@given(numbers, numbers)
def test_without_is_the_difference_of_sets(a: dict[int, set[int]], b: dict[int, set[int]]) -> None:
    left = {origin: mine - b.get(origin, set()) for origin, mine in a.items()}
    assert spelled(without(runs_of(a), runs_of(b))) == {origin: rest for origin, rest in left.items() if rest}


@given(numbers, st.lists(st.tuples(st.integers(0, 3), st.integers(0, 310)), max_size=60))
def test_members_knows_every_number_in_whatever_order_it_is_asked(
    sets: dict[int, set[int]], asked: list[tuple[int, int]]
) -> None:
    members = Members(runs_of(sets))
    origins = [*sets, 12345]
    for at, number in asked:
        origin = origins[at % len(origins)]
        assert ((origin, number) in members) == (number in sets.get(origin, set()))
    versions = [(origins[at % len(origins)], number) for at, number in asked]
    lacking = [place for place, (at, number) in enumerate(versions) if number not in sets.get(at, ())]
    assert list(Members(runs_of(sets)).lacking(versions)) == lacking


@given(st.binary(max_size=80))
def test_what_is_no_list_of_runs_is_refused(data: bytes) -> None:
    try:
        runs = decode_runs(data)
    except ValueError:
        return
    assert decode_runs(encode_runs(runs)) == runs


@pytest.mark.parametrize(
    "data",
    [b"", b"\1", b"\1" + bytes(8) + b"\0\1", b"\1" + bytes(8) + b"\1\1\0\0\0", b"\0\0", b"\xff" * 12],
)
def test_malformed_runs_are_refused(data: bytes) -> None:
    with pytest.raises(ValueError, match=r"run|number|origin"):
        decode_runs(data)


def test_an_outage_is_one_run_and_a_write_lost_here_and_there_a_byte_or_two() -> None:
    outage = runs_of({1: {*range(1, 1000), *range(9000, 100_000)}})
    assert len(encode_runs(outage)) < 24
    scattered = runs_of({1: set(range(1, 100_000)) - set(range(50, 100_000, 100))})
    assert len(encode_runs(scattered)) < 1.1 * 1000


def step(mine: int = 5, complete: int = STAMP_MAX, peer_complete: int = WHOLE, **changes: bool) -> Step:
    completeness = Completeness(complete)
    completeness.hear(peer_complete)
    facts = {"equal": False, "based": True, "empty": False, "peer_empty": False} | changes
    return next_step(mine=mine, theirs=9, completeness=completeness, **facts)


def test_the_side_with_less_to_say_lists_and_the_less_complete_one_compares() -> None:
    assert step(equal=True) is Step.SAME
    assert step() is Step.LIST
    assert step(mine=10) is Step.ASK
    assert step(complete=0) is Step.ASK
    assert step(mine=10, peer_complete=0) is Step.LIST
    assert step(complete=7, peer_complete=8) is Step.ASK
    assert step(mine=10, complete=8, peer_complete=7) is Step.LIST
    assert step(complete=7, peer_complete=7) is Step.LIST
    assert step(based=False) is Step.TREE
    assert step(based=False, empty=True, complete=0) is Step.LIST
    assert step(based=False, peer_empty=True) is Step.ASK


@given(stamps, stamps, stamps)
def test_of_two_stores_in_doubt_at_most_one_drops_and_both_are_as_complete_in_the_end(
    one: int, other: int, stable: int
) -> None:
    stable = max(stable, one, other)
    sides = [Completeness(one), Completeness(other)]
    sides[0].hear(sides[1].told)
    sides[1].hear(sides[0].told)
    assert sorted(side.purged(stable) for side in sides) == [0, 0 if one == other else max(one, other)]
    assert {side.proven(stable, delta=False) for side in sides} == {max(one, other)}
    assert [side.proven(stable, delta=True) for side in sides] == [one, other]
    assert sides[0].comparable == sides[1].comparable == (one == other)


def test_a_store_in_doubt_drops_up_to_the_stable_stamp_of_one_that_is_whole() -> None:
    doubted, whole = Completeness(7), Completeness(STAMP_MAX)
    doubted.hear(whole.told)
    whole.hear(doubted.told)
    assert (doubted.purged(9), whole.purged(9)) == (9, 0)
    assert (doubted.peer_whole, whole.peer_whole) == (True, False)
    assert doubted.comparable
    assert doubted.proven(9, delta=False) == 9


def record(row: bytes, stamp: int, origin: int) -> Record:
    return Record.seal(DIGESTER, row, Version(stamp, origin, stamp), b"%d" % stamp)


rows = st.sampled_from([b"\0\0\1x" + bytes((letter,)) for letter in b"abcdefghij"])
contents = st.dictionaries(rows, st.integers(1, 50))


def summary_of(held: dict[bytes, bytes]) -> Summary:
    summary = Summary()
    for row, head in held.items():
        summary.replace(leaf_of(row), head, b"")
        summary.sequence += 1
    return summary


@given(contents, contents, contents, st.sampled_from(Rule))
def test_both_virtual_roots_are_the_digest_of_the_merge_of_the_snapshots(
    ours: dict[bytes, int], theirs: dict[bytes, int], later: dict[bytes, int], rule: Rule
) -> None:
    """Whatever is written on one side meanwhile."""
    mine = {row: record(row, stamp, 1).head for row, stamp in ours.items()}
    other = {row: record(row, stamp, 2).head for row, stamp in theirs.items()}
    merged = dict(mine)
    for row, head in other.items():
        if row not in merged or rule.beats(head, merged[row]):
            merged[row] = head
    expected = sum(map(digest_of, merged.values())) & MASK
    for held, received in ((mine, other), (other, mine)):
        snapshot = Snapshot(summary_of(held), leaves=False, closed=0)
        now = dict(held)
        for row, stamp in later.items():
            head = record(row, 100 + stamp, 3).head
            snapshot.note(row, now.get(row, b""), 0)
            now[row] = head
        merge = Merge(snapshot)
        for row, head in received.items():
            merge.receive(rule, row, head, snapshot.had(row, now.get(row, b"")))
        assert merge.root == expected


def test_what_was_dropped_counts_no_more_and_can_be_received_anew() -> None:
    row = b"\0\0\1xa"
    old, new = record(row, 1, 1).head, record(row, 2, 2).head
    merge = Merge(Snapshot(summary_of({row: old}), leaves=False, closed=0))
    merge.drop(row, old)
    assert merge.root == 0
    assert merge.receive(Rule.FIRST_WRITE_WINS, row, new, old)
    assert merge.root == digest_of(new)


@given(st.lists(st.integers(1, 1000), unique=True))
def test_digests_name_records(stamps: list[int]) -> None:
    heads = [record(b"row", stamp, 1).head for stamp in stamps]
    assert list(decode_digests(encode_digests(heads))) == [head[24:32] for head in heads]
    if stamps:
        with pytest.raises(ValueError, match="cut off"):
            decode_digests(encode_digests(heads)[1:])
