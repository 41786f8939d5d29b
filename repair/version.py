"""Version, Identity and Record: the order of writes, what a write is known by, and what it left behind.

Owns the encoded form of a record, its keyed digest and its total order. Refuses to know where
records are kept or who asks for them.

A record is one string of bytes, the same on the wire and on disk, and laid out so that comparing
two records is comparing their heads:

    stamp 8 | origin 8 | number 8 | digest 16 | flags 1 | expiry 8 | proposal 8, if flagged | value ...
    '------- version -----------'
    '------------------ head -----------------------'

The record of a *register* (`paxos.py`) has its descent in front of the value, if flagged: what its write is
known by, 24 bytes, and the same of the write whose place it took, 24 zeros if there was none. One that is
flagged as an *intent* holds in its value what a transaction will make of the row (`intents.py`).

All integers are big-endian, so bytes sort as numbers do. The digest stands right after the
version: it decides in the one case that should not exist, two records of one version.
"""

import hashlib
import struct
from collections.abc import Sequence
from operator import itemgetter
from typing import Final, NamedTuple, Self

VERSION_BYTES = 24
HEAD_BYTES = 41
RECORD_BYTES_MIN = 49
COUNTER_BITS = 16
KEY_BYTES = 32
PROPOSAL_BYTES = 8
CHECK_BYTES = 8
IDENTITY_BYTES = PROPOSAL_BYTES + VERSION_BYTES + CHECK_BYTES
NO_PROPOSAL = bytes(PROPOSAL_BYTES)
DESCENT_BYTES = 2 * VERSION_BYTES

_VERSION = struct.Struct(">QQQ")
_TAIL = struct.Struct(">BQ")
_LENGTH = struct.Struct(">I")
_new = tuple.__new__  # what `_make` does, less its checks
encode_ballot = struct.Struct(">QQ").pack  # its first two words
encode_version = _VERSION.pack  # as `Version.encode`, of its three words, without one
FLAGS_AT = 40  # of a head: its last byte
_FLAGS: Final = itemgetter(FLAGS_AT)
_TOMBSTONE = 1
_EXPIRES = 2
_PROPOSED = 4
_DESCENDS = 8
LAID = 16
MARKED = _TOMBSTONE | _EXPIRES  # flags of a record that may become due to be purged; LAID: of an intent
_WORD_MAX = (1 << 64) - 1
_INCARNATION_BITS: Final = 48
# Where the value of a record begins, by those two flags.
_VALUE_AT: Final = {
    flags: RECORD_BYTES_MIN
    + (PROPOSAL_BYTES if flags & _PROPOSED else 0)
    + (DESCENT_BYTES if flags & _DESCENDS else 0)
    for flags in (0, _PROPOSED, _DESCENDS, _PROPOSED | _DESCENDS)
}


def origin_of(member: int, incarnation: int) -> int:
    """Of this start of the node that is the member of this number, from 0."""
    return (member + 1) << _INCARNATION_BITS | incarnation


def member_of(origin: int) -> int:
    """The number of its member."""
    return (origin >> _INCARNATION_BITS) - 1


class Version(NamedTuple):
    """The stamp of one write. Tuples order as versions do: by stamp, then by origin.

    stamp   hybrid logical clock: 48 bits of milliseconds since 1970, 16 of counter
    origin  which start of which node made it: 16 bits of its member's number and 1, 48 of incarnation
    number  counts an origin's writes to a partition without gaps; follows from the first two
    """

    stamp: int
    origin: int
    number: int

    @property
    def wall_ms(self) -> int:
        """Physical part of the stamp: milliseconds since 1970."""
        return self.stamp >> COUNTER_BITS

    def encode(self) -> bytes:
        """24 bytes that sort as the versions do."""
        return _VERSION.pack(self.stamp, self.origin, self.number)

    @classmethod
    def decode(cls, data: bytes) -> Self:
        """Inverse of `encode`; ValueError unless `data` is exactly 24 bytes."""
        if len(data) != VERSION_BYTES:
            raise ValueError(f"a version is {VERSION_BYTES} bytes, not {len(data)}")
        return _new(cls, _VERSION.unpack(data))

    def __str__(self) -> str:
        """The form a user copies: three hexadecimal words joined by dashes."""
        return f"{self.stamp:016x}-{self.origin:016x}-{self.number:x}"

    @classmethod
    def parse(cls, text: str) -> Self:
        """Inverse of `str`; ValueError that says what a version looks like."""
        try:
            stamp, origin, number = (int(word, 16) for word in text.split("-"))
        except ValueError:
            raise ValueError(
                f"{text!r} is not a version; one looks like 0199e1c2a3b40000-0001a2b3c4d5e6f7-2a"
            ) from None
        if not all(0 <= word <= _WORD_MAX for word in (stamp, origin, number)):
            raise ValueError(f"{text!r} is not a version: its words have at most 64 bits")
        return cls(stamp, origin, number)


class Identity(NamedTuple):
    """What a write is known by, from before it is sent: whoever repeats it passes this on.

    proposal  8 bytes that its client drew; every record of it carries them
    version   once it was stamped and its client was told
    check     then the first 8 bytes of its record's digest, which covers the row, the version, the proposal
              and the value: so an identity is of no use with any other key, bucket, value or lifetime
    """

    proposal: bytes
    version: Version | None = None
    check: bytes = b""

    @classmethod
    def of(cls, proposal: bytes, blob: bytes) -> Self:
        """That of the write which has left this record."""
        return cls.decode((proposal or NO_PROPOSAL) + blob[: VERSION_BYTES + CHECK_BYTES])

    def encode(self) -> bytes:
        """8 bytes, or 40 once it is stamped."""
        return self.proposal + (self.version.encode() + self.check if self.version else b"")

    @classmethod
    def decode(cls, data: bytes) -> Self:
        """Inverse of `encode`; ValueError unless `data` is 8 or 40 bytes."""
        if len(data) == PROPOSAL_BYTES:
            return cls(data)
        if len(data) != IDENTITY_BYTES:
            raise ValueError(f"an identity is {PROPOSAL_BYTES} or {IDENTITY_BYTES} bytes, not {len(data)}")
        version = _new(Version, _VERSION.unpack_from(data, PROPOSAL_BYTES))
        return _new(cls, (data[:PROPOSAL_BYTES], version, data[-CHECK_BYTES:]))

    def __str__(self) -> str:
        """The form a user copies: hexadecimal words joined by dashes, one or five."""
        stamped = (str(self.version), self.check.hex()) if self.version else ()
        return "-".join((self.proposal.hex(), *stamped))

    @classmethod
    def parse(cls, text: str) -> Self:
        """Inverse of `str`; ValueError that says what an identity looks like."""
        proposal, _, rest = text.strip().partition("-")
        version, _, check = rest.rpartition("-")
        try:
            data = bytes.fromhex(proposal)
            if rest:
                data += Version.parse(version).encode() + bytes.fromhex(check)
            return cls.decode(data)
        except ValueError:
            raise ValueError(
                f"{text!r:.120} is no identity of a write; one looks like 5e1f0c3a9b7d2468, or the same with "
                f"-0199e1c2a3b40000-0001a2b3c4d5e6f7-2a-9c0d1e2f3a4b5c6d behind it. Copy it whole"
            ) from None


def is_intent(head: bytes) -> bool:
    """Whether the record with this head, or that begins so, is an intent of a transaction."""
    return bool(head[FLAGS_AT] & LAID)


def is_tombstone(head: bytes) -> bool:
    """Whether the record with this head is a tombstone."""
    return bool(head[FLAGS_AT] & _TOMBSTONE)


class Digester:
    """Keyed 128-bit BLAKE2b of records (RFC 7693), one key for a cluster.

    Keyed, because sums of unkeyed digests can be forged by linear algebra. It covers the row as
    well as the record, so a record that turns up under another row does not pass.
    """

    __slots__ = ("_keyed",)

    def __init__(self, cluster_key: bytes) -> None:
        if len(cluster_key) != KEY_BYTES:
            raise ValueError(f"a cluster key is {KEY_BYTES} bytes, not {len(cluster_key)}")
        self._keyed = hashlib.blake2b(key=cluster_key, digest_size=16)

    def digest(self, row: bytes, version: bytes, rest: bytes) -> bytes:
        """16 bytes over the row, the encoded version, and flags, expiry and value."""
        keyed = self._keyed.copy()
        keyed.update(_LENGTH.pack(len(row)) + row + version + rest)
        return keyed.digest()

    def seal_all(
        self, rows: Sequence[bytes], versions: Sequence[bytes], contents: Sequence[bytes]
    ) -> list[bytes]:
        """Records of as many writes, encoded, as `Record.seal` makes each. A content is what stands behind
        the digest: flags, expiry, proposal and value (`start_of_content`)."""
        keyed, pack_length = self._keyed.copy, _LENGTH.pack
        records = []
        for row, version, content in zip(rows, versions, contents, strict=True):
            digest = keyed()
            digest.update(pack_length(len(row)) + row + version + content)
            records.append(version + digest.digest() + content)
        return records

    def fit(self, rows: Sequence[bytes], records: Sequence[bytes]) -> list[bool]:
        """Of each record, which is long enough to be one, whether it is intact, as `Record.intact`."""
        keyed, pack_length = self._keyed.copy, _LENGTH.pack
        fits = []
        for row, record in zip(rows, records, strict=True):
            digest = keyed()
            digest.update(pack_length(len(row)) + row + record[:VERSION_BYTES] + record[FLAGS_AT:])
            fits.append(digest.digest() == record[VERSION_BYTES:FLAGS_AT])
        return fits

    def sound(
        self, rows: Sequence[bytes], stored: Sequence[bytes | None], trailer: int, end: int | None
    ) -> list[bytes]:
        """Of what is stored of rows, records with `trailer` bytes behind each: those that are intact, or
        their first `end` bytes; nothing in place of the others."""
        keyed, pack_length = self._keyed.copy, _LENGTH.pack
        found = []
        for row, each in zip(rows, stored, strict=True):
            record = each[:-trailer] if each is not None else b""
            digest = keyed()
            digest.update(pack_length(len(row)) + row + record[:VERSION_BYTES] + record[FLAGS_AT:])
            fits = record[VERSION_BYTES:FLAGS_AT] == digest.digest()
            found.append(record[:end] if fits else b"")
        return found


def start_of_content(*, tombstone: bool, proposed: bool) -> bytes:
    """What the content of a record that never expires begins with: flags and expiry. Behind it stand the
    proposal, if it is `proposed`, and the value."""
    return _TAIL.pack((_TOMBSTONE if tombstone else 0) | (_PROPOSED if proposed else 0), 0)


def values_of(records: Sequence[bytes]) -> list[bytes]:
    """Of encoded records their values, as `Record.value`."""
    plain, proposed = RECORD_BYTES_MIN, RECORD_BYTES_MIN + PROPOSAL_BYTES
    if all(flags & _PROPOSED for flags in set(map(_FLAGS, records))):
        return [record[proposed:] for record in records]
    return [record[proposed if record[FLAGS_AT] & _PROPOSED else plain :] for record in records]


class Record:
    """One version of one row: a value or a tombstone, perhaps with an expiry. Immutable."""

    __slots__ = ("blob", "head")

    def __init__(self, blob: bytes) -> None:
        """Wrap an encoded record; ValueError when it is too short to be one."""
        if len(blob) < RECORD_BYTES_MIN:
            raise ValueError(f"a record has at least {RECORD_BYTES_MIN} bytes, not {len(blob)}")
        self.blob = blob
        self.head = blob[:HEAD_BYTES]

    @classmethod
    def seal(
        cls,
        digester: Digester,
        row: bytes,
        version: Version,
        value: bytes = b"",
        *,
        tombstone: bool = False,
        expires_ms: int = 0,
        proposal: bytes = b"",
        descent: bytes = b"",
        intent: bool = False,
    ) -> Self:
        """Make the record of a write; `expires_ms` is absolute, 0 for never. `proposal`: 8 bytes that its
        client has drawn, or none; `descent`: 48 bytes in a register, or none."""
        flags = (_TOMBSTONE if tombstone else 0) | (_EXPIRES if expires_ms else 0)
        if proposal:
            flags |= _PROPOSED
        if descent:
            flags |= _DESCENDS
        if intent:
            flags |= LAID
        stamp = version.encode()
        rest = _TAIL.pack(flags, expires_ms) + proposal + descent + value
        return cls(stamp + digester.digest(row, stamp, rest) + rest)

    @property
    def version(self) -> Version:
        return Version(*_VERSION.unpack_from(self.blob))

    @property
    def stamp(self) -> int:
        return int.from_bytes(self.blob[:8])

    @property
    def digest(self) -> bytes:
        return self.blob[VERSION_BYTES:FLAGS_AT]

    @property
    def tombstone(self) -> bool:
        return is_tombstone(self.head)

    @property
    def intent(self) -> bool:
        return is_intent(self.head)

    @property
    def expires_ms(self) -> int:
        """Milliseconds since 1970 from which the record no longer counts, or 0."""
        return int.from_bytes(self.blob[HEAD_BYTES:RECORD_BYTES_MIN])

    @property
    def proposal(self) -> bytes:
        """The 8 bytes that its client has drawn for this write, or none."""
        proposed = self.blob[FLAGS_AT] & _PROPOSED
        return self.blob[RECORD_BYTES_MIN : RECORD_BYTES_MIN + PROPOSAL_BYTES] if proposed else b""

    @property
    def value(self) -> bytes:
        return self.blob[self._value_at :]

    @property
    def _value_at(self) -> int:
        return _VALUE_AT[self.blob[FLAGS_AT] & (_PROPOSED | _DESCENDS)]

    @property
    def descent(self) -> bytes:
        """In a register what the write is known by, and the one whose place it took, 24 bytes each; elsewhere
        nothing."""
        at = self._value_at
        return self.blob[at - DESCENT_BYTES : at] if self.blob[FLAGS_AT] & _DESCENDS else b""

    @property
    def known_as(self) -> bytes:
        """The version, encoded, by which users know its write: in a register the first that it had."""
        return self.descent[:VERSION_BYTES] or self.blob[:VERSION_BYTES]

    def live(self, wall_ms: int) -> bool:
        """Whether a reader at `wall_ms` is shown the value."""
        return not self.tombstone and not 0 < self.expires_ms <= wall_ms

    def intact(self, digester: Digester, row: bytes) -> bool:
        """Whether the digest still fits what stands here."""
        blob = self.blob
        held = blob[VERSION_BYTES:FLAGS_AT]
        return held == digester.digest(row, blob[:VERSION_BYTES], blob[FLAGS_AT:])

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Record) and self.blob == other.blob

    def __hash__(self) -> int:
        return hash(self.head)

    def __repr__(self) -> str:
        what = "tombstone" if self.tombstone else f"{len(self.value)} bytes"
        what = f"intent of {what}" if self.intent else what
        return f"<Record {self.version} {what}>"
