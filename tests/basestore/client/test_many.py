"""Many keys at once: what is asked and answered by columns is what single calls would ask and be answered.

Covers `client/many.py` and the table of batches in `client/channel.py`.
"""

from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from basestore.client.calls import Calls
from basestore.client.channel import Batch, Unsent, answered, overdue
from basestore.client.many import Lot, delete_many, get_many, set_many
from basestore.consistency import Level, Outcome
from basestore.errors import BasestoreError, ConnectionLost, InvalidRequest, WriteTimeout
from basestore.protocol.client import Delete, Failed, Get, Got, Set, Written
from basestore.protocol.groups import Found, GetMany, Stored, WriteMany, singly
from basestore.protocol.handshake import Names
from basestore.protocol.limits import KEY_BYTES_MAX, VALUE_BYTES_MAX
from basestore.repair.version import Identity, Version
from basestore.results.receipts import ReadResult

CALLS = Calls("quorum", None)
NAMES = Names([(0, "n1"), (1, "n2")], b"c" * 16)
STATES = [0, 1, 1, 0]


def sets(count: int, bucket: str = "default", ttl: float | None = None) -> Lot[Any]:
    return set_many(CALLS, [(f"k{n}", b"%d" % n) for n in range(count)], bucket, None, ttl, None)


def gets(count: int, *, repair: bool = True) -> Lot[ReadResult]:
    return get_many(CALLS, [b"k%d" % n for n in range(count)], "default", "one", None, repair)


def deletes(keys: Sequence[Any]) -> Lot[Any]:
    return delete_many(CALLS, keys, "default", None, None)


class Table(dict[int, Batch]):
    """Of what is under way. `way`: over which connection."""

    def ask(self, first: int, lot: Lot[Any], deadline: float = 10.0) -> Batch:
        batch = Batch(first, lot)
        batch.enter(self, 0.0, deadline)
        return batch


def stored(request: Any) -> Written:
    version = Version(7, 1, request.id).encode()
    return Written(request.id, 0, 0, request.identity + version + b"checked!", 2, 2, STATES, b"", 3)


def got(request: Any) -> Got:
    version = Version(7, 1, request.id).encode()
    return Got(request.id, True, b"value of " + request.key, version, 0, 1, 1, False, 0)


def in_columns(answers: Sequence[Any]) -> Any:
    """The same answers in one message."""
    ids = [answer.id for answer in answers]
    if isinstance(answers[0], Got):
        return Found(ids, [each.value for each in answers], [each.version for each in answers], 1, 1)
    return Stored(
        ids, [each.identity for each in answers], [each.partition for each in answers], 2, 2, STATES
    )


@pytest.mark.parametrize("make", [sets, gets, lambda count: deletes([f"k{n}" for n in range(count)])])
@given(
    places=st.permutations(range(6)),
    cuts=st.lists(st.integers(1, 5), max_size=4),
    singly_from=st.integers(0, 6),
)
def test_answers_in_columns_of_any_size_and_order_mean_what_single_ones_mean(
    make: Any, places: list[int], cuts: list[int], singly_from: int
) -> None:
    lot = make(6)
    told, plain = Table(), Table()
    batch, twin = told.ask(5, lot), plain.ask(5, lot)
    twin.requests = batch.requests  # with what these writes are known by
    answers = [(got if isinstance(each, Get) else stored)(each) for each in singly(batch.requests)]
    assert answered(plain, answers) == []
    shuffled = [answers[place] for place in places]
    columns, rest = shuffled[:singly_from], shuffled[singly_from:]
    starts = sorted({0, *cuts})
    for start, end in zip(starts, [*starts[1:], 6], strict=True):
        if columns[start:end]:
            assert answered(told, [in_columns(columns[start:end])]) == []
    assert batch.untold == len(rest)
    assert answered(told, rest) == []
    assert told == {}
    assert lot.results(batch, NAMES) == lot.results(twin, NAMES)
    assert all(not isinstance(each, BasestoreError) for each in lot.results(batch, NAMES))


def test_plain_requests_are_one_message_and_others_are_single_ones() -> None:
    first = 2**40
    (many,) = Batch(first, sets(3)).requests
    assert isinstance(many, WriteMany)
    assert (many.ids, many.keys) == ([first, first + 1, first + 2], [b"k0", b"k1", b"k2"])
    assert len(set(many.identities)) == 3
    (many,) = Batch(1, gets(3)).requests
    assert isinstance(many, GetMany)
    (many,) = Batch(1, deletes(["k", b"l", bytearray(b"m")])).requests
    assert isinstance(many, WriteMany)
    assert (many.keys, many.values, many.tombstone) == ([b"k", b"l", b"m"], [], True)
    assert [type(each) for each in Batch(1, sets(2, ttl=1.0)).requests] == [Set, Set]
    assert [type(each) for each in Batch(1, gets(2, repair=False)).requests] == [Get, Get]


@pytest.mark.parametrize("wrong", ["", b"", 7, None, b"k" * (KEY_BYTES_MAX + 1), "\ud800"])
def test_what_is_wrong_with_one_key_is_told_of_that_one(wrong: Any) -> None:
    for lot in (
        set_many(CALLS, [("a", "1"), (wrong, "2"), ("c", "3")], "default", None, None, None),
        get_many(CALLS, ["a", wrong, "c"], "default", None, None),
        deletes(["a", wrong, "c"]),
    ):
        table = Table()
        batch = table.ask(10, lot)
        assert set(table) == {10, 12}
        assert [each.key for each in singly(batch.requests)] == [b"a", b"c"]
        answered(table, [(got if isinstance(each, Get) else stored)(each) for each in singly(batch.requests)])
        assert [isinstance(each, InvalidRequest) for each in lot.results(batch, NAMES)] == [
            False,
            True,
            False,
        ]


def test_a_value_that_is_too_long_or_a_bucket_that_is_none_fails_alike() -> None:
    table = Table()
    items = [("a", b"v" * (VALUE_BYTES_MAX + 1)), ("b", 7), ("c", "v")]
    batch = table.ask(1, set_many(CALLS, items, "default", None, None, None))  # type: ignore[arg-type]
    assert (set(batch.failed), set(table)) == ({1, 2}, {3})
    nowhere = Table().ask(1, sets(2, bucket=""))
    assert (nowhere.untold, nowhere.requests) == (0, [])
    assert [type(each) for each in sets(2, bucket="").results(nowhere, NAMES)] == [InvalidRequest] * 2


def test_of_a_column_that_names_several_batches_each_is_told_its_own() -> None:
    table = Table()
    first, second = table.ask(1, sets(2)), table.ask(3, sets(2))
    answers = [stored(each) for batch in (first, second) for each in singly(batch.requests)]
    assert answered(table, [in_columns(answers)]) == []
    assert first.told == answers[:2]
    assert second.told == answers[2:]
    assert first.untold == second.untold == 0


def test_a_number_that_is_named_twice_or_is_nobodys_is_an_answer_to_nothing() -> None:
    table = Table()
    batch = table.ask(1, sets(2))
    one, two = [stored(each) for each in singly(batch.requests)]
    nobodys = one._replace(id=9)
    assert answered(table, [in_columns([one, one])]) == [one]
    assert batch.untold == 1
    assert answered(table, [in_columns([two, nobodys])]) == [nobodys]
    assert (batch.untold, batch.told) == (0, [one, two])
    assert answered(table, [in_columns([one, two])]) == [one, two]
    assert answered(table, [Stored([], [], [], 2, 2, STATES)]) == []


def test_an_answer_of_another_kind_is_told_as_one_that_makes_no_sense() -> None:
    table = Table()
    lot = gets(2)
    batch = table.ask(1, lot)
    answered(
        table, [in_columns([stored(Set(n, "default", b"k", b"", 2, 1, 0, b"proposed")) for n in (1, 2)])]
    )
    assert [type(each) for each in lot.results(batch, NAMES)] == [ConnectionLost] * 2


def test_states_that_no_replica_has_make_no_sense_in_columns_either() -> None:
    table = Table()
    lot = sets(2)
    batch = table.ask(1, lot)
    column = in_columns([stored(each) for each in singly(batch.requests)])._replace(replicas=[0, 77])
    answered(table, [column])
    failed: list[Any] = lot.results(batch, NAMES)
    requests = singly(batch.requests)
    assert [type(each) for each in failed] == [ConnectionLost] * 2
    assert [each.identity for each in failed] == [Identity.decode(each.identity) for each in requests]


def test_a_write_that_failed_is_named_by_what_it_is_known_by() -> None:
    table = Table()
    lot = sets(3)
    batch = table.ask(1, lot)
    requests = singly(batch.requests)
    answered(table, [stored(requests[0]), Failed(2, WriteTimeout.code, "late", b"", ["1", "2"])])
    for number, late in overdue(table, 11.0):
        late.fail(number, WriteTimeout("late", None, None, None))
    results: list[Any] = lot.results(batch, NAMES)
    assert results[0].outcome is Outcome.STORED
    assert [type(each) for each in results[1:]] == [WriteTimeout] * 2
    assert results[1].identity == Identity.decode(requests[1].identity)


def test_what_was_not_sent_is_asked_again_as_itself_and_nothing_else_is() -> None:
    table = Table()
    lot = sets(3)
    batch = table.ask(1, lot)
    requests = singly(batch.requests)
    answered(table, [stored(requests[1])])
    assert not batch.again()
    for number in (1, 3):
        del table[number]
        batch.fail(number, Unsent())
    assert batch.again()
    assert batch.requests == [requests[0], requests[2]]
    assert (batch.untold, batch.failed) == (2, {})
    batch.enter(table, 1.0, 11.0)
    assert set(table) == {1, 3}
    answered(table, [in_columns([stored(each) for each in batch.requests])])
    results: list[Any] = lot.results(batch, NAMES)
    assert [each.outcome for each in results] == [Outcome.STORED] * 3


def test_nobody_waits_any_more_for_a_batch_that_was_left() -> None:
    table = Table()
    batch, other = table.ask(1, gets(3)), table.ask(4, gets(1))
    answered(table, [got(singly(batch.requests)[0])])
    assert batch.leave(table) == [2, 3]
    assert table == {4: other}


def test_a_level_and_a_bucket_are_those_of_all() -> None:
    (many,) = Batch(1, set_many(CALLS, [("k", "v"), ("l", "w")], "b", "all", None, 2.0)).requests
    assert isinstance(many, WriteMany)
    assert (many.bucket, many.level, many.timeout_ms) == ("b", Level.ALL, 2000)
    deleted = Batch(1, deletes(["k", 7])).requests
    assert [type(each) for each in deleted] == [Delete]
