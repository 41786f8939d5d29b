"""Receipts and results of registers: what is shown of a write, and what replicas and sessions compare.

Two versions are told of a record: that by which its write is known, which is the first that it had, and that
under which it was agreed on, which may be greater.
"""

from time import monotonic
from typing import Any

import pytest

from basestore.client.arguments import scope_of
from basestore.consistency import Level, Outcome, ReplicaState
from basestore.errors import InvalidRequest
from basestore.protocol.client import OUTCOME_LOST, OUTCOME_STORED, Got, Written
from basestore.protocol.handshake import Names
from basestore.repair.version import PROPOSAL_BYTES, Identity, Version
from basestore.results.convergence import Proving, settled_by
from basestore.results.readers import read_result, receipt
from basestore.results.receipts import Receipt

KNOWN, AGREED = Version(100, 1, 3), Version(140, 1, 5)
OTHER, OTHER_AGREED = Version(90, 2, 7), Version(120, 2, 9)
IDENTITY = Identity(b"proposed", KNOWN, b"checked!").encode()
UNSTAMPED = IDENTITY[:PROPOSAL_BYTES]
MEMBERS = Names([(0, "n1"), (1, "n2"), (2, "n3")], b"c" * 16)
STATES = [0, ReplicaState.APPLIED.value, 1, ReplicaState.APPLIED.value, 2, ReplicaState.PENDING.value]


def written(outcome: int = OUTCOME_STORED, **fields: Any) -> Written:
    plain = Written(1, outcome, 0, IDENTITY, 2, 2, STATES, b"", 4)
    return plain._replace(**fields)


def shown(level: Level = Level.QUORUM, outcome: int = OUTCOME_STORED, **fields: Any) -> Receipt:
    return receipt(written(outcome, **fields), level, MEMBERS)


STORED = shown(order=AGREED.encode())
LOST = shown(
    outcome=OUTCOME_LOST, identity=UNSTAMPED, better=OTHER.encode(), order=OTHER_AGREED.encode(), value=b"n3",
    held=True,
)  # fmt: skip
NOTHING_THERE = shown(outcome=OUTCOME_LOST, identity=UNSTAMPED)


@pytest.mark.parametrize("level", [Level.ONE, Level.QUORUM, Level.ALL, Level.SERIAL])
def test_a_write_in_a_register_is_serial_whatever_was_asked_for(level: Level) -> None:
    assert shown(level, order=AGREED.encode()).level is Level.SERIAL
    assert shown(level, outcome=OUTCOME_LOST, identity=UNSTAMPED).level is Level.SERIAL
    assert shown(level).level is level  # of no register


def test_a_compare_that_was_lost_shows_what_the_key_holds() -> None:
    assert (LOST.outcome, bool(LOST), LOST.version) == (Outcome.LOST, False, None)
    assert (LOST.superseded_by, LOST.value) == (OTHER, b"n3")
    assert (NOTHING_THERE.superseded_by, NOTHING_THERE.value) == (None, None)
    empty = shown(outcome=OUTCOME_LOST, better=OTHER.encode(), order=OTHER_AGREED.encode(), held=True)
    assert empty.value == b""  # an empty value is one
    assert (STORED.value, STORED.version, STORED.superseded_by) == (None, KNOWN, None)


@pytest.mark.parametrize("text", ["0", "42", "-7"])
def test_an_increment_shows_the_number_that_it_has_made(text: str) -> None:
    assert shown(order=AGREED.encode(), value=text.encode(), held=True).number == int(text)


@pytest.mark.parametrize(
    "other",
    [STORED, shown(), LOST, NOTHING_THERE, shown(outcome=OUTCOME_LOST, value=b"7", held=True)],
)
def test_what_is_no_increment_has_no_number(other: Receipt) -> None:
    with pytest.raises(ValueError, match="no receipt of an increment"):
        _ = other.number


def test_of_a_register_that_was_written_since_it_may_not_be_known() -> None:
    with pytest.raises(ValueError, match="not known any more, for the key was written after it: get shows"):
        _ = STORED.number


def test_for_json_there_is_the_value_and_not_what_replicas_compare_by() -> None:
    told = LOST.as_json()
    assert (told["outcome"], told["version"], told["superseded_by"]) == ("lost", None, str(OTHER))
    assert (told["value"], told["encoding"], told["level"]) == ("n3", "utf8", "serial")
    assert str(OTHER_AGREED) not in str(told)
    for plain in (STORED.as_json(), NOTHING_THERE.as_json(), shown().as_json()):
        assert (plain["value"], plain["encoding"]) == (None, None)
    odd = shown(outcome=OUTCOME_LOST, better=OTHER.encode(), value=b"\xff", held=True).as_json()
    assert (odd["value"], odd["encoding"]) == ("/w==", "base64")


def test_what_a_register_holds_rests_on_a_quorum() -> None:
    assert STORED.rests_on(7) == (7, 2, 3, True)
    # What was found there was agreed on, too, whoever of those that were asked holds it by now.
    refused = [part for number in range(3) for part in (number, ReplicaState.PENDING.value)]
    found = shown(
        Level.ONE, OUTCOME_LOST, better=OTHER.encode(), order=OTHER_AGREED.encode(), replicas=refused
    )
    assert found.rests_on(7) == (7, 2, 3, True)
    at_one = receipt(Written(1, 0, 0, IDENTITY, 1, 1, STATES, b"", 4), Level.ONE, MEMBERS)
    assert not at_one.rests_on(7).by_quorum


def test_it_is_settled_by_the_version_that_replicas_compare_by() -> None:
    """The stable stamp may lie between the two: then the record need not be everywhere."""
    assert settled_by(STORED) == AGREED
    assert settled_by(LOST) == OTHER_AGREED
    with pytest.raises(InvalidRequest, match="nothing to wait for"):
        Proving(scope_of("cas", None), NOTHING_THERE, 1.0, monotonic())


@pytest.mark.parametrize(
    ("asked", "level"),
    [
        (Level.ONE, Level.ONE),
        (Level.QUORUM, Level.SERIAL),
        (Level.ALL, Level.SERIAL),
        (Level.SERIAL, Level.SERIAL),
    ],
)
def test_a_read_shows_the_version_to_compare_with(asked: Level, level: Level) -> None:
    got = Got(1, True, b"n1", KNOWN.encode(), 0, 2, 2, False, 0)
    result = read_result(got._replace(order=AGREED.encode()), asked)
    assert (result.version, result.order, result.level) == (KNOWN, AGREED.encode(), level)
    assert str(AGREED) not in str(result.as_json())
    plain = read_result(got, asked)
    assert (plain.order, plain.level) == (b"", asked)
    assert result.stale_by_at_most == (None if level is Level.ONE else 0.0)
