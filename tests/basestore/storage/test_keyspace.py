"""Keys: each kind lies in its span and nowhere else, in the order of what it is made of, and is taken apart
into what it was made of."""

from hypothesis import given
from hypothesis import strategies as st

from basestore.storage import keyspace

partitions = st.integers(0, 4095)
stamps = st.integers(0, (1 << 64) - 2)
names = st.text(min_size=1, max_size=20)
rests = st.binary(min_size=2, max_size=8)


def within(key: bytes, span: keyspace.Span) -> bool:
    return span[0] <= key < span[1]


@given(st.binary(min_size=1, max_size=6).filter(lambda prefix: prefix.strip(b"\xff")), st.binary(max_size=8))
def test_a_span_holds_what_begins_so_and_nothing_else(prefix: bytes, key: bytes) -> None:
    span = keyspace.whole(prefix)
    assert within(prefix + key, span)
    assert within(key, span) == key.startswith(prefix)


@given(partitions, partitions, rests)
def test_the_records_of_a_partition_lie_together(partition: int, other: int, rest: bytes) -> None:
    row = keyspace.partition_prefix(partition) + rest
    key = keyspace.record(row)
    assert keyspace.row_of(key) == row
    assert within(key, keyspace.records())
    assert within(key, keyspace.records_of(other)) == (partition == other)
    assert within(key, keyspace.records_beginning(row[:-1]))
    assert not within(key, keyspace.records_beginning(row + b"x"))
    assert within(key, keyspace.records_from(row, partition))
    assert not within(key, keyspace.records_from(keyspace.after(row), partition))


@given(partitions, stamps, stamps, rests)
def test_what_is_due_is_found_by_its_stamp(partition: int, stamp: int, upto: int, rest: bytes) -> None:
    row = keyspace.partition_prefix(partition) + rest
    key = keyspace.due(row, stamp)
    assert keyspace.due_of(key) == (stamp, row)
    assert within(key, keyspace.dues(partition, upto)) == (stamp <= upto)


@given(partitions, stamps, stamps, stamps)
def test_lines_sort_by_their_sequence(partition: int, sequence: int, first: int, last: int) -> None:
    prefix = keyspace.partition_prefix(partition)
    key = keyspace.line(prefix, sequence.to_bytes(keyspace.SEQUENCE_BYTES))
    assert keyspace.sequence_of(key) == sequence
    assert within(key, keyspace.lines(prefix, first, last)) == (first <= sequence <= last)


@given(partitions, names, names, stamps, rests)
def test_what_is_kept_for_one_member_is_not_taken_for_anothers(
    partition: int, name: str, other: str, stamp: int, rest: bytes
) -> None:
    member, stranger = keyspace.member_prefix(name), keyspace.member_prefix(other)
    row = keyspace.partition_prefix(partition) + rest
    assert keyspace.hinted_row(member, keyspace.hint(member, row)) == row
    assert keyspace.row_of_hint(keyspace.hint(member, row)) == row
    assert within(keyspace.hint(member, row), keyspace.hints())
    assert within(keyspace.hint(member, row), keyspace.hints_for(stranger)) == (name == other)
    for late in (False, True):
        age = keyspace.age(member, stamp, row, late=late)
        assert keyspace.aged_row(member, age) == row
        assert within(age, keyspace.ages(stranger, late=late)) == (name == other)
        assert not within(age, keyspace.ages(member, late=not late))
    debt = keyspace.debt(member, keyspace.partition_prefix(partition))
    assert keyspace.indebted_partition(debt) == partition
    assert within(debt, keyspace.debts_of(stranger)) == (name == other)


@given(partitions, names, st.integers(0, 63), stamps)
def test_other_keys_are_taken_apart_into_what_they_were_made_of(
    partition: int, name: str, number: int, commit: int
) -> None:
    prefix = keyspace.partition_prefix(partition)
    assert keyspace.certificate_of(keyspace.certificate(partition, name)) == (partition, name)
    assert keyspace.peer_of(keyspace.peer(name)) == name
    first, end = keyspace.peers()
    assert not first <= keyspace.heard(name) < end
    assert keyspace.node_of(keyspace.node(prefix, number)) == (prefix, number)
    assert keyspace.commit_of(keyspace.log_record(commit)) == commit
