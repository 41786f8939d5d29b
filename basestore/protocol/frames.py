"""Frames: how a stream of bytes is cut into batches of messages. Pure.

    length 4 | CRC-32 of the length 4 | CRC-32 of the payload 4 | payload: messages, see `codec`

A length beyond the bound is refused before a byte of it is kept, so a stranger (a browser, say) costs
nothing. The checksums are for links that corrupt what TCP's own sum of 16 bits lets pass (Stone and
Partridge, "When the CRC and TCP checksum disagree", 2000). The length has one of its own: who believes a
wrong length waits, deaf, for bytes that never come, and never looks at a checksum of the whole.

It refuses to go on after a broken frame: in what follows, nobody knows where the next one begins.
"""

import struct
from collections.abc import Iterable, Iterator
from zlib import crc32

from basestore.protocol.codec import Decoder, Message, encode
from basestore.protocol.groups import asked_in, requested, singly, together
from basestore.protocol.limits import BATCH_MESSAGES_MAX, ProtocolError

FRAME_BYTES_MAX = 8 << 20  # between nodes
CLIENT_FRAME_BYTES_MAX = 4 << 20  # what clients send: decoding may take fifty times as much memory
HELLO_BYTES_MAX = 64 << 10  # of whoever has not been let in
REQUESTS_BYTES = 2 << 20
REQUESTS_MAX = 256
_LENGTH = struct.Struct(">I")
_HEADER = struct.Struct(">III")


def pack(messages: Iterable[Message]) -> bytes:
    """One frame, ready to send."""
    payload = encode(messages)
    length = len(payload)
    return _HEADER.pack(length, crc32(_LENGTH.pack(length)), crc32(payload)) + payload


def pack_requests(messages: Iterable[Message]) -> Iterator[bytes]:
    """A client's messages, cut into frames well within what a node takes."""
    batch: list[Message] = []
    count = size = 0
    for message in messages:
        asked, asked_bytes = requested(message)
        if batch and (count + asked > REQUESTS_MAX or size + asked_bytes > REQUESTS_BYTES):
            yield pack(together(batch))
            batch, count, size = [], 0, 0
        if asked > 1 and asked_bytes > REQUESTS_BYTES:
            yield from pack_requests(singly([message]))
            continue
        batch.append(message)
        count += asked
        size += asked_bytes
    if batch:
        yield pack(together(batch))


class FrameReader:
    """Takes bytes as they come, gives messages. `frame_bytes_max` may be raised after the hello."""

    __slots__ = ("_buffer", "_decoder", "frame_bytes_max")

    def __init__(self, frame_bytes_max: int = FRAME_BYTES_MAX) -> None:
        self.frame_bytes_max = frame_bytes_max
        self._buffer = bytearray()
        self._decoder = Decoder()

    def feed(self, data: bytes) -> list[Message]:
        """The messages of every frame that is complete now; ProtocolError on a broken one."""
        buffer = self._buffer
        if not buffer:
            messages, start = self._frames(data)
            if start < len(data):
                buffer += memoryview(data)[start:]
            return messages
        buffer += data
        messages, start = self._frames(buffer)
        if start:
            del buffer[:start]
        return messages

    def _frames(self, data: bytes | bytearray) -> tuple[list[Message], int]:
        """The messages of all frames that are complete, and where the next one begins."""
        messages: list[Message] = []
        start, end = 0, len(data)
        # In the order of what is believed: the bound needs no trust, the length only its own checksum; the
        # payload's is looked at when all of it is there.
        while end - start >= _HEADER.size:
            length, length_checksum, checksum = _HEADER.unpack_from(data, start)
            if length > self.frame_bytes_max:
                raise ProtocolError(
                    f"a frame of {length} bytes is announced, at most {self.frame_bytes_max} are allowed; "
                    f"the other side may not speak this protocol"
                )
            if crc32(data[start : start + _LENGTH.size]) != length_checksum:
                raise ProtocolError("a frame's checksum does not fit its length")
            stop = start + _HEADER.size + length
            if end < stop:
                break
            payload = data[start + _HEADER.size : stop]
            if crc32(payload) != checksum:
                raise ProtocolError("a frame's checksum does not fit its payload")
            said = self._decoder.decode(bytes(payload))
            if asked_in(said) > BATCH_MESSAGES_MAX:
                raise ProtocolError(f"a frame asks for more than {BATCH_MESSAGES_MAX} things")
            messages += said
            start = stop
        return messages, start

    @property
    def partial(self) -> int:
        """Bytes of a frame that has begun and not ended."""
        return len(self._buffer)
