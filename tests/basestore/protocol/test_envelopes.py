"""What stands on the outside of a client's frame, and that it is held against what is inside."""

from collections.abc import Iterable
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from basestore.protocol.client import IF_VALUE, IF_VERSION, Delete, Get, Scan, Set
from basestore.protocol.codec import Decoder
from basestore.protocol.envelopes import (
    ADMIN,
    BULK,
    READ,
    REQUESTS_BYTES,
    REQUESTS_MAX,
    WRITE,
    Sealed,
    Skimmed,
    enveloped,
    seal,
)
from basestore.protocol.groups import GetMany, WriteMany, requested, singly
from basestore.protocol.limits import ProtocolError
from basestore.protocol.operator import Status
from basestore.transport.frames import CLIENT_FRAME_BYTES_MAX, FrameReader

GET = Get(7, "default", b"key", 2, 900, b"", True)
SET = Set(8, "default", b"key", b"value", 2, 1000, 0, b"proposed")


def sealed(requests: Iterable[Any], *, bulk: bool = False) -> list[Sealed]:
    reader = FrameReader(CLIENT_FRAME_BYTES_MAX)
    reader.keep_sealed()
    return reader.feed(b"".join(seal(requests, bulk=bulk)))


def write_many(first: int, count: int, value_bytes: int = 5) -> WriteMany:
    ids = list(range(first, first + count))
    keys, values = [b"k"] * count, [bytes(value_bytes)] * count
    return WriteMany(ids, "default", keys, values, 2, 1000, [b"proposed"] * count, 0, False)


def test_an_envelope_says_which_requests_how_many_how_urgent_and_of_which_class() -> None:
    frames = sealed([GET, GET._replace(id=8, timeout_ms=300), Status(9), SET._replace(id=10)])
    told = [frame[:4] for frame in frames]
    assert told == [(7, 2, 300, READ), (9, 1, 0, ADMIN), (10, 1, 1000, WRITE)]


def test_a_scan_is_bulk_and_whatever_a_client_says_is_but_not_what_an_operator_asks() -> None:
    scan = Scan(1, "default", b"k", b"", 10, 2, 1000)
    assert [frame.kind for frame in sealed([scan])] == [BULK]
    assert [frame.kind for frame in sealed([GET, SET, Status(9)], bulk=True)] == [BULK, ADMIN]


@pytest.mark.parametrize("value_bytes", [0, 100, 10_000, 1 << 20])
def test_requests_are_cut_into_frames_that_a_node_takes_groups_and_all(value_bytes: int) -> None:
    sent: list[Any] = [
        write_many(1, 250, value_bytes), *write_many(300, 5, value_bytes).single(),
        write_many(305, 5, value_bytes), Status(500), write_many(501, 600, value_bytes),
    ]  # fmt: skip
    heard: list[Any] = []
    for frame in sealed(sent):
        inside = frame.open(Decoder())
        assert frame.asks <= REQUESTS_MAX
        assert frame.asks == 1 or sum(requested(each)[1] for each in inside) <= REQUESTS_BYTES
        heard += singly(inside)
    assert heard == singly(sent)


def test_what_a_write_expects_counts_among_its_bytes() -> None:
    expecting = SET._replace(condition=IF_VALUE, expected=bytes(1 << 20))
    assert requested(expecting)[1] - requested(SET)[1] == 1 << 20
    delete = Delete(9, "default", b"key", 2, 1000, b"proposed", condition=IF_VERSION, expected=bytes(24))
    assert requested(delete) == (1, 27)
    frames = sealed([expecting._replace(id=number) for number in range(8, 14)])
    assert len(frames) > 1  # they would not fit into one


@given(st.lists(st.tuples(st.integers(0, 600), st.sampled_from([GET, SET, Status(0)])), max_size=20))
def test_whatever_ids_come_in_whatever_order_each_arrives_as_it_was(drawn: list[tuple[int, Any]]) -> None:
    sent = [request._replace(id=number) for number, request in drawn]
    heard = [each for frame in sealed(sent) for each in singly(frame.open(Decoder()))]
    assert heard == sent


@given(
    st.lists(st.tuples(st.integers(1, 3), st.sampled_from([GET, SET, Status(0)])), max_size=12),
    st.lists(st.integers(0, 900), max_size=6),
)
def test_of_classes_that_are_shut_no_more_than_ids_is_kept_wherever_reads_end(
    drawn: list[tuple[int, Any]], ends: list[int]
) -> None:
    sent, at = b"", 1
    for count, request in drawn:
        sent += b"".join(seal(request._replace(id=number) for number in range(at, at + count)))
        at += count
    whole = FrameReader(CLIENT_FRAME_BYTES_MAX)
    whole.keep_sealed()
    frames = whole.feed(sent)
    skims = FrameReader(CLIENT_FRAME_BYTES_MAX)
    skims.keep_sealed(lambda: (WRITE,))
    cuts = [0, *sorted(ends), len(sent)]
    heard = [each for one, next_ in pairwise(cuts) for each in skims.feed(sent[one:next_])]
    assert [each for each in heard if isinstance(each, Sealed)] == [
        each for each in frames if each.kind != WRITE
    ]
    skimmed = [each for each in heard if isinstance(each, Skimmed)]
    ids = [number for each in skimmed for number in range(each.first, each.first + each.asks)]
    assert ids == [
        number for each in frames if each.kind == WRITE
        for number in range(each.first, each.first + each.asks)
    ]  # fmt: skip
    assert not skims.partial


def test_what_follows_on_each_other_is_skimmed_as_one_and_not_believed_sooner() -> None:
    sent = b"".join(seal(SET._replace(id=number) for number in (*range(1, 700), 800, 801)))
    reader = FrameReader(CLIENT_FRAME_BYTES_MAX)
    reader.keep_sealed(lambda: (WRITE,))
    assert reader.feed(sent) == [Skimmed(1, 699, WRITE), Skimmed(800, 2, WRITE)]
    broken = bytearray(sent)
    broken[20] ^= 1
    with pytest.raises(ProtocolError):
        reader.feed(bytes(broken))


@pytest.mark.parametrize(
    "lie",
    [
        {"first": 8}, {"asks": 1}, {"asks": 3}, {"asks": 0}, {"timeout_ms": 899}, {"timeout_ms": 0},
        {"kind": WRITE}, {"kind": ADMIN}, {"kind": 200}, {"checksum": 5},
    ],
)  # fmt: skip
@pytest.mark.parametrize("many", [False, True])
def test_an_envelope_that_lies_is_refused(lie: dict[str, Any], many: bool) -> None:
    singles, columns = [GET, GET._replace(id=8)], [GetMany([7, 8], "default", [b"k", b"l"], 2, 900)]
    (frame,) = sealed(columns if many else singles)
    frame.open(Decoder())
    with pytest.raises(ProtocolError):
        frame._replace(**lie).open(Decoder())


def test_a_frame_of_too_many_requests_is_refused() -> None:
    frames = sealed([GetMany(list(range(256)), "default", [b"k"] * 256, 2, 900)])
    assert [frame.asks for frame in frames] == [256]
    long = [GetMany([*range(257)], "default", [b"k"] * 257, 2, 900)]
    (whole, rest) = sealed(long)
    assert (whole.asks, rest.asks) == (256, 1)


@pytest.mark.parametrize("count", [0, REQUESTS_MAX + 1, (1 << 16) - 1])
def test_an_envelope_that_counts_what_no_frame_holds_is_refused_unopened(count: int) -> None:
    reader = FrameReader(CLIENT_FRAME_BYTES_MAX)
    reader.keep_sealed()
    with pytest.raises(ProtocolError, match=f"counts {count} requests"):
        reader.feed(enveloped(b"", 1, count, 1000, READ))


@pytest.mark.parametrize("text", [b"GET / HTTP/1.1\r\n", b"SSH-2.0-OpenSSH_9.6\r\n", b"\xff\xff\xff\xff"])
def test_another_protocol_is_told_apart_before_a_header_is_there(text: bytes) -> None:
    reader = FrameReader(CLIENT_FRAME_BYTES_MAX)
    reader.keep_sealed()
    with pytest.raises(ProtocolError, match="may not speak this protocol"):
        reader.feed(text)


def test_what_an_operator_asks_is_not_let_through_as_bulk() -> None:
    (frame,) = sealed([Status(9)])
    with pytest.raises(ProtocolError, match="class"):
        frame._replace(kind=BULK).open(Decoder())


@pytest.mark.parametrize("bit", range(27 * 8))
def test_one_wrong_bit_in_a_header_is_noticed_before_the_frame_is_opened_or_when_it_is(bit: int) -> None:
    changed = bytearray(b"".join(seal([GET])))
    changed[bit // 8] ^= 1 << bit % 8
    reader = FrameReader(CLIENT_FRAME_BYTES_MAX)
    reader.keep_sealed()
    with pytest.raises(ProtocolError):  # all but the payload's checksum is covered by that of the header
        [frame.open(reader.decoder) for frame in reader.feed(bytes(changed))]


def test_deletes_are_writes() -> None:
    delete = Delete(3, "default", b"key", 2, 1000, b"proposed")
    assert [frame.kind for frame in sealed([delete, SET._replace(id=4)])] == [WRITE]
