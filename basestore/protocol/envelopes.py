"""Envelopes: what stands on the outside of a client's frame, for who refuses it without opening it. Pure.

    length 4 | CRC-32 of length and envelope 4 | CRC-32 of the payload 4 | envelope 15 | payload

    envelope: first id 8 | how many requests 2 | their shortest timeout in ms 4 | class 1

To take a frame from a socket costs little; its payload's checksum and its CBOR cost many times as much. A
node that is asked for more than it can do looks at envelopes alone, and says of whole frames that nothing was
done (`intake`). So the requests of a frame have consecutive ids and one class, and are at most REQUESTS_MAX.

The classes, in the order in which they are served:

    ADMIN   status, explain, survey, hints: what an operator asks
    READ    gets
    WRITE   sets and deletes
    BULK    scans; and whatever else a client says is not urgent (an import)

Writes at level ANY stand in frames of their own, whose class says DEFERRABLE too: where they would be refused
the node may keep them for later (`handoff/deferred_writes.py`), as they or their bucket ask for.

What an envelope says is held against the requests once the frame is opened: who lies is disconnected.
"""

import struct
from collections.abc import Iterable, Iterator
from typing import Any, Final, NamedTuple
from zlib import crc32

from basestore.consistency import Level
from basestore.protocol.client import Delete, Get, Scan, Set
from basestore.protocol.codec import Decoder, Message, encode
from basestore.protocol.groups import GetMany, WriteMany, first, requested, singly, together
from basestore.protocol.limits import WIRE_HIGHEST, ProtocolError

REQUESTS_MAX: Final = 256  # of a frame
ADMIN_REQUESTS_MAX: Final = 8  # of a frame of that class: each may take seconds, and few are begun at once
REQUESTS_BYTES: Final = 1 << 20  # of its keys and values, unless it is one request
TIMEOUT_MS_SAID: Final = (1 << 32) - 1
ADMIN, READ, WRITE, BULK = range(4)
CLASSES: Final = ("admin", "read", "write", "bulk")
DEFERRABLE: Final = 0x80
_CLASSES: Final = {Get: READ, GetMany: READ, Set: WRITE, Delete: WRITE, WriteMany: WRITE, Scan: BULK}
_HEADER: Final = struct.Struct(">IIIQHIB")
HEADER_BYTES: Final = _HEADER.size
_COVERED: Final = struct.Struct(">IQHIB")
_LENGTH_BYTES: Final = 4
_ENVELOPE_AT: Final = 12


class Sealed(NamedTuple):
    """A frame that is not opened: what its envelope says, and the rest as it came."""

    first: int
    asks: int
    timeout_ms: int
    kind: int
    checksum: int
    payload: bytes

    @property
    def size(self) -> int:
        return len(self.payload)

    def open(self, decoder: Decoder) -> list[Any]:
        """The requests in it; ProtocolError unless they are what the envelope says."""
        if crc32(self.payload) != self.checksum:
            raise ProtocolError("a frame's checksum does not fit its payload")
        requests = decoder.decode(self.payload)
        at = self.first
        for request in requests:
            if type(request) is WriteMany or type(request) is GetMany:
                count = len(request.ids)
                if request.ids != list(range(at, at + count)):
                    raise ProtocolError("an envelope names other requests than are in it")
            else:
                count = 1
                if getattr(request, "id", None) != at:
                    raise ProtocolError("an envelope names other requests than are in it")
            at += count
            if self.kind not in ((its := class_of(request)), BULK | its & DEFERRABLE if its else ADMIN):
                raise ProtocolError("an envelope names another class than the requests in it are of")
        if at - self.first != self.asks or not 0 < self.asks <= REQUESTS_MAX:
            raise ProtocolError("an envelope counts other requests than are in it")
        if timeout_of(requests) != self.timeout_ms:
            raise ProtocolError("an envelope names another timeout than the requests in it")
        return requests


class Unsealed(NamedTuple):
    """The same of requests that never were bytes: of a client in this process."""

    first: int
    asks: int
    timeout_ms: int
    kind: int
    requests: list[Any]
    size: int

    def open(self, _: Decoder) -> list[Any]:
        return self.requests


def class_of(request: Any) -> int:
    """The class that a request belongs to."""
    kind = _CLASSES.get(type(request), ADMIN)
    return kind | DEFERRABLE if kind == WRITE and request.level == Level.ANY else kind


def most_of(kind: int) -> int:
    """How many requests a frame of this class holds at most."""
    return ADMIN_REQUESTS_MAX if kind == ADMIN else REQUESTS_MAX


def timeout_of(requests: Iterable[Any]) -> int:
    """The shortest time that any of them allows, in ms, as far as an envelope can say it; 0 if none says."""
    shortest = min((each.timeout_ms for each in requests if getattr(each, "timeout_ms", 0)), default=0)
    return max(0, min(shortest, TIMEOUT_MS_SAID))


def seal(requests: Iterable[Message], version: int = WIRE_HIGHEST, *, bulk: bool = False) -> Iterator[bytes]:
    """A client's requests as frames, each in an envelope. `bulk`: none of them is urgent."""
    for kind, at, count, _, batch in _cut(requests, bulk=bulk):
        packed = together(batch)
        yield enveloped(encode(packed, version), at, count, timeout_of(packed), kind)


def unsealed(requests: Iterable[Message], *, bulk: bool = False) -> Iterator[Unsealed]:
    """Requests of a client in this process, as they would stand in envelopes."""
    for kind, at, count, size, batch in _cut(requests, bulk=bulk):
        yield Unsealed(at, count, timeout_of(batch), kind, batch, size)


def enveloped(payload: bytes, at: int, count: int, timeout_ms: int, kind: int) -> bytes:
    """A frame, ready to send."""
    envelope = at, count, timeout_ms, kind
    covered = _COVERED.pack(len(payload), *envelope)
    return _HEADER.pack(len(payload), crc32(covered), crc32(payload), *envelope) + payload


def _cut(requests: Iterable[Message], *, bulk: bool) -> Iterator[tuple[int, int, int, int, list[Message]]]:
    """As many as go into one envelope at a time, with their class, first id, number and size."""
    batch: list[Message] = []
    kind = at = count = size = 0
    for whole in requests:
        for request in _parts(whole):
            asked, asked_bytes = requested(request)
            here = request.ids[0] if type(request) in (WriteMany, GetMany) else request.id  # type: ignore[attr-defined]
            its = class_of(request)
            if bulk and its != ADMIN:
                its = BULK | its & DEFERRABLE
            follows = here == at + count and its == kind
            if batch and (
                not follows or count + asked > most_of(kind) or size + asked_bytes > REQUESTS_BYTES
            ):
                yield kind, at, count, size, batch
                batch = []
            if not batch:
                batch, kind, at, count, size = [], its, here, 0, 0
            batch.append(request)
            count += asked
            size += asked_bytes
    if batch:
        yield kind, at, count, size, batch


def _parts(request: Message) -> Iterator[Message]:
    """It, or as many parts as fit into an envelope each."""
    asked, asked_bytes = requested(request)
    if asked > 1 and asked_bytes > REQUESTS_BYTES:
        yield from singly([request])
        return
    rest = [request]
    while rest:
        taken, rest = first(rest, REQUESTS_MAX)
        yield from taken


def header_of(data: bytes | bytearray, start: int) -> tuple[int, bool, int, int, int, int, int]:
    """Of the frame that begins here: its payload's length, whether the header fits its own checksum, and
    what is to become of it as `Sealed`, less the payload."""
    length, own, checksum, at, count, timeout_ms, kind = _HEADER.unpack_from(data, start)
    envelope = data[start + _ENVELOPE_AT : start + HEADER_BYTES]
    sound = crc32(envelope, crc32(data[start : start + _LENGTH_BYTES])) == own
    return length, sound, at, count, timeout_ms, kind, checksum
