"""Messages of a feed: a client asks its node what has changed (`Watch`), and that node the replicas
(`Follow`).

Both are asked again for more, so that nobody is sent what he does not take: a client asks for some at a time,
and has no answer before there is something; a replica says no more than one `Fed` for each `Follow` or
`More`. How positions are meant is said by `feeds/position.py`. That a member does not serve a feed at all is
said by `Rejected`.
"""

from typing import Final, NamedTuple

from basestore.protocol.limits import BUCKET_BYTES_MAX, KEY_BYTES_MAX, WATCH_SINCE
from basestore.protocol.registry import ANSWERED, ANYTHING, message
from basestore.repair.version import RECORD_BYTES_MIN, VERSION_BYTES
from basestore.repair.write_repair import STORE_BYTES

EXPIRY_BYTES: Final = 8
META_BYTES: Final = 2 * VERSION_BYTES + EXPIRY_BYTES + 1


@message(110, since=WATCH_SINCE, unchecked=ANSWERED)
class Watch(NamedTuple):
    """What has changed of the keys of a bucket that start with `prefix`. `feed`: go on with this one, from
    where its last answer ended; 0, or with a token: begin one, where the token says. Without a token from now
    on, or, with `everything`, with all that is held. About `bytes_max` are wanted, and an answer within
    `timeout_ms`, be it that nothing has changed."""

    id: int
    bucket: str
    prefix: bytes
    token: str
    feed: int
    everything: bool
    bytes_max: int
    timeout_ms: int


@message(111, since=WATCH_SINCE)
class Watched(NamedTuple):
    """The answer. `feed`: to go on with; 0: there is no such feed any more, so begin one, by the last token.
    `rows`: keys, what is known of each record, and values in turn: the version that it is known by and the
    one it is compared by, its expiry, and whether nothing is there now (1) or the value is (0). `gap`: up to
    this stamp deletions may be missing, if not 0. `token`: for all that was told up to here, if it is due;
    with it `stable`: every change up to this stamp was told; `unserved`: so many partitions no replica tells
    of now."""

    id: int
    feed: int
    rows: list[bytes]
    gap: int
    token: str
    stable: int
    unserved: int

    def check(self) -> str:
        metas = self.rows[1::3]
        sound = len(self.rows) % 3 == 0 and all(len(meta) == META_BYTES and meta[-1] < 2 for meta in metas)
        if not sound:
            return "does not hold keys, versions and values in turn"
        return "" if min(self.feed, self.gap, self.stable, self.unserved) >= 0 else "has a number below 0"


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
