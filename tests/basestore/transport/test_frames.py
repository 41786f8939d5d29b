"""How a stream is cut into frames, whatever pieces it comes in."""

import struct
from zlib import crc32

import pytest
from hypothesis import given
from hypothesis import strategies as st

from basestore.protocol.codec import Message, encode
from basestore.protocol.limits import ProtocolError
from basestore.protocol.operator import Status
from basestore.transport.frames import (
    FRAME_BYTES_MAX,
    HELLO_BYTES_MAX,
    FrameReader,
    pack,
)
from tests.worlds.messages import batches

streams = st.lists(batches, max_size=4)


def header(length: int, checksum: int) -> bytes:
    return struct.pack(">III", length, crc32(length.to_bytes(4)), checksum)


def frame(payload: bytes, length: int | None = None, checksum: int | None = None) -> bytes:
    """A frame whose header may lie."""
    length = len(payload) if length is None else length
    return header(length, crc32(payload) if checksum is None else checksum) + payload


@given(streams)
def test_frames_arrive_as_they_were_packed(sent: list[list[Message]]) -> None:
    reader = FrameReader()
    assert reader.feed(b"".join(map(pack, sent))) == [message for batch in sent for message in batch]
    assert reader.partial == 0


@given(streams, st.lists(st.integers(1, 9), min_size=1))
def test_pieces_of_any_size_give_the_same_as_all_at_once(sent: list[list[Message]], sizes: list[int]) -> None:
    stream = b"".join(map(pack, sent))
    reader = FrameReader()
    received: list[Message] = []
    at = turn = 0
    while at < len(stream):
        size = sizes[turn % len(sizes)]
        received += reader.feed(stream[at : at + size])
        at, turn = at + size, turn + 1
    assert received == [message for batch in sent for message in batch]
    assert reader.partial == 0


@given(batches)
def test_byte_by_byte_nothing_comes_before_the_last_one(sent: list[Message]) -> None:
    stream = pack(sent)
    reader = FrameReader()
    for index, byte in enumerate(stream[:-1]):
        assert reader.feed(bytes((byte,))) == []
        assert reader.partial == index + 1
    assert reader.feed(stream[-1:]) == sent


@given(batches.filter(bool), st.data())
def test_any_flipped_bit_is_detected_or_waits_for_more(sent: list[Message], data: st.DataObject) -> None:
    stream = bytearray(pack(sent))
    at = data.draw(st.integers(0, len(stream) - 1))
    stream[at] ^= 1 << data.draw(st.integers(0, 7))
    reader = FrameReader()
    try:
        assert reader.feed(bytes(stream)) == []
    except ProtocolError:
        return
    assert at < 4  # the length lied, and more is waited for
    assert reader.partial == len(stream)


def test_a_length_beyond_the_bound_is_refused_before_the_payload_comes() -> None:
    with pytest.raises(ProtocolError, match=f"at most {FRAME_BYTES_MAX} are allowed"):
        FrameReader().feed(header(FRAME_BYTES_MAX + 1, 0))
    assert FrameReader().feed(header(FRAME_BYTES_MAX, 0)) == []


def test_before_the_handshake_frames_are_short() -> None:
    reader = FrameReader(HELLO_BYTES_MAX)
    with pytest.raises(ProtocolError, match=f"at most {HELLO_BYTES_MAX} are allowed"):
        reader.feed(header(HELLO_BYTES_MAX + 1, 0))
    reader = FrameReader(HELLO_BYTES_MAX)
    reader.frame_bytes_max = FRAME_BYTES_MAX
    assert reader.feed(header(HELLO_BYTES_MAX + 1, 0)) == []


@pytest.mark.parametrize(
    "text",
    [b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n", b"POST /k HTTP/1.1\r\n\r\n", b"SSH-2.0-OpenSSH_9.6\r\n"],
)
def test_another_protocol_is_told_apart_at_once(text: bytes) -> None:
    with pytest.raises(ProtocolError, match="may not speak this protocol"):
        FrameReader().feed(text[:12])


def test_a_wrong_checksum_is_refused() -> None:
    payload = encode([Status(1)])
    with pytest.raises(ProtocolError, match="checksum"):
        FrameReader().feed(frame(payload, checksum=crc32(payload) ^ 1))


@pytest.mark.parametrize("bit", range(32))
def test_one_wrong_bit_in_a_length_is_refused_before_the_payload_comes(bit: int) -> None:
    changed = bytearray(frame(encode([Status(1)])))
    changed[bit // 8] ^= 1 << bit % 8
    with pytest.raises(ProtocolError):
        FrameReader().feed(bytes(changed))


def test_of_a_frame_that_will_not_end_nothing_is_kept() -> None:
    reader = FrameReader()
    reader.feed(pack([Status(1)])[:-1])
    reader.forget()
    assert reader.partial == 0
    assert reader.feed(pack([Status(2)])) == [Status(2)]


def test_a_length_that_is_too_small_or_too_large_is_refused_or_waits() -> None:
    payload = encode([Status(1)])
    with pytest.raises(ProtocolError, match="checksum"):
        FrameReader().feed(frame(payload, length=len(payload) - 1))
    reader = FrameReader()
    assert reader.feed(frame(payload, length=len(payload) + 1)) == []
    with pytest.raises(ProtocolError, match="checksum"):
        reader.feed(b"\0")


@pytest.mark.parametrize("payload", [b"", b"\x80\x00", b"\xf7", b"\xa0"])
def test_a_sound_frame_around_nonsense_is_refused(payload: bytes) -> None:
    with pytest.raises(ProtocolError):
        FrameReader().feed(frame(payload))


def test_an_empty_batch_is_a_frame() -> None:
    assert FrameReader().feed(pack([])) == []
