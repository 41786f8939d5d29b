"""Where rows live: spread evenly, over zones, and the same in every process."""

import hashlib
import subprocess
import sys
from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from basestore.cluster.placement import Placement, assign
from basestore.config import Member
from basestore.rows import row_bucket, row_key, row_partition


def places(count: int, zones: int = 0) -> list[Member]:
    return [Member(i, f"n{i + 1}", "", f"z{i % zones}" if zones else "") for i in range(count)]


@given(
    count=st.integers(1, 12),
    replication=st.integers(1, 12),
    partitions=st.integers(1, 40),
    zones=st.integers(0, 5),
)
def test_every_partition_has_that_many_different_replicas(
    count: int, replication: int, partitions: int, zones: int
) -> None:
    replication = min(replication, count)
    table = assign(places(count, zones), partitions, replication)
    assert len(table) == partitions
    for replicas in table:
        assert len(replicas) == len(set(replicas)) == replication
        assert set(replicas) <= set(range(count))


@pytest.mark.parametrize("replication", [0, 4])
def test_replication_needs_as_many_members(replication: int) -> None:
    with pytest.raises(ValueError, match="replicas need as many members; there are 3"):
        assign(places(3), 4, replication)


@pytest.mark.parametrize("count", [3, 5, 7, 10])
@pytest.mark.parametrize("replication", [1, 2, 3])
def test_members_hold_about_the_same_number_of_partitions(count: int, replication: int) -> None:
    table = assign(places(count), 64, replication)
    held = Counter(replica for replicas in table for replica in replicas)
    share = 64 * replication / count
    assert set(held) == set(range(count))
    assert max(held.values()) <= share + 2
    assert min(held.values()) >= share - 5


@pytest.mark.parametrize("count", [3, 7])
def test_members_come_first_about_equally_often(count: int) -> None:
    firsts = Counter(replicas[0] for replicas in assign(places(count), 256, 3))
    assert min(firsts.values()) >= 256 / count / 2


@given(
    layout=st.lists(st.sampled_from("abcd"), min_size=3, max_size=10),
    partitions=st.integers(1, 40),
)
def test_zones_are_used_up_before_one_is_used_twice(layout: list[str], partitions: int) -> None:
    zoned = [Member(i, f"n{i}", "", zone) for i, zone in enumerate(layout)]
    for replicas in assign(zoned, partitions, 3):
        used = [layout[replica] for replica in replicas]
        assert len(set(used)) == min(3, len(set(layout)))


def test_with_as_many_zones_as_replicas_each_zone_holds_everything() -> None:
    zoned = places(9, zones=3)
    for replicas in assign(zoned, 64, 3):
        assert {zoned[replica].zone for replica in replicas} == {"z0", "z1", "z2"}


def test_a_new_member_moves_little() -> None:
    before = assign(places(6), 64, 3)
    after = assign(places(7), 64, 3)
    moved = sum(len(set(a) - set(b)) for a, b in zip(after, before, strict=True))
    assert moved <= 2 * 64 * 3 / 7


PROGRAM = """
import hashlib
from basestore.cluster.placement import Placement
from basestore.config import Member
p = Placement([Member(i, f"n{i + 1}", "", f"z{i % 3}") for i in range(7)], 64, 3)
rows = [p.row(b"default", b"%d" % i) for i in range(100)]
print(hashlib.sha256(repr((p.replicas, rows)).encode()).hexdigest())
"""


def test_the_same_configuration_gives_the_same_placement_in_every_process() -> None:
    placement = Placement(places(7, zones=3), 64, 3)
    rows = [placement.row(b"default", b"%d" % i) for i in range(100)]
    here = hashlib.sha256(repr((placement.replicas, rows)).encode()).hexdigest()
    for seed in ("1", "2"):
        there = subprocess.run(
            [sys.executable, "-c", PROGRAM], capture_output=True, check=True, text=True,
            env={"PYTHONHASHSEED": seed, "PYTHONPATH": ":".join(sys.path)},
        )  # fmt: skip
        assert there.stdout.strip() == here


def test_placement_is_what_it_was() -> None:
    """Stores on disk depend on it: a change here loses data, and needs a new format."""
    placement = Placement(places(5), 8, 3)
    assert placement.replicas == [
        (4, 3, 2), (0, 2, 3), (1, 3, 4), (4, 0, 1), (4, 3, 0), (1, 3, 4), (1, 0, 2), (1, 0, 2),
    ]  # fmt: skip
    assert placement.row(b"default", b"key") == b"\x00\x06\x07defaultkey"


@settings(max_examples=200)
@given(
    bucket=st.binary(min_size=1, max_size=64),
    key=st.binary(min_size=1, max_size=200),
    partitions=st.integers(1, 4096),
)
def test_a_row_says_its_partition_bucket_and_key(bucket: bytes, key: bytes, partitions: int) -> None:
    placement = Placement([Member(0, "n1", "")], partitions, 1)
    row = placement.row(bucket, key)
    assert 0 <= row_partition(row) < partitions
    assert (row_bucket(row), row_key(row)) == (bucket, key)
    assert row == placement.row(bucket, key)


@given(st.binary(min_size=1, max_size=9), st.binary(min_size=1, max_size=9))
def test_rows_of_a_partition_sort_by_key_within_a_bucket(a: bytes, b: bytes) -> None:
    placement = Placement([Member(0, "n1", "")], 1, 1)
    assert (a < b) == (placement.row(b"default", a) < placement.row(b"default", b))


def test_keys_spread_over_the_partitions() -> None:
    placement = Placement([Member(0, "n1", "")], 16, 1)
    counts = Counter(row_partition(placement.row(b"default", b"%d" % i)) for i in range(4000))
    assert len(counts) == 16
    assert max(counts.values()) < 2 * min(counts.values())


@given(st.integers(1, 9), st.integers(1, 30))
def test_who_holds_what_is_the_other_side_of_replicas(count: int, partitions: int) -> None:
    placement = Placement(places(count), partitions, min(3, count))
    for member in range(count):
        held = placement.held_by(member)
        assert held == sorted(held)
        assert set(held) == {p for p in range(partitions) if member in placement.replicas[p]}
