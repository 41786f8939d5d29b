"""Tokens say exactly what was put into them, and are refused by name where they do not fit."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from basestore.errors import InvalidRequest
from basestore.feeds.position import BLANK, Position
from basestore.feeds.token import Subject

number = st.integers(0, (1 << 64) - 1)
positions_of = st.lists(
    st.builds(
        Position, st.sampled_from([b"", b"a" * 16, b"b" * 16]), number, st.integers(1 << 62, (1 << 63) - 1)
    ),
    min_size=1,
    max_size=9,
)
SUBJECT = Subject(b"c" * 16, b"default", b"user/")
POSITIONS = [Position(b"s" * 16, 300, 1 << 60), BLANK, Position(b"t" * 16, 0, 7)]


@given(positions_of)
def test_a_token_says_what_was_put_into_it(positions: list[Position]) -> None:
    token = SUBJECT.token(positions)
    assert set(token) <= set("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_")
    assert SUBJECT.positions(token, len(positions)) == positions


def test_a_token_of_many_partitions_is_short() -> None:
    positions = [Position(b"abc"[each % 3 : each % 3 + 1] * 16, 5_000_000, 1 << 60) for each in range(64)]
    assert len(SUBJECT.token(positions)) < 800


@pytest.mark.parametrize(
    ("subject", "told"),
    [
        (SUBJECT._replace(cluster=b"d" * 16), "another cluster"),
        (SUBJECT._replace(label=b"defaults"), "another bucket"),
        (SUBJECT._replace(prefix=b"user"), "another prefix"),
    ],
)
def test_a_token_of_something_else_is_refused_by_name(subject: Subject, told: str) -> None:
    with pytest.raises(InvalidRequest, match=told):
        subject.positions(SUBJECT.token(POSITIONS), 3)


@given(st.data())
def test_a_damaged_token_is_refused(data: st.DataObject) -> None:
    token = SUBJECT.token(POSITIONS)
    at = data.draw(st.integers(0, len(token) - 1))
    # Of its last letter some bits say nothing, so that some other letters say the same.
    other = data.draw(st.sampled_from([each for each in "AZaz09-_ é" if each != token[at]]))
    damaged = token[:at] + other + token[at + 1 :]
    if at == len(token) - 1 or (other == " " and at == 0):
        return
    with pytest.raises(InvalidRequest, match="damaged"):
        SUBJECT.positions(damaged, 3)


@pytest.mark.parametrize("cut", range(0, 40, 3))
def test_a_token_that_was_not_copied_whole_is_refused(cut: int) -> None:
    token = SUBJECT.token(POSITIONS)
    for text in (token[:cut], token[cut + 1 :] if cut else token[1:], token + "AAAA"):
        with pytest.raises(InvalidRequest, match="damaged"):
            SUBJECT.positions(text, 3)


def test_a_token_of_another_number_of_partitions_is_damaged() -> None:
    with pytest.raises(InvalidRequest, match="damaged"):
        SUBJECT.positions(SUBJECT.token(POSITIONS), 4)


def test_a_token_of_a_later_form_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("basestore.feeds.token._FORM", 2)
    token = SUBJECT.token(POSITIONS)
    monkeypatch.undo()
    with pytest.raises(InvalidRequest, match="later release"):
        SUBJECT.positions(token, 3)
