"""Kinds and fields belong to a version of the wire: what an older one does not carry is cut off, and has its
default at the other end; what cannot be said at all is known before."""

from collections.abc import Iterator
from typing import Any, NamedTuple

import cbor2
import pytest

from basestore.protocol import registry
from basestore.protocol.codec import Decoder, decode, encode
from basestore.protocol.limits import WIRE_HIGHEST, WIRE_LOWEST, ProtocolError, UnknownKind
from basestore.protocol.registry import ANYTHING, message, unspeakable
from tests.worlds.messages import EXAMPLES


@pytest.fixture
def kinds(monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[type[Any], type[Any], type[Any]]]:
    """A message to which a field was added, one that is new, and one that may be left unheard."""
    monkeypatch.setattr(registry, "FORMS", dict(registry.FORMS))
    registry.forms_of.cache_clear()
    registry.cuts_of.cache_clear()

    @message(900, unchecked=ANYTHING, added={"later": 9})
    class Grown(NamedTuple):
        id: int
        names: list[bytes]
        later: int = 7

    @message(901, unchecked=ANYTHING, since=9)
    class New(NamedTuple):
        id: int

    @message(1001, unchecked=ANYTHING, since=9)
    class Aside(NamedTuple):
        id: int

    yield Grown, New, Aside
    for kind in (Grown, New, Aside):
        del registry.NUMBERS[kind], registry.DATES[kind]
    registry.forms_of.cache_clear()
    registry.cuts_of.cache_clear()


def test_a_field_that_was_added_does_not_travel_to_who_does_not_know_it(kinds: Any) -> None:
    grown, *_ = kinds
    said = grown(1, [b"a"], 12)
    assert decode(encode([said, said])) == [said, said]
    old = encode([said, said], 8)
    assert decode(old, 8) == [grown(1, [b"a"], 7)] * 2
    with pytest.raises(ProtocolError, match="wrong number or types"):
        decode(old)


@pytest.mark.parametrize("new", [{"added": {"later": 9}}, {"since": 9}])
def test_to_what_is_said_before_a_version_is_settled_nothing_can_be_added(
    new: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(registry, "FORMS", dict(registry.FORMS))

    class Grown(NamedTuple):
        id: int
        later: int = 7

    with pytest.raises(TypeError, match="before a version is settled"):
        message(9, unchecked=ANYTHING, **new)(Grown)


def test_who_is_about_to_say_what_the_other_cannot_hear_is_told(kinds: Any) -> None:
    grown, new, _ = kinds
    assert unspeakable(grown(1, [], 12), 8) == 9
    assert unspeakable(grown(1, []), 8) == 0
    assert unspeakable(new(1), 8) == 9
    assert unspeakable(new(1), 9) == 0


def test_a_kind_that_is_not_known_is_named(kinds: Any) -> None:
    _, new, _ = kinds
    with pytest.raises(UnknownKind, match="version 8 of the wire has no message of kind 901"):
        decode(encode([new(1)]), 8)


def test_what_may_be_left_unheard_is_noted_and_the_rest_is_heard(kinds: Any) -> None:
    grown, _, aside = kinds
    decoder = Decoder(8)
    payload = cbor2.dumps([[900, 1, []], [1001, 5, 6], [900, 2, []]])
    assert decoder.decode(payload) == [grown(1, []), grown(2, [])]
    assert decoder.unheard == {1001}
    assert decode(encode([aside(5)])) == [aside(5)]


@pytest.mark.parametrize("version", range(WIRE_LOWEST, WIRE_HIGHEST + 1))
def test_each_version_carries_what_it_knows(version: int) -> None:
    for kind, example in EXAMPLES.items():
        if not unspeakable(example, version):
            assert decode(encode([example, example], version), version) == [example, example], kind


def test_fields_are_added_at_the_end_and_with_defaults() -> None:
    class Front(NamedTuple):
        first: int = 0
        second: int = 0

    with pytest.raises(TypeError, match="at the end"):
        message(902, unchecked=ANYTHING, added={"first": 9})(Front)

    class Bare(NamedTuple):
        first: int
        second: int

    with pytest.raises(TypeError, match="no defaults"):
        message(903, unchecked=ANYTHING, added={"second": 9})(Bare)
