"""Part: what a partition keeps of an atomic batch, and what a batch is known by. Pure.

Of a batch each partition that it writes to holds its own rows, and the names of the others, as one record of
a hidden bucket in that same partition. With rows a, b in partition 3 and c in 7, stamped at 100:

    partition 3   \\1b, 5e1f0c3a9b7d2468    100   {partitions 3 and 7, a at 101, b at 102}
    partition 7   \\1b, 5e1f0c3a9b7d2468    100   {partitions 3 and 7, c at 103}

The key is what its client has drawn. The parts of a batch share one stamp, and those of its rows follow on
it, in the order of rows; so whoever has one part knows the ballot (stamp and origin) of each, and batches are
in the same order in all partitions. A part is flagged as an intent: it says what rows are to become.

Once a batch is over a tombstone takes the place of its parts, and says for a while how it has ended.
"""

import struct
from collections.abc import Sequence
from typing import Final, NamedTuple, Self

from basestore.repair.version import (
    CHECK_BYTES,
    PROPOSAL_BYTES,
    RECORD_BYTES_MIN,
    VERSION_BYTES,
    Digester,
    Record,
    Version,
    encode_ballot,
    encode_version,
)
from basestore.rows import row_bucket, row_key, row_partition, rows_begin
from basestore.topology.buckets import PARTS

_HEAD: Final = struct.Struct(f">{CHECK_BYTES}sH")
_LENGTHS: Final = struct.Struct(">II")
_PARTITION: Final = struct.Struct(">H")
_ENDED: Final = struct.Struct(f">BQQQ{CHECK_BYTES}s")
NO_CHECK: Final = bytes(CHECK_BYTES)

# How a batch has ended, as its tombstones say. OVER: nobody knows.
OVER, APPLIED, GIVEN_UP = range(3)


class Malformed(ValueError):
    """What should be a part is none."""


class Known(NamedTuple):
    """A batch, as whoever goes on with it knows it. `stamp`: of its parts. `partitions`: that it writes to,
    ascending."""

    proposal: bytes
    stamp: int
    origin: int
    partitions: tuple[int, ...]

    def row(self, partition: int) -> bytes:
        """Of its part there."""
        return part_row(partition, self.proposal)

    @property
    def ballot(self) -> bytes:
        """With which the record of each part begins."""
        return encode_ballot(self.stamp, self.origin)


class Part(NamedTuple):
    """`check`: of the whole batch (`check_of`); `rows` and `records`: of this partition."""

    check: bytes
    partitions: tuple[int, ...]
    rows: tuple[bytes, ...]
    records: tuple[bytes, ...]

    def encode(self) -> bytes:
        """The value of its record."""
        count = len(self.partitions)
        pieces = [_HEAD.pack(self.check, count), struct.pack(f">{count}H", *self.partitions)]
        for row, record in zip(self.rows, self.records, strict=True):
            pieces += (_LENGTHS.pack(len(row), len(record)), row, record)
        return b"".join(pieces)

    @classmethod
    def of(cls, row: bytes, record: Record) -> Self:
        """That which this row holds; Malformed, if that is no part."""
        try:
            part = cls._decode(record.value)
        except struct.error as error:
            raise Malformed("a part of a batch breaks off") from error
        part.check_sense(row, record)
        return part

    @classmethod
    def _decode(cls, value: bytes) -> Self:
        check, count = _HEAD.unpack_from(value)
        at = _HEAD.size
        partitions = struct.unpack_from(f">{count}H", value, at)
        at += count * _PARTITION.size
        rows, records = list[bytes](), list[bytes]()
        while at < len(value):
            row_bytes, record_bytes = _LENGTHS.unpack_from(value, at)
            at += _LENGTHS.size
            rows.append(value[at : at + row_bytes])
            records.append(value[at + row_bytes : at + row_bytes + record_bytes])
            at += row_bytes + record_bytes
        if at != len(value):
            raise Malformed("a part of a batch breaks off")
        return cls(check, partitions, tuple(rows), tuple(records))

    def check_sense(self, row: bytes, record: Record) -> None:
        """Malformed, unless this may stand there."""
        partition, ordered = row_partition(row), list(self.partitions) == sorted(set(self.partitions))
        if not (ordered and partition in self.partitions and record.intent):
            raise Malformed("a part of a batch does not name its own partition")
        if len(row_key(row)) != PROPOSAL_BYTES or row_bucket(row) != PARTS:
            raise Malformed("a part of a batch stands under a key of something else")
        for each, held in zip(self.rows, self.records, strict=True):
            if len(each) < 4 or row_partition(each) != partition or len(held) < RECORD_BYTES_MIN:
                raise Malformed("a part of a batch has a row of another partition, or none")
            if held[:8] <= record.blob[:8]:  # the part is what keeps closed stamps below its rows
                raise Malformed("a part of a batch has a row that is older than itself")

    def known(self, row: bytes, record: Record) -> Known:
        """Of the batch, where this stands."""
        return Known(row_key(row), record.stamp, record.version.origin, self.partitions)


class Ended(NamedTuple):
    """What the tombstone of a part says. `how`: OVER, APPLIED, GIVEN_UP; `number`: that the part's version
    had, 0 where that is not known: those of its rows follow on it. `stamp` and `origin` as in `Known`;
    `check` as in `Part`, NO_CHECK where it is not known."""

    how: int
    number: int
    stamp: int
    origin: int
    check: bytes

    def encode(self) -> bytes:
        return _ENDED.pack(*self)

    @classmethod
    def of(cls, record: Record) -> Self:
        value = record.value
        if len(value) != _ENDED.size or value[0] > GIVEN_UP:
            return cls(OVER, 0, 0, 0, NO_CHECK)
        return cls(*_ENDED.unpack(value))


def part_row(partition: int, proposal: bytes) -> bytes:
    return rows_begin(partition, PARTS) + proposal


class Content(NamedTuple):
    """What is to be written to one row. `ttl_ms`: 0 for ever."""

    row: bytes
    value: bytes
    tombstone: bool
    ttl_ms: int


def check_of(digester: Digester, known: Known, contents: Sequence[Content]) -> bytes:
    """What shows that a batch is of these contents, in the order of rows: only a node can make it."""
    told = b"".join(
        _LENGTHS.pack(len(row), len(value)) + row + value + bytes((tombstone,)) + ttl_ms.to_bytes(8)
        for row, value, tombstone, ttl_ms in contents
    )
    partition = known.partitions[0]
    version = encode_version(known.stamp, known.origin, 0)
    assert len(version) == VERSION_BYTES
    return digester.digest(known.row(partition), version, told)[:CHECK_BYTES]


def versions_of(known: Known, rows: Sequence[bytes], numbers: dict[int, int]) -> list[bytes]:
    """Of these rows, which are in order; `numbers`: by partition that of its part, or 0: then nothing."""
    given, versions = dict(numbers), list[bytes]()
    for stamp, row in enumerate(rows, known.stamp + 1):
        partition = row_partition(row)
        number = given.get(partition, 0)
        if number:
            given[partition] = number = number + 1
        versions.append(Version(stamp, known.origin, number).encode() if number else b"")
    return versions
