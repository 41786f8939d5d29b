"""Stored: what stands on a disk, read by the judge's own eyes.

The judge must not read a disk with the code that it judges: were that wrong, both would be wrong alike. So
the forms of what it looks at are written down here once more, and compared with nothing:

    r row                record: stamp 8 origin 8 number 8 digest 16 flags 1 expiry 8 (proposal 8) value; 8
    s partition          sequence count live root(16) closed stable purged floor spilled kept, 8 each
    h member row         flags 1 since 8 (stores, if they are named: length 1, 16 bytes each) record
    d member partition   the stamp since which the member may lack writes
    m ceiling            a stamp
    m birth              a stamp
    x partition member 2 sources 1: CBOR [needed, upto, accepted]: a loss
    munfit/ partition    the store was given the partition, and may not hold yet what it must

A member is its name, behind two bytes of its length. A row is partition 2, length of bucket 1, bucket, key.
"""

import hashlib
from collections.abc import Iterator, Mapping
from zlib import crc32

import cbor2

from tests.worlds.disk import Disk

DATA, SUMMARY, HINT, DEBT = b"r", b"s", b"h", b"d"
CEILING, BIRTH, LOSS, UNFIT = b"mceiling", b"mbirth", b"x", b"munfit/"
VERSION, HEAD, RECORD_MIN, PROPOSAL, SEQUENCE = 24, 41, 49, 8, 8
FLAGS_AT, EXPIRY_AT = 40, 41
TOMBSTONE, MARKED, PROPOSED, ONLY_COPY, LATE, NAMED = 1, 3, 4, 1, 2, 128
CLOSED_AT, STABLE_AT = 40, 48
STORE = 16
LEAVES = 4096
ROOTS = 1 << 128
STAMP_MAX = (1 << 64) - 1
FIRST_WRITE_WINS = frozenset((b"once",))  # buckets; in all others the last write wins


def partition_of(row: bytes) -> int:
    return int.from_bytes(row[:2])


def bucket_of(row: bytes) -> bytes:
    return row[3 : 3 + row[2]]


def key_of(row: bytes) -> tuple[str, str]:
    """Bucket and key."""
    return bucket_of(row).decode(), row[3 + row[2] :].decode()


def key_of_bytes(row: bytes) -> bytes:
    """A key that is no text."""
    return row[3 + row[2] :]


def beats(row: bytes, challenger: bytes, holder: bytes) -> bool:
    """Whether the first version, or head, wins against the other."""
    return challenger < holder if bucket_of(row) in FIRST_WRITE_WINS else challenger > holder


def holds(row: bytes, stored: bytes | None, version: bytes) -> bool:
    """Whether what is stored of a row is that version or beats it."""
    return stored is not None and (stored.startswith(version) or beats(row, stored[:VERSION], version))


def stamp_of(stored: bytes) -> int:
    """Of a record, a head or a version."""
    return int.from_bytes(stored[:8])


def is_tombstone(stored: bytes) -> bool:
    return bool(stored[FLAGS_AT] & TOMBSTONE)


def expiry_of(stored: bytes) -> int:
    """Milliseconds since 1970 at which a record expires; 0: never."""
    return int.from_bytes(stored[EXPIRY_AT:RECORD_MIN])


def proposal_of(stored: bytes | None) -> bytes:
    """What its client has proposed that a write be known by, or nothing."""
    if stored is None or not stored[FLAGS_AT] & PROPOSED:
        return b""
    return stored[RECORD_MIN : RECORD_MIN + PROPOSAL]


def due_of(stored: bytes) -> int:
    """The stamp at which, once it is stable, a record may go; 0: never."""
    expires_ms = expiry_of(stored)
    if is_tombstone(stored) or not expires_ms:
        return stamp_of(stored) if is_tombstone(stored) else 0
    return max(stamp_of(stored), min(expires_ms << 16, STAMP_MAX))


def intact(key: bytes, row: bytes, record: bytes) -> bool:
    """Whether a record's digest fits it, under the cluster's key."""
    keyed = hashlib.blake2b(key=key, digest_size=16)
    keyed.update(len(row).to_bytes(4) + row + record[:VERSION] + record[FLAGS_AT:])
    return record[VERSION:FLAGS_AT] == keyed.digest()


def losses(
    disk: Disk, partition: int, batch: Mapping[bytes, bytes | None] | None = None
) -> Iterator[tuple[int, int, int, int]]:
    """What is written down, or about to be, of a partition: sources, of how many needed; up to which stamp,
    and up to which it is accepted."""
    start, end = LOSS + partition.to_bytes(2), LOSS + (partition + 1).to_bytes(2)
    rows = dict(disk.scan(start, end)) | {k: v for k, v in (batch or {}).items() if start <= k < end and v}
    for key, row in rows.items():
        needed, upto, accepted = cbor2.loads(row)
        yield key[-1], needed, upto, accepted


def lost_upto(disk: Disk, partition: int, batch: Mapping[bytes, bytes | None] | None = None) -> int:
    """Up to which stamp writes of a partition are known to be lost, or are about to be."""
    uptos = [upto for _, _, upto, _ in losses(disk, partition, batch)]
    return max([*uptos, int.from_bytes(disk.get(BIRTH) or b"")])


def gone_upto(disk: Disk, partition: int) -> int:
    """The same of what a quorum had acknowledged: where fewer were left than one of each quorum."""
    known = losses(disk, partition)
    return max((upto for sources, needed, upto, _ in known if sources < needed), default=0)


def may_be_lost(disk: Disk, partition: int) -> bool:
    """Whether a loss of the partition is written down that nobody has accepted."""
    return any(upto > accepted for _, _, upto, accepted in losses(disk, partition))


def leaf_of(row: bytes) -> int:
    return crc32(row) % LEAVES


def closed_in(summary: bytes | None) -> int:
    return 0 if summary is None else int.from_bytes(summary[CLOSED_AT:STABLE_AT])


def stable_in(summary: bytes | None) -> int:
    return 0 if summary is None else int.from_bytes(summary[STABLE_AT : STABLE_AT + 8])


def member_key(kind: bytes, name: str, rest: bytes) -> bytes:
    """Of a hint or a debt for a member."""
    encoded = name.encode()
    return kind + len(encoded).to_bytes(2) + encoded + rest


def hinted_row(key: bytes) -> tuple[str, bytes]:
    """The member and the row of a hint's key."""
    end = 3 + int.from_bytes(key[1:3])
    return key[3:end].decode(), key[end:]


def hinted_record(hint: bytes) -> bytes:
    at = 9
    if hint[0] & NAMED:
        at += 1 + hint[at]
    return hint[at:]


def only_copy(hint: bytes) -> bool:
    """Whether it is kept as the only copy of a write, and is still to be delivered."""
    return hint[0] & (ONLY_COPY | LATE) == ONLY_COPY


def unfit_key(partition: int) -> bytes:
    return UNFIT + partition.to_bytes(2)


def late(hint: bytes) -> bool:
    return bool(hint[0] & LATE)


def short(blob: bytes | None) -> str:
    return "nothing" if blob is None else blob[:VERSION].hex("-", 8)


class Counted:
    """What a partition of a disk amounts to: records, live ones, and their digests summed up by leaf."""

    def __init__(self, disk: Disk, partition: int) -> None:
        self.count = self.live = 0
        self.leaves: dict[int, int] = {}
        self.lines: dict[int, bytes] = {}  # by sequence: version and row
        start = DATA + partition.to_bytes(2)
        for key, stored in disk.scan(start, DATA + (partition + 1).to_bytes(2)):
            row, leaf = key[1:], leaf_of(key[1:])
            self.count += 1
            self.live += not is_tombstone(stored)
            digest = int.from_bytes(stored[VERSION:FLAGS_AT])
            self.leaves[leaf] = (self.leaves.get(leaf, 0) + digest) % ROOTS
            self.lines[int.from_bytes(stored[-SEQUENCE:])] = stored[:VERSION] + row

    @property
    def root(self) -> int:
        return sum(self.leaves.values()) % ROOTS
