"""Messages of feeds: a node asks a replica to tell it what changes in partitions, and is told part by part,
as it says that the last was passed on. What clients ask, and are answered, is in `client.py`.

Owns their fields, and refuses positions and records that can be none. Says nothing of who is to be asked:
that is `basestore/feeds`.
"""

from typing import NamedTuple

from basestore.protocol.limits import BUCKET_BYTES_MAX, KEY_BYTES_MAX, WATCH_SINCE
from basestore.protocol.registry import ANYTHING, message
from basestore.repair.version import RECORD_BYTES_MIN
from basestore.repair.write_repair import STORE_BYTES


class PositionRow(NamedTuple):
    """How far a feed has come in a partition (`feeds.position.Position`)."""

    partition: int
    store: bytes
    sequence: int
    stable: int


class MarkRow(NamedTuple):
    """How far it has come with this answer: all that came to the store up to `sequence` was told, and every
    change up to `stable`; but while it still looks through all that is held (`looks`) neither has moved.
    `gap` as in Watched."""

    partition: int
    sequence: int
    stable: int
    gap: int
    looks: bool


class UnservedRow(NamedTuple):
    """Of a partition nothing more is told here, and why."""

    partition: int
    reason: str


@message(112, since=WATCH_SINCE)
class Follow(NamedTuple):
    """Tell what changes in these partitions, of the keys of the bucket with this label that start with
    `prefix`."""

    id: int
    label: bytes
    prefix: bytes
    rows: list[PositionRow]

    def check(self) -> str:
        if not 0 < len(self.label) <= BUCKET_BYTES_MAX or len(self.prefix) > KEY_BYTES_MAX or not self.rows:
            return "names no rows of a bucket"
        sound = all(
            len(row.store) in (0, STORE_BYTES)
            and 0 <= row.partition < 1 << 16
            and min(row.sequence, row.stable) >= 0
            for row in self.rows
        )
        if not sound or len({row.partition for row in self.rows}) < len(self.rows):
            return "names positions that cannot be"
        return ""


@message(113, since=WATCH_SINCE)
class Fed(NamedTuple):
    """The answer to Follow and to each More, once there is something: rows and records in turn, of
    `store`."""

    id: int
    store: bytes
    rows: list[bytes]
    marks: list[MarkRow]
    unserved: list[UnservedRow]

    def check(self) -> str:
        if len(self.store) != STORE_BYTES:
            return "names no store"
        rows, records = self.rows[::2], self.rows[1::2]
        if len(rows) != len(records) or min(map(len, rows), default=4) < 4:
            return "does not hold rows and records in turn"
        if min(map(len, records), default=RECORD_BYTES_MIN) < RECORD_BYTES_MIN:
            return "carries what is no record"
        sound = all(min(mark.sequence, mark.stable, mark.gap) >= 0 for mark in self.marks)
        return "" if sound else "names positions that cannot be"


@message(114, since=WATCH_SINCE, unchecked=ANYTHING)
class More(NamedTuple):
    """What the last Fed of this Follow said was passed on."""

    id: int


@message(115, since=WATCH_SINCE, unchecked=ANYTHING)
class Unfollow(NamedTuple):
    """Nobody follows by this Follow any more."""

    id: int
