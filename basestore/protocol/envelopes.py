"""Envelopes: what stands on the outside of a client's frame, for who refuses it without opening it. Pure.

    length 4 | CRC-32 of length and envelope 4 | CRC-32 of the payload 4 | envelope 15 | payload

    envelope: first id 8 | how many requests 2 | their shortest timeout in ms 4 | class 1

To take a frame from a socket costs little; its payload's checksum and its CBOR cost many times as much. A
node that is asked for more than it can do looks at envelopes alone, and says of whole frames that nothing was
done (`intake`). Where all of a class would be refused it is *shut*: of its frames nothing but ids is kept.
So the requests of a frame have consecutive ids and one class, and are at most REQUESTS_MAX.

The classes, in the order in which they are served:

    ADMIN   status, explain, survey, hints: what an operator asks
    READ    gets
    WRITE   sets and deletes, and transactions
    BULK    scans; and whatever else a client says is not urgent (an import)

Writes at level ANY stand in frames of their own, whose class says DEFERRABLE too: where they would be refused
the node may keep them for later (`handoff/deferred_writes.py`), as they or their bucket ask for.

What an envelope says is held against the requests once the frame is opened: who lies is disconnected.
"""

import struct
from collections.abc import Callable, Container, Iterable, Iterator
from typing import Any, Final, NamedTuple
from zlib import crc32

from basestore.consistency import Level
from basestore.protocol.client import Commit, Delete, Get, Scan, Set, WriteBatch
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
_CLASSES: Final = {
    Get: READ, GetMany: READ, Set: WRITE, Delete: WRITE, WriteMany: WRITE, Scan: BULK,
    Commit: WRITE, WriteBatch: WRITE,
}  # fmt: skip
_ENVELOPE: Final = struct.Struct(">QHIB")
_HEADER: Final = struct.Struct(f">4sII{_ENVELOPE.size}s")
HEADER_BYTES: Final = _HEADER.size
_LENGTH_BYTES: Final = 4

Believed = Callable[[int, bool], None]  # of a length, and whether it is sound: raises if not


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


class Skimmed(NamedTuple):
    """So many requests of one class, from `first` on, whose frames were not kept: nobody is to open them."""

    first: int
    asks: int
    kind: int


class Unsealed(NamedTuple):
    """The same as `Sealed`, of requests that never were bytes: of a client in this process."""

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
    return kind | DEFERRABLE if kind == WRITE and getattr(request, "level", None) == Level.ANY else kind


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
    """Requests of a client in this process, as they would stand in envelopes. The ids of a group follow on
    each other."""
    for kind, at, count, size, batch in _cut(requests, bulk=bulk):
        yield Unsealed(at, count, timeout_of(batch), kind, batch, size)


def enveloped(payload: bytes, at: int, count: int, timeout_ms: int, kind: int) -> bytes:
    """A frame, ready to send."""
    length, envelope = len(payload).to_bytes(_LENGTH_BYTES), _ENVELOPE.pack(at, count, timeout_ms, kind)
    return _HEADER.pack(length, crc32(envelope, crc32(length)), crc32(payload), envelope) + payload


def cut(
    data: bytes | bytearray, bytes_max: int, believed: Believed, shut: Container[int]
) -> tuple[list[Sealed | Skimmed], int]:
    """The frames that are complete, and where the next one begins; of those whose class is `shut` their ids,
    of one run after another. ProtocolError on a broken one."""
    frames: list[Sealed | Skimmed] = []
    start, end = 0, len(data)
    run, run_from, run_to = -1, 0, 0
    with memoryview(data) as view:
        while end - start >= HEADER_BYTES:
            said_length, own, checksum, envelope = _HEADER.unpack_from(data, start)
            length = int.from_bytes(said_length)
            if length > bytes_max or crc32(envelope, crc32(said_length)) != own:
                believed(length, False)
            first, asks, timeout_ms, kind = _ENVELOPE.unpack(envelope)
            if not 0 < asks <= REQUESTS_MAX or (kind == ADMIN and asks > ADMIN_REQUESTS_MAX):
                raise ProtocolError(f"an envelope counts {asks} requests, not 1 to {most_of(kind)}")
            stop = start + HEADER_BYTES + length
            if end < stop:
                break
            if kind not in shut:
                payload = view[start + HEADER_BYTES : stop].tobytes()
                frames.append(Sealed(first, asks, timeout_ms, kind, checksum, payload))
            else:
                if kind != run or first != run_to:
                    if run >= 0:
                        frames.append(Skimmed(run_from, run_to - run_from, run))
                    run, run_from = kind, first
                run_to = first + asks
            start = stop
    if run >= 0:
        frames.append(Skimmed(run_from, run_to - run_from, run))
    if _LENGTH_BYTES <= end - start < HEADER_BYTES:  # the rest of a header that says this may never come
        believed(int.from_bytes(data[start : start + _LENGTH_BYTES]), True)
    return frames, start


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
