"""Messages of anti-entropy: one exchange of two replicas of a partition, from Syn to Certify or Abort.

`complete`: up to which stamp what the sender lacks was purged, and not lost; -1 where it is in no doubt.
`closed` is what others may build on, as of the snapshot; `above`: so much more is closed, for who recovers.
Owns their fields, and refuses what cannot be read (sums of another length, entries that hold no records). In
which order they are said is `anti_entropy/exchange.py`'s affair, what they prove `repair/certificate.py`'s.
"""

from typing import NamedTuple, Self

from basestore.protocol.limits import BATCHES_SINCE, WATCH_SINCE
from basestore.protocol.registry import ANYTHING, message
from basestore.repair.digest_tree import SHORT_SUM_BYTES, SUM_BYTES
from basestore.repair.version import HEAD_BYTES, RECORD_BYTES_MIN

ROOTS_MAX = 256


def _check_claims(claims: list[int]) -> str:
    return "does not hold members, stamps and tags in turn" if len(claims) % 3 else ""


@message(50, added={"above": BATCHES_SINCE})
class Syn(NamedTuple):
    """A replica opens an exchange. `root`: its root, sealed with both stores. `mine` and `theirs`: the
    newest certificate, and `ahead` the changes since then; without one, `mine` is -1, `theirs` the
    sequence here."""

    exchange: int
    partition: int
    root: bytes
    mine: int
    theirs: int
    ahead: int
    stable: int
    closed: int
    complete: int
    tag: int
    claims: list[int]
    above: int = 0

    def check(self) -> str:
        return _check_claims(self.claims)


@message(51, added={"above": BATCHES_SINCE})
class Same(NamedTuple):
    """The roots are equal: both hold the same, at the Syn's sequence there and `sequence` here."""

    exchange: int
    number: int
    sequence: int
    stable: int
    closed: int
    complete: int
    tag: int
    claims: list[int]
    above: int = 0

    def check(self) -> str:
        return _check_claims(self.claims)


@message(52)
class Sums(NamedTuple):
    """Without a certificate: sums of the nodes listed, or, when none is listed, of all 64; the answer
    lists the nodes that differ with the sums of their leaves. A sum is 8 bytes."""

    exchange: int
    number: int
    stable: int
    complete: int
    nodes: bytes
    sums: bytes

    def check(self) -> str:
        return "does not hold sums of 8 bytes" if len(self.sums) % SHORT_SUM_BYTES else ""


@message(53)
class Ask(NamedTuple):
    """List what you have: since the certificate (`mine` here, `theirs` there), or, when they are -1, in
    these `leaves` (2 bytes each; 65535 stands for all)."""

    exchange: int
    number: int
    mine: int
    theirs: int
    stable: int
    complete: int
    leaves: bytes

    def check(self) -> str:
        return "does not hold leaves of 2 bytes" if len(self.leaves) % 2 else ""


@message(54)
class Listing(NamedTuple):
    """A part of a list: of runs since a certificate, or of digests in `leaves`, as in Ask."""

    exchange: int
    number: int
    mine: int
    theirs: int
    stable: int
    complete: int
    leaves: bytes
    part: bytes
    more: bool

    def check(self) -> str:
        return "does not hold leaves of 2 bytes" if len(self.leaves) % 2 else ""


@message(55, unchecked=ANYTHING)
class Want(NamedTuple):
    """A part of what the receiver of a list lacks of it: runs of numbers, or of places in the list."""

    exchange: int
    number: int
    part: bytes
    more: bool


@message(56)
class Entries(NamedTuple):
    """Rows, records, and heads that the snapshot had of the row (empty: this record's), in turn."""

    exchange: int
    number: int
    rows: list[bytes]
    last: bool

    def check(self) -> str:
        rows = self.rows
        sound = (
            len(rows) % 3 == 0
            and all(len(row) > 3 for row in rows[::3])
            and all(len(blob) >= RECORD_BYTES_MIN for blob in rows[1::3])
            and all(len(head) in (0, HEAD_BYTES) for head in rows[2::3])
        )
        return "" if sound else "does not hold rows, records and heads in turn"


@message(57, unchecked=ANYTHING)
class Taken(NamedTuple):
    """Entries are durable; the next may come."""

    exchange: int
    number: int


@message(58, added={"end": WATCH_SINCE, "above": BATCHES_SINCE})
class Certify(NamedTuple):
    """All entries of the other side are durable here. `root`: the virtual root, sealed with both
    stores; `sequence` and `closed`: those of the snapshot. `end`: the sequence by now, with all that the
    other side's snapshot had; 0: it is not told."""

    exchange: int
    number: int
    root: bytes
    sequence: int
    closed: int
    tag: int
    claims: list[int]
    end: int = 0
    above: int = 0

    def check(self) -> str:
        return _check_claims(self.claims) or ("" if self.end >= 0 else "names a sequence below 0")


@message(60, unchecked=ANYTHING)
class Going(NamedTuple):
    """The exchange goes on: its side has much to look at before it says more."""

    exchange: int


@message(59, unchecked=ANYTHING)
class Abort(NamedTuple):
    """The exchange is over; nothing came of it."""

    exchange: int
    reason: str


@message(66)
class Roots(NamedTuple):
    """As so many Syn, of stores that are whole, where nothing is expected to differ. `stores`: a digest of
    both, and under a topology of its epochs and of all tags; `roots`: 16 bytes each; `theirs`: the sequences
    there of the newest certificates; `closed`: 0 where it is not told. Stable and closed stamps and tags may
    be one for all; before each claim stands the place of its partition. `tags` is empty where the digest is
    of them, which is said since version 10."""

    number: int
    stores: bytes
    partitions: list[int]
    roots: bytes
    theirs: list[int]
    sequences: list[int]
    stable: list[int]
    closed: list[int]
    tags: list[int]
    claims: list[int]

    def check(self) -> str:
        count = len(self.partitions)
        if not 0 < count == len(self.theirs) <= ROOTS_MAX or len(self.roots) != SUM_BYTES * count:
            return "has columns of different lengths"
        return _check_columns(self, count, self.theirs)


@message(67)
class SameRoots(NamedTuple):
    """The answer: the `places` in Roots, in order, of those partitions of which both hold the same, and as
    there what is told of each."""

    number: int
    places: list[int]
    sequences: list[int]
    stable: list[int]
    closed: list[int]
    tags: list[int]
    claims: list[int]

    def check(self) -> str:
        if self.places != sorted(set(self.places)) or min(self.places, default=0) < 0:
            return "names places out of order"
        return _check_columns(self, len(self.places))


def _check_columns(said: Roots | SameRoots, count: int, *more: list[int]) -> str:
    shared = (said.stable, said.closed, *([said.tags] if said.tags else []))
    if len(said.sequences) != count or any(len(column) not in (1, count) for column in shared):
        return "has columns of different lengths"
    if len(said.claims) % 4 or not all(0 <= place < count for place in said.claims[::4]):
        return "does not hold places, members, stamps and tags in turn"
    numbers = (number for column in (said.sequences, *shared, *more) for number in column)
    return "" if min(numbers, default=0) >= 0 else "names sequences or stamps that cannot be"


class LossRow(NamedTuple):
    """What a member may have lost of a partition for good: what was written up to the stamp `upto`, for it
    had `sources` whole replicas to recover from, and `needed` so many. An operator has `accepted` that up to
    this stamp."""

    partition: int
    number: int
    sources: int
    needed: int
    upto: int
    accepted: int

    @property
    def open(self) -> bool:
        """Whether some of it was not accepted."""
        return self.upto > self.accepted

    def merged(self, other: Self) -> Self:
        """What two who speak of the same partition, member and number of sources know together."""
        return self._replace(upto=max(self.upto, other.upto), accepted=max(self.accepted, other.accepted))


@message(61, added={"hints_upto": 11})
class KnownLosses(NamedTuple):
    """All losses that the sender knows of, or those that it has heard of just now. `hints_upto`: hints that
    were kept up to this stamp may be gone."""

    rows: list[LossRow]
    hints_upto: int = 0

    def check(self) -> str:
        return check_losses(self.rows)


def check_losses(rows: list[LossRow]) -> str:
    """What makes no sense in them, or nothing."""
    sound = all(
        max(row.partition, row.number) < 1 << 16 and row.sources < 1 << 8 and min(row) >= 0 for row in rows
    )
    return "" if sound else "names losses that cannot be"
