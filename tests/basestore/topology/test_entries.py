"""Entries as they stand in the log, and what is wrong with a change by itself. Covers
`topology/entries.py`."""

from typing import Any

import cbor2
import pytest
from hypothesis import given
from hypothesis import strategies as st

from basestore.config import NUMBER_MAX, BucketOptions
from basestore.repair.seats import Seats, Stage
from basestore.topology.changes import (
    KINDS,
    AddMember,
    CancelMoves,
    Change,
    CreateBucket,
    DropBucket,
    ForgetDropped,
    Founded,
    SetMember,
    SetSeats,
    SetSetting,
    TakeBack,
    TakeIn,
    UnsetSetting,
    options_list,
    options_of,
)
from basestore.topology.entries import (
    ENTRY_BYTES_MAX,
    ID_MAX,
    BrokenEntry,
    Suggestion,
    UnknownEntry,
    content_of,
    decode_entry,
    encode_entry,
)
from basestore.topology.faults import fault
from tests.worlds.topologies import FWW, LWW, NO_OPTIONS

TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=8)
NUMBERS = st.integers(1 - (1 << 63), (1 << 63) - 1)
LISTS = st.lists(NUMBERS, max_size=5)
CHANGES: st.SearchStrategy[Change] = st.one_of(
    st.builds(CreateBucket, TEXT, st.sampled_from([LWW, FWW]), LISTS),
    st.builds(DropBucket, TEXT),
    st.builds(SetSetting, TEXT, TEXT),
    st.builds(UnsetSetting, TEXT),
    st.builds(AddMember, TEXT, TEXT, TEXT, NUMBERS, st.binary(max_size=20)),
    st.builds(
        SetMember, NUMBERS, st.none() | TEXT, st.none() | TEXT, st.none() | NUMBERS,
        st.sampled_from([None, "member", "left"]), st.none() | st.binary(max_size=20),
    ),
    st.builds(SetSeats, st.lists(LISTS, max_size=3)),
    st.just(Founded()),
    st.builds(ForgetDropped, LISTS),
    st.builds(TakeIn, st.lists(LISTS, max_size=3)),
    st.builds(TakeBack, st.lists(NUMBERS, max_size=3)),
)  # fmt: skip
SUGGESTIONS = st.builds(
    Suggestion, CHANGES, st.integers(0, ID_MAX), st.integers(0, NUMBER_MAX), st.integers(0, (1 << 63) - 1)
)
SAID = Suggestion(SetSetting("k", "v"), 7, 3, 5)


@given(SUGGESTIONS)
def test_an_entry_comes_back_as_it_was(said: Suggestion) -> None:
    assert decode_entry(encode_entry(said)) == said


def test_every_kind_has_its_number_for_ever() -> None:
    assert {number: make.__name__ for number, make in KINDS.items()} == {
        1: "CreateBucket", 2: "DropBucket", 3: "SetSetting", 4: "UnsetSetting", 5: "AddMember",
        6: "SetMember", 7: "SetSeats", 8: "Founded", 9: "ForgetDropped", 10: "SetPlan",
        11: "DrainMember", 12: "RemoveMember", 13: "ReplaceMember", 14: "Rebalance", 15: "CancelMoves",
        16: "SetReplication", 17: "TakeIn", 18: "TakeBack",
    }  # fmt: skip
    assert encode_entry(SAID).hex() == "870107030503616b6176"
    assert encode_entry(Suggestion(Founded(), 0, 65534, 0)).hex() == "85010019fffe0008"


def test_a_cancel_is_the_same_wish_in_either_words() -> None:
    assert content_of(TakeBack([7])) == content_of(CancelMoves([7])) != content_of(CancelMoves([8]))


def good() -> list[Any]:
    return [1, 7, 3, 5, 3, "k", "v"]


@pytest.mark.parametrize(
    ("place", "value"),
    [
        (0, 0), (0, -1), (0, "1"), (0, True), (1, -1), (1, 1 << 64), (1, None), (2, -1), (2, NUMBER_MAX + 1),
        (2, b""), (3, -1), (3, 1 << 63), (3, 1.0), (4, "3"), (4, True), (5, 1), (5, b"k"), (6, None),
        (6, ["v"]),
    ],
)  # fmt: skip
def test_a_field_of_another_kind_or_size_is_broken(place: int, value: object) -> None:
    fields = good()
    assert decode_entry(cbor2.dumps(fields)) == SAID
    fields[place] = value
    with pytest.raises(BrokenEntry):
        decode_entry(cbor2.dumps(fields))


@pytest.mark.parametrize(
    "said",
    [
        [*good(), "more"], good()[:-1], [], {}, 1, "x", [1, 7, 3, 5, 7, [[1, "x"]]], [1, 7, 3, 5, 7, [1]],
        [1, 7, 3, 5, 9, [1 << 63]], [1, 7, 3, 5, 9, [-(1 << 99999)]],
        [1, 7, 3, 5, True, "b", "last-write-wins", []], [1, 7, 3, 5, 2.0, "b"],
        [1, 7, 3, 5, 9, [True]], [1, 7, 3, 5, 9, [1.0]], [1, 7, 3, 5, 9, 1],
        [1, 7, 3, 5, 6, 1],
        [1, 7, 3, 5, 6, 1, None, None, None, None, 5], [1, 7, 3, 5, 6, None, None, None, None, None, None],
    ],
)  # fmt: skip
def test_fields_that_are_too_many_or_of_another_form_are_broken(said: object) -> None:
    with pytest.raises(BrokenEntry, match="this is no entry of the cluster's log"):
        decode_entry(cbor2.dumps(said))


@pytest.mark.parametrize(
    "data",
    [
        b"",
        encode_entry(SAID)[:-1],
        encode_entry(SAID) + b"\0",
        b"\x9f" + encode_entry(SAID)[1:] + b"\xff",  # an array without a length
        b"\x98\x07" + encode_entry(SAID)[1:],  # a length in two bytes
        encode_entry(SAID).replace(b"av", b"a\xff"),  # no Unicode
        b"\xd9\xd9\xf7" + encode_entry(SAID),  # a tag
        b"\x81" * 100_000,
    ],
)
def test_bytes_that_nobody_has_written_are_broken(data: bytes) -> None:
    with pytest.raises(BrokenEntry):
        decode_entry(data)


@given(st.binary(max_size=60) | SUGGESTIONS.map(encode_entry).flatmap(
    lambda data: st.tuples(st.integers(0, len(data) - 1), st.integers(1, 255)).map(
        lambda at: data[: at[0]] + bytes((data[at[0]] ^ at[1],)) + data[at[0] + 1 :]
    )
))  # fmt: skip
def test_whatever_comes_is_an_entry_in_the_one_form_or_a_value_error(data: bytes) -> None:
    try:
        said = decode_entry(data)
    except ValueError:
        return
    assert encode_entry(said) == data


def test_an_entry_has_256_kib_at_most() -> None:
    room = ENTRY_BYTES_MAX - len(encode_entry(Suggestion(SetSetting("k", "v" * 70_000), 7, 3, 5))) + 70_000
    data = encode_entry(Suggestion(SetSetting("k", "v" * room), 7, 3, 5))
    assert len(data) == ENTRY_BYTES_MAX
    with pytest.raises(BrokenEntry, match="make it smaller"):
        encode_entry(Suggestion(SetSetting("k", "v" * (room + 1)), 7, 3, 5))


@pytest.mark.parametrize(
    ("said", "what"),
    [
        ([2], "version 2"),
        ([2, "whatever", {}], "version 2"),
        ([1, 7, 3, 5, 99], "kind 99"),
        ([1, 7, 3, 5, 1, "b", "newest-wins", [0, 0, 0, 0]], r"rule 'newest-wins' for a bucket \(there are"),
        ([1, 7, 3, 5, 6, 1, None, None, None, "asleep", None], "standing 'asleep'"),
    ],
)
def test_what_a_later_release_may_have_written_is_told_apart(said: list[object], what: str) -> None:
    with pytest.raises(UnknownEntry, match=f"does not know {what}") as raised:
        decode_entry(cbor2.dumps(said))
    assert not isinstance(raised.value, BrokenEntry)


@pytest.mark.parametrize(
    "said",
    [
        SAID._replace(id=-1),
        SAID._replace(id=ID_MAX + 1),
        SAID._replace(by=NUMBER_MAX + 1),
        SAID._replace(wall_ms=-1),
        SAID._replace(change=SetSetting("k", "\udcff")),
        SAID._replace(change=CreateBucket("b", "newest-wins", NO_OPTIONS)),
        SAID._replace(change=SetMember(1, standing="asleep")),
        SAID._replace(change=ForgetDropped([1 << 63])),
    ],
)
def test_what_could_not_be_read_is_not_written(said: Suggestion) -> None:
    with pytest.raises(ValueError, match=r"no entry|not know|not Unicode"):
        encode_entry(said)


def test_seats_and_options_come_back_as_they_were() -> None:
    for seats in (
        Seats.still((3, 1)),
        Seats(9, Stage.JOINT, (3, 1, 300), (3, 70)),
        Seats(9, Stage.FILL, (), ()),
    ):
        assert Seats.of_row(seats.row(7), seats.since) == (7, seats)
        assert Seats.decoded(*map_types(seats.encoded())) == seats
    options = BucketOptions(5, True, 7, 6)
    assert options_of(options_list(options)) == options
    assert all(type(number) is int for number in options_list(options))


def map_types(row: list[Any]) -> Any:
    return cbor2.loads(cbor2.dumps(row))


@pytest.mark.parametrize("row", [[], [1], [1, 0], [1, 3, 0], [1, 0, 2, 5], [1, 0, -1, 5]])
def test_a_row_that_names_no_seats_is_an_error(row: list[int]) -> None:
    with pytest.raises(ValueError, match=r"\w"):
        Seats.of_row(row, 0)
    assert fault(SetSeats([row])) == "these are no seats of a partition: ask for the move again"


# --- what is wrong whatever the cluster is -----------------------------------------------------------

MEMBER = AddMember("n4", "10.0.0.4:7400", "b", 1, b"")


@pytest.mark.parametrize(
    "change",
    [
        CreateBucket("b", LWW, [0, 1, 0, 0]),
        CreateBucket("b" * 64, FWW, [365 * 24 * 3600, 0, 5, 5]),
        CreateBucket("ein Korb \u00fc \u6f22 \U0001fae8", LWW, [0, 0, 0, 7]),
        CreateBucket("\u08e2", LWW, NO_OPTIONS),  # nothing in 2002, and does not print by Unicode 9
        SetSetting("k" * 256, ""),
        SetSetting("k", "\n" + "v" * 65535),
        MEMBER,
        MEMBER._replace(address="[::1]:1", zone="", weight=1_000_000, store=b"s" * 16),
        SetMember(1),
        SetMember(1, weight=0),
        SetSeats([]),
        SetSeats([Seats.still((1,)).row(0), Seats.still((1,)).row(1)]),
        Founded(),
        ForgetDropped([]),
        TakeIn([[0, 1, 2], [7, 1]]),
        TakeBack([7, 0]),
        CreateBucket("b", "register", NO_OPTIONS),
    ],
)
def test_what_nothing_is_wrong_with(change: Change) -> None:
    assert fault(change) == ""


UNPRINTED = "\n\0\x7f\x85\u00a0\u2028\u200b\u202e\u2067\ufeff\ue000"


@pytest.mark.parametrize("character", UNPRINTED)
def test_names_and_keys_print(character: str) -> None:
    text = f"a{character}b"
    for change in (
        CreateBucket(text, LWW, NO_OPTIONS), DropBucket(text), SetSetting(text, ""), UnsetSetting(text),
        MEMBER._replace(name=text), MEMBER._replace(zone=text), MEMBER._replace(address=f"{text}:1"),
        SetMember(1, zone=text),
    ):  # fmt: skip
        assert "print" in fault(change) or "host:port" in fault(change)


@pytest.mark.parametrize(
    ("change", "error"),
    [
        (CreateBucket("", LWW, NO_OPTIONS), "has 1 to 64 bytes"),
        (CreateBucket("\u00fc" * 33, LWW, NO_OPTIONS), "has 1 to 64 bytes"),
        (DropBucket("b" * 65), "has 1 to 64 bytes"),
        (CreateBucket("b", LWW, [0, 0, 0]), "options are those of another release"),
        (CreateBucket("b", LWW, [-1, 0, 0, 0]), "degrade_s = -1 must lie between"),
        (CreateBucket("b", LWW, [365 * 24 * 3600 + 1, 0, 0, 0]), "degrade_s = 31536001 must lie between"),
        (CreateBucket("b", LWW, [0, 2, 0, 0]), "defer is 0 or 1"),
        (CreateBucket("b", FWW, [0, 1, 0, 0]), "defer is for buckets where the last write wins"),
        (CreateBucket("b", "register", [0, 1, 0, 0]), "defer is for buckets where the last write wins"),
        (CreateBucket("b", LWW, [0, 0, -1, 0]), "requests_per_s and key_requests_per_s must lie"),
        (CreateBucket("b", LWW, [0, 0, 0, 1_000_001]), "requests_per_s and key_requests_per_s must lie"),
        (CreateBucket("b", LWW, [0, 0, 5, 6]), "is above requests_per_s, and would never be reached"),
        (TakeIn([[0]]), "a partition is named without members"),
        (TakeIn([[]]), "a partition is named without members"),
        (TakeIn([[0, 1, 1]]), "or with one twice: name each that is taken in once"),
        (TakeIn([[0, 1], [0, 2]]), "named twice in one change: name all its members at once"),
        (SetSetting("", "v"), "has 1 to 256 bytes"),
        (SetSetting("k" * 257, "v"), "has 1 to 256 bytes"),
        (UnsetSetting(""), "has 1 to 256 bytes"),
        (SetSetting("k", "\u00fc" * 32769), "has at most 65536 bytes"),
        (MEMBER._replace(name=""), "1 to 64 bytes that print, without spaces"),
        (MEMBER._replace(name="n 4"), "1 to 64 bytes that print, without spaces"),
        (MEMBER._replace(name="n" * 65), "1 to 64 bytes that print, without spaces"),
        (MEMBER._replace(address="here"), "host:port"),
        (MEMBER._replace(address=":1"), "host:port"),
        (MEMBER._replace(address="h:123456"), "host:port"),
        (MEMBER._replace(address="h:\u0661"), "host:port"),
        (MEMBER._replace(address="h" * 299 + ":1"), "host:port"),
        (SetMember(1, address=""), "host:port"),
        (MEMBER._replace(zone="z" * 65), "a zone has at most 64 bytes"),
        (MEMBER._replace(weight=-1), "weight of a member lies between 0"),
        (SetMember(1, weight=1_000_001), "weight of a member lies between 0"),
        (MEMBER._replace(store=b"s"), "the id of a store has 16 bytes"),
        (SetMember(1, store=b"s" * 17), "the id of a store has 16 bytes"),
        (SetSeats([[0, 1, 1, 1, 2], [0, 2, 1, 1, 2]]), "named twice in one change"),
    ],
)
def test_what_is_wrong_with_a_change_by_itself(change: Change, error: str) -> None:
    assert error in fault(change)
