"""Messages of a record's way to a replica and back: writes, acknowledgements, reads and ranges.

Owns their fields, and refuses answers whose rows and records are too short to be any. Says nothing of levels:
how many replicas must answer is the coordinator's affair. Keep and Kept, which ask a node for a hint, never
leave it.
"""

from typing import Final, NamedTuple

from basestore.protocol.limits import BUCKET_BYTES_MAX
from basestore.protocol.registry import ANSWERED, ANYTHING, message
from basestore.repair.version import HEAD_BYTES, RECORD_BYTES_MIN
from basestore.repair.write_repair import STORE_BYTES

# The ways in of a record: from the coordinator itself, or a copy of what a replica holds.
DIRECT: Final = 0
COPY: Final = 1


@message(30, unchecked=ANSWERED)
class Apply(NamedTuple):
    """Take this record, which comes `way` in. `deadline_ms` here and in reads: milliseconds since
    1970 by the sender's clock, after which nobody waits and nothing need be done (0: never)."""

    id: int
    row: bytes
    record: bytes
    way: int
    deadline_ms: int


@message(48)
class Hinted(NamedTuple):
    """Take this record out of a hint, which its sender will then forget. `stores`: those known to have
    taken the write, 16 bytes each; if none of them is still in use it is a first delivery."""

    id: int
    row: bytes
    record: bytes
    stores: bytes

    def check(self) -> str:
        return "names stores that are none" if len(self.stores) % STORE_BYTES else ""


@message(31, unchecked=ANYTHING)
class Applied(NamedTuple):
    """These were applied as the winner, or had been before, and are as durable as the durability
    setting asks. For a Hinted: it, or a better record, is durable in any case. `sequence` is how
    far the sender's store is durable, counted since `generation`, its present opening."""

    ids: list[int]
    generation: bytes
    sequence: int


@message(32)
class Superseded(NamedTuple):
    """A better record is held, durably; `head` is its head."""

    id: int
    head: bytes

    def check(self) -> str:
        return "" if len(self.head) == HEAD_BYTES else "names no record"


@message(47, unchecked=ANYTHING)
class Settled(NamedTuple):
    """Not taken, because it comes too late. Every version at or below `stable` is on all replicas, or
    beaten or purged there. `late`: it is a hint, and a first delivery, which is not taken any more, or a
    copy of what may be lost there."""

    id: int
    stable: int
    late: bool


@message(33, unchecked=ANYTHING)
class Rejected(NamedTuple):
    """Not done, and why. `passing`: it may be taken later, so a hint is worth keeping; in answer to a
    Read, False says that the record here is damaged."""

    id: int
    reason: str
    passing: bool


@message(73, since=10, unchecked=ANYTHING)
class Moved(NamedTuple):
    """Not done: who holds the row has changed since the epoch that the asker has told, and it goes by `epoch`
    here. To be asked anew once that is in use there, too."""

    id: int
    epoch: int


@message(34, unchecked=ANSWERED)
class Read(NamedTuple):
    """`healing`: to replace a damaged record, so that a store that is not whole answers too.
    `digest`: a long record's head will do. `stable`: say the stable stamp too."""

    id: int
    row: bytes
    deadline_ms: int
    healing: bool
    digest: bool
    stable: bool


@message(35)
class Held(NamedTuple):
    """The answer to Read; `record` is empty when the row is not held. `stable`: the stamp up to which
    the partition is the same on all replicas, if it was asked for or nothing is held; otherwise 0. Told with
    it: `lossy`, it says nothing of what was lost before, and nobody has accepted that; `lost`, what was
    written up to this stamp may have been lost with a disk, be it that a quorum never had it."""

    id: int
    record: bytes
    stable: int
    lossy: bool = False
    lost: int = 0

    def check(self) -> str:
        return "carries no record" if 0 < len(self.record) < RECORD_BYTES_MIN else ""


@message(38)
class HeldDigest(NamedTuple):
    """The answer to a digest read of a long record: its head, which names version and digest."""

    id: int
    head: bytes
    stable: int
    lossy: bool = False
    lost: int = 0

    def check(self) -> str:
        return "" if len(self.head) == HEAD_BYTES else "names no record"


@message(36)
class ReadRange(NamedTuple):
    """Rows of some partitions, merged by key: those of `bucket` whose keys start with `prefix`, after
    the key `after`, until `limit` of them live. `now_ms`: when those with an expiry are to live, as
    milliseconds since 1970 by the sender's clock, which alone judges it."""

    id: int
    partitions: list[int]
    bucket: bytes
    prefix: bytes
    after: bytes
    limit: int
    now_ms: int
    deadline_ms: int

    def check(self) -> str:
        return "names a bucket that is too long" if len(self.bucket) > BUCKET_BYTES_MAX else ""


@message(37)
class Range(NamedTuple):
    """The answer: rows and records in turn, and whether there are more. Records that do not live come
    without their values. `stables`: the stable stamps of the partitions, in the order of the question."""

    id: int
    rows: list[bytes]
    more: bool
    stables: list[int]

    def check(self) -> str:
        rows, records = self.rows[::2], self.rows[1::2]
        if len(rows) != len(records) or (self.more and not rows) or min(map(len, rows), default=4) < 4:
            return "does not hold rows and records in turn"
        if min(map(len, records), default=RECORD_BYTES_MIN) < RECORD_BYTES_MIN:
            return "carries what is no record"
        return ""


class Keep(NamedTuple):
    """From a coordinator to its own node: keep a hint for a member. `takers`: members known to have
    taken the write. Never leaves the node."""

    id: int
    member: int
    row: bytes
    record: bytes
    only_copy: bool
    takers: list[int]


class Kept(NamedTuple):
    """The hint is durable, or could not be stored. Never leaves the node."""

    id: int
    member: int
    stored: bool
