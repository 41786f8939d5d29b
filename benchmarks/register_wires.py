"""Register wires: what a client of ours, and one of etcd, says over its connection, with as little work of
its own as can be. Nothing here waits, nor opens a connection.

Ours is the product's own wire, a frame a request. etcd's is gRPC: HTTP/2 (RFC 9113) with protobuf, of which
there is no more here than one request under way needs. Header fields are sent once a connection and named
by their numbers from then on (HPACK, RFC 7541), as any client of gRPC does; those of answers are not read: a
call that fails is answered without a message, and that is how it is told apart.
"""

import itertools
import struct
from collections.abc import Iterator, Sequence
from typing import Final

from basestore.consistency import Level
from basestore.leases import HOLDER_BYTES, LOCKS, Holding
from basestore.metrics import FAILURES
from basestore.protocol.client import (
    ADD,
    IF_ABSENT,
    IF_VERSION,
    NO_CONDITION,
    OUTCOME_LOST,
    SET,
    Commit,
    Committed,
    Failed,
    Get,
    Got,
    Set,
    Shed,
    Written,
)
from basestore.protocol.envelopes import seal
from basestore.protocol.groups import Found, Stored
from basestore.transport.frames import FrameReader
from benchmarks.closed_loop import Answer, LoopFailed

REGISTERS: Final = "cas"  # the bucket, which a new cluster makes by itself, soon
TIMEOUT_MS: Final = 5000
HOUR_MS: Final = 3_600_000
PROPOSALS_FROM: Final = 1 << 56
LEASE: Final = Holding(1, bytes(HOLDER_BYTES - 1) + b"1", "benchmark", HOUR_MS, 1).encode()

# --- ours ----------------------------------------------------------------------------------------

_proposals = itertools.count(PROPOSALS_FROM)  # of all connections: a write is known by its own


class OurWire:
    """A connection to a node, whose handshake is done. `frames` reads on behind it."""

    def __init__(self, frames: FrameReader) -> None:
        self._frames = frames
        self._id = 0

    def compare(self, key: bytes, version: bytes, value: bytes) -> bytes:
        condition = IF_VERSION if version else IF_ABSENT
        return self._set(REGISTERS, key, value, Level.SERIAL, condition=condition, expected=version)

    def compare_absent(self, key: bytes, value: bytes) -> bytes:
        return self.compare(key, b"", value)

    def add(self, key: bytes) -> bytes:
        """To the number that the key holds, one."""
        return self._set(REGISTERS, key, b"1", Level.SERIAL, condition=ADD)

    def read(self, key: bytes) -> bytes:
        return self._get(REGISTERS, key, Level.SERIAL)

    def transact(self, keys: Sequence[bytes], value: bytes) -> bytes:
        """All of these are written at once, whatever they hold."""
        self._id += 1
        count = len(keys)
        request = Commit(
            self._id, TIMEOUT_MS, [REGISTERS] * count, list(keys), [SET] * count, [b""] * count,
            [value] * count, [0] * count,
        )  # fmt: skip
        return b"".join(seal((request,)))

    def write(self, key: bytes, value: bytes) -> bytes:
        """At QUORUM. Those that come in one turn of a node are made a group."""
        return self._set("default", key, value, Level.QUORUM)

    def write_alone(self, key: bytes, value: bytes) -> bytes:
        """At QUORUM, and it expires, long after the benchmark: what expires is not made part of a group."""
        return self._set("default", key, value, Level.QUORUM, ttl_ms=HOUR_MS)

    def read_quorum(self, key: bytes) -> bytes:
        return self._get("default", key, Level.QUORUM)

    def _set(
        self, bucket: str, key: bytes, value: bytes, level: Level, *, ttl_ms: int = 0,
        condition: int = NO_CONDITION, expected: bytes = b"",
    ) -> bytes:  # fmt: skip
        self._id += 1
        proposal = next(_proposals).to_bytes(8)
        request = Set(
            self._id, bucket, key, value, level, TIMEOUT_MS, ttl_ms, proposal,
            condition=condition, expected=expected,
        )  # fmt: skip
        return b"".join(seal((request,)))

    def _get(self, bucket: str, key: bytes, level: Level) -> bytes:
        self._id += 1
        return b"".join(seal((Get(self._id, bucket, key, level, TIMEOUT_MS, b"", True),)))

    def heard(self, data: bytes) -> Iterator[Answer]:
        for said in self._frames.feed(data):
            for answer in said.single() if isinstance(said, Stored | Found) else (said,):
                if isinstance(answer, Written):
                    lost = answer.outcome == OUTCOME_LOST
                    version = answer.better if lost else answer.version
                    yield Answer(lost, version, answer.value, partition=answer.partition)
                elif isinstance(answer, Got):
                    version = answer.version if answer.found else b""
                    yield Answer(False, version, answer.value)
                elif isinstance(answer, Committed):
                    yield Answer(False, answer.versions[0])
                elif isinstance(answer, Failed):
                    yield Answer(error=f"{FAILURES[answer.code]}: {answer.text.partition(';')[0]:.80}")
                elif isinstance(answer, Shed):
                    yield Answer(error="overloaded: the request was shed")


class LockWire(OurWire):
    """The same, of which a compare is that of whoever renews a lease: of the register of a lock."""

    def compare(self, key: bytes, version: bytes, value: bytes) -> bytes:
        condition = IF_VERSION if version else IF_ABSENT
        return self._set(LOCKS, key, LEASE, Level.SERIAL, condition=condition, expected=version)


# --- etcd ----------------------------------------------------------------------------------------

PREFACE: Final = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
_DATA, _HEADERS, _RESET, _SETTINGS, _PING, _GO_AWAY, _WINDOW = 0, 1, 3, 4, 6, 7, 8
_ACK, _END_STREAM, _END_HEADERS = 1, 1, 4
_FRAME: Final = struct.Struct(">BHBBI")  # length in 1 + 2 bytes, kind, flags, stream
_MESSAGE: Final = struct.Struct(">BI")  # of gRPC: compressed or not, length
_CREDIT_BYTES: Final = 1 << 30  # more than a connection is sent in a run
_POST, _HTTP, _INDEXED, _DYNAMIC = b"\x83", b"\x86", 0x80, 62  # HPACK: of the static table; the other begins
_KV: Final = b"/etcdserverpb.KV/"
_VARINT, _BYTES = 0, 2
Fields = dict[int, bytes]


class EtcdWire:
    """A connection to a member. `opening` goes out before the first request."""

    def __init__(self, authority: str) -> None:
        self._authority = authority.encode()
        self._stream = -1
        self._table: list[bytes] = []  # fields by which the other side knows them, oldest first
        self._owed = b""
        self._buffer = self._called = self._message = b""

    def opening(self) -> bytes:
        return PREFACE + _frame(_SETTINGS, 0, 0, b"") + _frame(_WINDOW, 0, 0, _CREDIT_BYTES.to_bytes(4))

    # --- requests ----------------------------------------------------------------------------

    def compare(self, key: bytes, version: bytes, value: bytes) -> bytes:
        """A transaction: if the key was changed last by this revision (0: it is not there), put; otherwise
        tell what is there."""
        revision_is = _number(2, 2) + _string(3, key) + _tag(6, _VARINT) + (version or b"\0")
        put = _string(2, _string(1, key) + _string(2, value))
        told = _string(1, _string(1, key))
        return self._call(b"Txn", _string(1, revision_is) + _string(2, put) + _string(3, told))

    def read(self, key: bytes) -> bytes:
        return self._call(b"Range", _string(1, key))

    def _call(self, name: bytes, message: bytes) -> bytes:
        self._stream += 2
        self._called, self._message = name, b""
        fields = b"".join((
            _POST, _HTTP, self._field(b"\x44", _KV + name), self._field(b"\x41", self._authority),
            self._field(b"\x5f", b"application/grpc"), self._field(b"\x40\x02te", b"trailers"),
        ))  # fmt: skip
        owed, self._owed = self._owed, b""
        return b"".join((
            owed, _frame(_HEADERS, _END_HEADERS, self._stream, fields),
            _frame(_DATA, _END_STREAM, self._stream, _MESSAGE.pack(0, len(message)) + message),
        ))  # fmt: skip

    def _field(self, name: bytes, value: bytes) -> bytes:
        """Its number, or the field itself, which has one from then on. `name`: as HPACK begins it."""
        field = name + bytes((len(value),)) + value
        if field in self._table:
            return bytes((_INDEXED | _DYNAMIC + len(self._table) - 1 - self._table.index(field),))
        self._table.append(field)
        return field

    # --- answers -----------------------------------------------------------------------------

    def heard(self, data: bytes) -> Iterator[Answer]:
        data, start = self._buffer + data, 0
        while len(data) - start >= _FRAME.size:
            high, low, kind, flags, _ = _FRAME.unpack_from(data, start)
            stop = start + _FRAME.size + (high << 16) + low
            if len(data) < stop:
                break
            payload, start = data[start + _FRAME.size : stop], stop
            if kind == _DATA:
                self._message += payload
            elif kind in (_SETTINGS, _PING) and not flags & _ACK:
                self._owed += _frame(kind, _ACK, 0, payload if kind == _PING else b"")
            elif kind == _GO_AWAY:
                raise LoopFailed(f"etcd has ended a connection: {payload[8:]!r}")
            if kind == _RESET or (kind == _HEADERS and flags & _END_STREAM):
                yield self._answer()
        self._buffer = data[start:]

    def _answer(self) -> Answer:
        if not self._message:
            return Answer(error=f"etcd has refused {self._called.decode()}")
        return _ANSWERS[self._called](_fields(self._message[_MESSAGE.size :]))


def _found(fields: Fields) -> Answer:
    """The key and its value, if it is there."""
    pair = _fields(fields.get(2, b""))
    return Answer(False, pair.get(3, b""), pair.get(5, b""))


def _compared(fields: Fields) -> Answer:
    if fields.get(2) == b"\1":
        return Answer(False, _revision(fields))
    return _found(_fields(_fields(fields[3])[1]))._replace(lost=True)


def _revision(fields: Fields) -> bytes:
    return _fields(fields[1]).get(3, b"")


_ANSWERS: Final = {b"Range": _found, b"Txn": _compared}


# --- protobuf, as far as it is needed ------------------------------------------------------------


def _tag(number: int, kind: int) -> bytes:
    return bytes((number << 3 | kind,))


def _number(number: int, value: int) -> bytes:
    """A small one."""
    return _tag(number, _VARINT) + bytes((value,))


def _string(number: int, value: bytes) -> bytes:
    length, said = len(value), b""
    while length > 0x7F:
        said += bytes((length & 0x7F | 0x80,))
        length >>= 7
    return _tag(number, _BYTES) + said + bytes((length,)) + value


def _fields(message: bytes) -> Fields:
    """By their numbers: strings, and numbers as they are encoded. Of what is repeated, the last."""
    fields: Fields = {}
    at = 0
    while at < len(message):
        number, kind = message[at] >> 3, message[at] & 7
        start = at = at + 1
        while message[at] & 0x80:
            at += 1
        at += 1
        if kind == _BYTES:
            length = sum((each & 0x7F) << 7 * place for place, each in enumerate(message[start:at]))
            start, at = at, at + length
        fields[number] = message[start:at]
    return fields


def _frame(kind: int, flags: int, stream: int, payload: bytes) -> bytes:
    length = len(payload)
    return _FRAME.pack(length >> 16, length & 0xFFFF, kind, flags, stream) + payload
