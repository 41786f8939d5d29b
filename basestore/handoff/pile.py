"""Pile: the hints for one member, what they amount to, and how they are stored.

    member, row           one for each row: flags, since when, who has taken it, the record
    member, stamp, row    the same hints by age; those that come too late have an order of their own

A pile counts; what is kept and what goes is decided by `hints.py`. What it counts is not stored: an opening
counts anew.
"""

import struct
from dataclasses import dataclass

from basestore.repair.version import Record
from basestore.repair.write_repair import Hint
from basestore.rows import row_partition
from basestore.storage import keyspace
from basestore.storage.keyspace import STAMP_BYTES

_ONLY_COPY = 1
_LATE = 2
_DEFERRED = 4
_NAMED = 128  # the stores that took it are named
_HINT = struct.Struct(">BQ")


@dataclass(frozen=True, slots=True)
class PileSummary:
    """The hints kept for one member. `oldest_ms`: when the oldest was written; `debt`: by partition,
    since when the member may lack writes that no hint here is kept of. In ms since 1970. `late`: hints
    that the member takes no more. `deferred`: those of writes that were deferred."""

    member: int
    count: int
    bytes: int
    oldest_ms: int | None
    only_copies: int
    late: int
    debt: dict[int, int]
    deferred: int


class Pile:
    """The hints for one member, and what they amount to. `only_bytes`: of those not deferred."""

    __slots__ = (
        "bytes", "count", "deferred_bytes", "deferred_count", "index", "late_count", "late_since", "name",
        "only_bytes", "only_count", "only_since",
    )  # fmt: skip

    def __init__(self, index: int, name: str) -> None:
        self.index = index
        self.name = keyspace.member_prefix(name)
        self.count = 0
        self.bytes = 0
        self.only_count = 0
        self.only_bytes = 0
        self.deferred_count = 0
        self.deferred_bytes = 0
        self.late_count = 0
        self.only_since: dict[int, tuple[int, int]] = {}  # by partition: a count, and their least stamp
        self.late_since: dict[int, tuple[int, int]] = {}  # the same of late ones

    def key(self, row: bytes) -> bytes:
        return keyspace.hint(self.name, row)

    def age_key(self, hint: Hint, row: bytes) -> bytes:
        """Late hints have an order of their own, for they are in the way of nobody."""
        return keyspace.age(self.name, hint.since, row, late=hint.late)

    @property
    def ages(self) -> bytes:
        """Where its rows by age begin."""
        return keyspace.ages(self.name, late=False)[0]

    @property
    def lates(self) -> bytes:
        """Where its late rows by age begin."""
        return keyspace.ages(self.name, late=True)[0]

    def row_of(self, age_key: bytes) -> bytes:
        return keyspace.aged_row(self.name, age_key)

    def add(self, hint: Hint, row: bytes, sign: int) -> None:
        """Count a hint, or, with sign -1, count it no more."""
        size = sign * self.size(hint, row)
        self.count += sign
        self.bytes += size
        if hint.only_copy:
            self.only_count += sign
        if hint.deferred:
            self.deferred_count += sign
            self.deferred_bytes += size
        elif hint.only_copy:
            self.only_bytes += size
        if hint.late:
            self.late_count += sign
        if hint.late or hint.only_copy:
            self._name(
                self.late_since if hint.late else self.only_since, row_partition(row), hint.since, sign
            )

    @staticmethod
    def _name(named: dict[int, tuple[int, int]], partition: int, since: int, sign: int) -> None:
        """The least stamp of such hints of a partition; too small, at worst, while there are any."""
        count, least = named.get(partition, (0, since))
        named[partition] = (count + sign, min(least, since))
        if count + sign <= 0:
            del named[partition]

    def used(self, hint: Hint) -> int:
        """Bytes that hints of its sort take: deferred ones, other only copies, or copies."""
        if hint.deferred:
            return self.deferred_bytes
        return self.only_bytes if hint.only_copy else self.bytes - self.only_bytes - self.deferred_bytes

    def size(self, hint: Hint, row: bytes) -> int:
        """Bytes that a hint takes, with both its keys."""
        return 2 * (len(self.name) + len(row) + STAMP_BYTES) + 3 + len(hint.record.blob)


def decode_hint(stored: bytes) -> Hint:
    """A hint from the bytes that are kept of it: flags, since when, stores, the record."""
    flags, since = _HINT.unpack_from(stored)
    at, stores = _HINT.size, b""
    if flags & _NAMED:
        at += 1 + stored[at]
        stores = stored[_HINT.size + 1 : at]
    only_copy, late, deferred = flags & _ONLY_COPY, flags & _LATE, flags & _DEFERRED
    return Hint(Record(stored[at:]), bool(only_copy), since, stores, bool(late), bool(deferred))


def encode_hint(hint: Hint) -> bytes:
    flags = _NAMED | (_ONLY_COPY if hint.only_copy else 0) | (_LATE if hint.late else 0)
    flags |= _DEFERRED if hint.deferred else 0
    return _HINT.pack(flags, hint.since) + bytes((len(hint.stores),)) + hint.stores + hint.record.blob
