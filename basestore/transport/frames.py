"""Frames: how a stream of bytes is cut into batches of messages. Pure.

    length 4 | CRC-32 of the length 4 | CRC-32 of the payload 4 | payload: messages, see `codec`

A length beyond the bound is refused before a byte of it is kept, so a stranger (a browser, say) costs
nothing. The checksums are for links that corrupt what TCP's own sum of 16 bits lets pass (Stone and
Partridge, "When the CRC and TCP checksum disagree", 2000). The length has one of its own: who believes a
wrong length waits, deaf, for bytes that never come, and never looks at a checksum of the whole. What clients
send after the hello is *sealed*: an envelope stands on its outside (`protocol/envelopes.py`), and it is not
opened here.

It refuses to go on after a broken frame: in what follows, nobody knows where the next one begins.
"""

import struct
from collections.abc import Callable, Container, Iterable
from typing import Any
from zlib import crc32

from basestore.protocol.codec import Decoder, Message, encode
from basestore.protocol.envelopes import cut
from basestore.protocol.groups import asked_in
from basestore.protocol.limits import BATCH_MESSAGES_MAX, WIRE_HIGHEST, ProtocolError

FRAME_BYTES_MAX = 8 << 20  # between nodes
CLIENT_FRAME_BYTES_MAX = 4 << 20  # what clients send: decoding may take fifty times as much memory
HELLO_BYTES_MAX = 64 << 10  # of whoever has not been let in
WELCOME_BYTES_MAX = 1 << 20  # of a node that has proven itself: of a thousand members
_LENGTH = struct.Struct(">I")
_HEADER = struct.Struct(">III")


def pack(messages: Iterable[Message], version: int = WIRE_HIGHEST) -> bytes:
    """One frame, ready to send."""
    payload = encode(messages, version)
    length = len(payload)
    return _HEADER.pack(length, crc32(_LENGTH.pack(length)), crc32(payload)) + payload


Shut = Callable[[], Container[int]]  # of envelopes: the classes of which nothing would be kept


def nothing() -> Container[int]:
    """Everything is kept."""
    return ()


class FrameReader:
    """Takes bytes as they come, gives messages; or sealed frames, once it is to `keep_sealed`.
    `frame_bytes_max` may be raised after the hello."""

    __slots__ = ("_buffer", "_cut", "_shut", "decoder", "frame_bytes_max")

    def __init__(self, frame_bytes_max: int = FRAME_BYTES_MAX) -> None:
        self.frame_bytes_max = frame_bytes_max
        self._buffer = bytearray()
        self._cut: Callable[[bytes | bytearray], tuple[list[Any], int]] = self._frames
        self._shut: Shut = nothing
        self.decoder = Decoder()

    def speak(self, version: int) -> None:
        """Both sides speak this version from now on."""
        self.decoder = Decoder(version)

    def keep_sealed(self, shut: Shut = nothing) -> None:
        """Give frames as they are from now on, which begin with an envelope; of those that are `shut` when
        they are read only what was skimmed."""
        self._cut, self._shut = self._sealed, shut

    def feed(self, data: bytes) -> list[Any]:
        """The messages of every frame that is complete now, or the frames; ProtocolError on a broken one."""
        buffer = self._buffer
        if not buffer:
            found, start = self._cut(data)
            if start < len(data):
                buffer += memoryview(data)[start:]
            return found
        buffer += data
        found, start = self._cut(buffer)
        if start:
            del buffer[:start]
        return found

    def first(self, data: bytes) -> Message | None:
        """In a handshake, where each frame is one message and decides how what follows is read: the message
        of the first frame that is complete, if there is one. What follows on it is kept for later."""
        self._buffer += data
        found, start = self._frames(self._buffer, 1)
        del self._buffer[:start]
        if start and len(found) != 1:
            raise ProtocolError("a handshake says one thing at a time")
        return found[0] if found else None

    def _believed(self, length: int, sound: bool) -> None:
        # In the order of what is believed: the bound needs no trust, the length only its own checksum; the
        # payload's is looked at when all of it is there.
        if length > self.frame_bytes_max:
            raise ProtocolError(
                f"a frame of {length} bytes is announced, at most {self.frame_bytes_max} are allowed; "
                f"the other side may not speak this protocol"
            )
        if not sound:
            raise ProtocolError("a frame's checksum does not fit its length")

    def _sealed(self, data: bytes | bytearray) -> tuple[list[Any], int]:
        return cut(data, self.frame_bytes_max, self._believed, self._shut())

    def _frames(self, data: bytes | bytearray, most: int = -1) -> tuple[list[Message], int]:
        """The messages of all frames (or so many) that are complete, and where the next one begins."""
        messages: list[Message] = []
        start, end = 0, len(data)
        while most and end - start >= _HEADER.size:
            most -= 1
            length, length_checksum, checksum = _HEADER.unpack_from(data, start)
            self._believed(length, crc32(data[start : start + _LENGTH.size]) == length_checksum)
            stop = start + _HEADER.size + length
            if end < stop:
                break
            payload = data[start + _HEADER.size : stop]
            if crc32(payload) != checksum:
                raise ProtocolError("a frame's checksum does not fit its payload")
            said = self.decoder.decode(bytes(payload))
            if asked_in(said) > BATCH_MESSAGES_MAX:
                raise ProtocolError(f"a frame asks for more than {BATCH_MESSAGES_MAX} things")
            messages += said
            start = stop
        return messages, start

    def forget(self) -> None:
        """Nothing more comes: give back what has."""
        self._buffer = bytearray()

    @property
    def partial(self) -> int:
        """Bytes of a frame that has begun and not ended."""
        return len(self._buffer)
