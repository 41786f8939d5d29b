"""Laws of summaries: sums that do not depend on order, counts, leaves and nodes, the stored form."""

import hypothesis.strategies as st
import pytest
from hypothesis import given

from basestore.repair.digest_tree import (
    FANOUT,
    LEAVES,
    MASK,
    NODES,
    Summary,
    digest_of,
    due_of,
    leaf_of,
    leaves_under,
    nodes_of,
)
from basestore.repair.version import KEY_BYTES, Digester, Record, Version, is_tombstone

DIGESTER = Digester(bytes(KEY_BYTES))
ROWS = [b"\0\0\7default" + bytes((letter,)) for letter in b"abcdefgh"]


@st.composite
def records(draw: st.DrawFn) -> tuple[bytes, Record]:
    row = draw(st.sampled_from(ROWS))
    version = Version(draw(st.integers(1, 1 << 40)), draw(st.integers(1, 3)), draw(st.integers(1, 99)))
    tombstone = draw(st.booleans())
    value = b"" if tombstone else draw(st.binary(max_size=4))
    return row, Record.seal(DIGESTER, row, version, value, tombstone=tombstone)


@given(st.lists(records()))
def test_a_summary_says_what_is_held_whatever_the_order_of_changes(
    changes: list[tuple[bytes, Record]],
) -> None:
    summary, held = Summary(), dict[bytes, bytes]()
    for row, record in changes:
        summary.replace(leaf_of(row), record.head, held.get(row, b""))
        held[row] = record.head
    assert summary.root == sum(map(digest_of, held.values())) & MASK
    assert summary.count == len(held)
    assert summary.live == sum(not is_tombstone(head) for head in held.values())
    assert summary.sound
    for row, head in held.items():
        summary.replace(leaf_of(row), b"", head)
    assert (summary.root, summary.count, summary.live) == (0, 0, 0)
    assert not any(summary.leaves.values())


@given(st.dictionaries(st.integers(0, LEAVES - 1), st.integers(0, MASK), max_size=50))
def test_nodes_are_the_sums_of_their_leaves(leaves: dict[int, int]) -> None:
    nodes = nodes_of(leaves)
    assert len(nodes) == NODES
    for node, total in enumerate(nodes):
        assert sum(leaves_under(leaves, [node])) & MASK == total
    assert len(leaves_under(leaves, range(NODES))) == NODES * FANOUT == LEAVES


@given(st.lists(st.integers(0, (1 << 63) - 1), min_size=7, max_size=7), st.integers(0, MASK))
def test_a_summary_comes_back_as_it_was_stored(numbers: list[int], root: int) -> None:
    summary = Summary()
    summary.sequence, summary.count, summary.live, *stamps = numbers
    summary.closed, summary.stable, summary.purged, summary.kept = stamps
    summary.root = root
    again = Summary.decode(summary.encode())
    assert again.encode() == summary.encode()
    assert again.root == root
    assert again.complete == min(summary.stable, summary.kept)
    with pytest.raises(ValueError, match="a summary has"):
        Summary.decode(summary.encode()[1:])


def test_a_summary_whose_leaves_do_not_fit_its_root_is_not_sound() -> None:
    summary = Summary()
    summary.root = summary.leaves[7] = 5
    assert summary.sound
    summary.leaves[7] = 6
    assert not summary.sound


def test_tombstones_are_due_at_once_and_expiring_records_when_both_stamps_have_passed() -> None:
    def due(stamp: int, *, tombstone: bool = False, expires_ms: int = 0) -> int:
        record = Record.seal(
            DIGESTER, ROWS[0], Version(stamp, 1, 1), tombstone=tombstone, expires_ms=expires_ms
        )
        return due_of(record.head, expires_ms)

    assert due(5 << 16) == 0
    assert due(5 << 16, tombstone=True) == 5 << 16
    assert due(5 << 16, expires_ms=9) == 9 << 16
    assert due(5 << 16, expires_ms=2) == 5 << 16


@given(st.binary(min_size=4))
def test_every_row_has_a_leaf(row: bytes) -> None:
    assert 0 <= leaf_of(row) < LEAVES
