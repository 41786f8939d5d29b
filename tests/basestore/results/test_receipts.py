"""What clients make of answers: every error there and back, and no answer that surprises them.

Covers `results/receipts.py`, `readers.py`, `answers.py` and `nodes.py`.
"""

import pickle
from collections.abc import Callable
from contextlib import suppress
from copy import copy
from dataclasses import FrozenInstanceError, fields, replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from basestore.consistency import Level
from basestore.coordinator.context import failure
from basestore.errors import (
    ClockSkew,
    ConnectionLost,
    Contended,
    InvalidRequest,
    OutcomeUnknown,
    Overloaded,
    ReadTimeout,
    ReplicaFailure,
    RequestFailed,
    Unavailable,
    WriteTimeout,
)
from basestore.protocol.client import Failed, Got, Page, Written
from basestore.protocol.codec import decode, encode
from basestore.protocol.groups import Found, Stored
from basestore.protocol.handshake import Names
from basestore.protocol.operator import Fact, NodeStatus
from basestore.repair.version import Identity, Version
from basestore.results.answers import encode_text, error_of
from basestore.results.nodes import node_state
from basestore.results.readers import page, read_result, read_results, receipt, receipts
from basestore.results.receipts import ReadResult, Receipt
from tests.worlds.messages import messages_of

VERSION = Version(1, 2, 3)
IDENTITY = Identity(b"proposed", VERSION, b"checked!")
READERS: dict[type[Any], Callable[[Any], object]] = {
    Written: lambda answer: receipt(answer, Level.ONE, Names({0: "n1", 1: "n2"}.items())),
    Got: lambda answer: read_result(answer, Level.ONE),
    Page: page,
    NodeStatus: node_state,
}
NONSENSE = [
    Written(1, 9, 0, IDENTITY.encode(), 2, 2, [0, 1], b"", 1),  # an outcome that there is not
    Written(1, 0, 0, IDENTITY.encode(), 2, 2, [0, 99], b"", 1),  # a state that there is not
    Written(1, 0, 0, b"short", 2, 2, [0, 1], b"", 1),
    Got(1, True, b"value", b"short", 0, 2, 2, False, 0),
    Page(1, [b"key", b"value", b"short", bytes(8)], b"", False),
    Page(1, [b"key"], b"", False),
    NodeStatus(1, []),  # no name and no state
    NodeStatus(1, [Fact("node", "n1"), Fact("state", "up"), Fact("pid", "many")]),
]


@pytest.mark.parametrize(
    "error",
    [
        InvalidRequest("wrong"),
        Unavailable(3, 1),
        Overloaded("full"),
        ClockSkew("off"),
        WriteTimeout("late", 1, 2, IDENTITY),
        ReadTimeout("late", 0, 2, None),
        ReplicaFailure("refused", {"n1": "no", "n2": "never"}, IDENTITY),
        ConnectionLost("gone"),
        Contended("others were at the register"),
        OutcomeUnknown("not found", None, Identity(b"proposed")),
        OutcomeUnknown("another is there", VERSION, Identity(b"proposed")),
    ],
    ids=lambda error: type(error).__name__,
)
def test_an_error_arrives_as_it_was_raised(error: InvalidRequest | RequestFailed) -> None:
    (answer,) = decode(encode([failure(7, error)]))
    arrived = error_of(answer)
    assert type(arrived) is type(error)
    assert str(arrived) == str(error)
    assert vars(arrived) == vars(error)
    assert arrived.definite == error.definite
    for read in READERS.values():
        with pytest.raises(type(error)):
            read(answer)


@given(st.one_of([messages_of(kind) for kind in (Written, Got, Page, NodeStatus, Failed)]))
def test_an_answer_that_does_not_belong_to_the_request_is_an_error_and_any_other_surprises_nobody(
    answer: Any,
) -> None:
    for kind, read in READERS.items():
        if isinstance(answer, kind):
            with suppress(ConnectionLost):  # of the right kind, it may make sense or not
                read(answer)
        else:
            with pytest.raises((InvalidRequest, RequestFailed)) as raised:
                read(answer)
            assert isinstance(answer, Failed) or type(raised.value) is ConnectionLost


@pytest.mark.parametrize("answer", NONSENSE)
def test_an_answer_that_makes_no_sense_is_a_lost_connection_and_nothing_else(answer: Any) -> None:
    for read in READERS.values():
        with pytest.raises(ConnectionLost, match="check its version"):
            read(answer)


def test_a_member_that_has_left_since_or_come_is_shown_by_its_number() -> None:
    written = Written(1, 0, 0, IDENTITY.encode(), 2, 2, [0, 1, 7, 1], b"", 1)
    shown = receipt(written, Level.ONE, Names({0: "n1", 1: "n2"}.items()))
    assert list(shown.replicas)[-1] == "member 7"


@pytest.mark.parametrize("code", [2, 5, 6, 7])
@pytest.mark.parametrize("details", [[], [1], ["x", "y"], [None, None], [[], []]])
def test_details_that_do_not_fit_their_error_are_not_believed(code: int, details: list[Any]) -> None:
    assert isinstance(error_of(Failed(1, code, "text", b"", details)), RequestFailed)
    assert isinstance(error_of(Failed(1, code, "text", b"short", details)), ConnectionLost)


def test_an_unknown_error_of_a_newer_node_keeps_its_text() -> None:
    error = error_of(Failed(1, 99, "something new", b"", []))
    assert isinstance(error, ConnectionLost)
    assert str(error) == "something new"


@pytest.mark.parametrize(
    ("value", "text"), [(None, (None, None)), (b"a", ("a", "utf8")), (b"\xff", ("/w==", "base64"))]
)
def test_values_for_json_are_text_where_they_can_be(value: bytes | None, text: tuple[Any, Any]) -> None:
    assert encode_text(value) == text


def test_what_answers_are_made_into_are_dataclasses_like_any_other() -> None:
    written = Written(1, 0, 0, IDENTITY.encode(), 2, 2, [0, 1], b"", 7)
    got = Got(1, True, b"v", VERSION.encode(), 0, 2, 2, False, 0)
    names = Names([(0, "n1")], b"c" * 16)
    for made in (receipt(written, Level.QUORUM, names), read_result(got, Level.ONE)):
        values = {field.name: getattr(made, field.name) for field in fields(made)}
        usual = type(made)(**values)
        assert type(made) in (Receipt, ReadResult)
        assert (made, repr(made)) == (usual, repr(usual))
        assert pickle.loads(pickle.dumps(made)) == made == copy(made) == replace(made)
        with pytest.raises(FrozenInstanceError):
            made.required = 7  # type: ignore[misc]
        with pytest.raises((AttributeError, TypeError)):
            made.other = 7  # type: ignore[union-attr]


@given(st.lists(st.binary(max_size=9), min_size=1, max_size=5), st.sampled_from(Level))
def test_columns_are_read_as_single_answers_are(values: list[bytes], level: Level) -> None:
    names = Names([(0, "n1"), (1, "n2")], b"c" * 16)
    count = len(values)
    ids = list(range(1, count + 1))
    versions = [Version(place, 2, 3).encode() for place in ids]
    identities = [b"proposed" + version + b"checked!" for version in versions]
    stored = Stored(ids, identities, ids, 2, 1, [1, 1, 0, 3])
    made = receipts(stored, level, names)
    assert made == [receipt(each, level, names) for each in stored.single()]
    assert len({id(each.replicas) for each in made}) == count  # to change one changes no other
    found = Found(ids, values, versions, 2, 2)
    assert read_results(found, level) == [read_result(each, level) for each in found.single()]
