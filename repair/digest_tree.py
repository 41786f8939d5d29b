"""Digest tree: what a replica holds of one partition, summed up so that two replicas can be compared.

Every record has a keyed 128-bit digest. The *root* is the sum of all digests modulo 2^128, so it does not
depend on the order in which records came, and changing one record costs one addition and one subtraction
(Clarke et al., "Incremental multiset hash functions and their application to memory integrity checking",
2003; keyed, because sums of digests that anybody can compute can be forged).

The rows fall into 4096 *leaves* by their hash, each with a sum of its own; 64 leaves in a row are a *node*.
So two replicas find where they differ without a list of what they hold, as with a Merkle tree (DeCandia et
al., "Dynamo", 2007, section 4.7), of three levels:

    root          1 sum: equal or not             two replicas of 100,000 rows differ in one, in leaf 1234
    nodes        64 sums                          all but node 19 (1234 // 64) agree
    leaves       64 sums below each such node     all but leaf 1234 agree
    records      the digests in each such leaf    some 24 rows are listed instead of 100,000

The laws (tested as properties):

    root == sum of all leaves == sum of the digests of all records held      after any changes
    replacing a by b and then b by a changes nothing

A `Summary` has the sums of one partition, and counts: `sequence` numbers what was stored, each record by
when it came. It decides nothing, and stores nothing (`basestore/replica/summaries.py` does).
"""

import struct
from collections.abc import Iterable, Mapping
from typing import Self
from zlib import crc32

from basestore.repair.version import COUNTER_BITS, FLAGS_AT, VERSION_BYTES, is_tombstone

LEAVES = 4096
NODES = 64
FANOUT = LEAVES // NODES
SUM_BYTES = 16
SHORT_SUM_BYTES = 8  # of a sum in a message
LEAF_BYTES = 2
ALL_LEAVES = b"\xff\xff"  # stands for all in a list of leaves
NODE_BYTES = FANOUT * SUM_BYTES
SUMMARY_BYTES = 88
MASK = (1 << 128) - 1
STAMP_MAX = (1 << 64) - 1

_SUMMARY = struct.Struct(">Qqq16sQQQQQQ")  # counts may be wrong, and below 0
_number = int.from_bytes
_DIGEST_END = VERSION_BYTES + SUM_BYTES


def leaf_of(row: bytes) -> int:
    """The leaf that a row falls into."""
    return crc32(row) & (LEAVES - 1)


def digest_of(head: bytes) -> int:
    """The digest in a head as a number, 0 for the empty string: nothing is held."""
    return int.from_bytes(head[VERSION_BYTES:_DIGEST_END])


def due_of(head: bytes, expires_ms: int) -> int:
    """The stamp from which, once it is stable, the record with this head may be purged; 0: never. A
    tombstone's own; for a record that expires, that of its expiry or its own, whichever is later."""
    if is_tombstone(head):
        return int.from_bytes(head[:8])
    return max(int.from_bytes(head[:8]), min(expires_ms << COUNTER_BITS, STAMP_MAX)) if expires_ms else 0


class Summary:
    """One partition's sums and stamps.

    sequence  of the last change
    count     records held, tombstones included; `live` those among them with a value
    root      sum of all digests; `leaves` the same by leaf, those that are not 0
    closed    no direct write at or below this stamp is taken any more
    stable    every version at or below it is on all replicas, for good; `shown` is the one that this
              store holds durably: only that may be told, or a crash could take back what was said
    purged    nothing that was due at or below it is held
    kept      of a store in doubt: what it lacks at or below this stamp, and at or below `stable`, was purged;
              `complete` is the lower one. A crash or an old copy leaves it as it was: what is left is what
              the store held at some moment, with the stable stamp of that moment
    floor     the log may lack what was stored up to this sequence: every other replica had it then
    spilled   up to this one the log has rows of its own in the store
    lossy     a loss is open here (`replica/losses.py`): what the stamps say of what was written up to then
              is not known. Stored by itself
    lost      what was written up to this stamp may have been lost with a disk, accepted or not; likewise
    gone      the same, where so few sources were left that a quorum may have acknowledged it, or all held it
    """

    __slots__ = (
        "closed", "count", "floor", "gone", "kept", "leaves", "live", "lossy", "lost", "purged", "root",
        "sequence", "shown", "spilled", "stable",
    )  # fmt: skip

    def __init__(self) -> None:
        self.sequence = 0
        self.count = 0
        self.live = 0
        self.root = 0
        self.leaves: dict[int, int] = {}
        self.closed = 0
        self.stable = 0
        self.shown = 0
        self.purged = 0
        self.kept = STAMP_MAX
        self.floor = 0
        self.spilled = 0
        self.lossy = False
        self.lost = self.gone = 0

    def replace(self, leaf: int, head: bytes, held: bytes) -> int:
        """A record with `head` takes the place of `held`; either may be empty: nothing. Returns the leaf's
        new sum."""
        change = _number(head[VERSION_BYTES:_DIGEST_END], "big") - _number(
            held[VERSION_BYTES:_DIGEST_END], "big"
        )
        if not (head and held) or head[FLAGS_AT] != held[FLAGS_AT]:
            self.count += bool(head) - bool(held)
            self.live += bool(head and not is_tombstone(head)) - bool(held and not is_tombstone(held))
        # The mask makes a negative sum the right one modulo 2^128, too.
        self.root = (self.root + change) & MASK
        self.leaves[leaf] = total = (self.leaves.get(leaf, 0) + change) & MASK
        return total

    def encode(self) -> bytes:
        """All but the leaves, which are stored by themselves."""
        return _SUMMARY.pack(
            self.sequence, self.count, self.live, self.root.to_bytes(SUM_BYTES, "big"),
            self.closed, self.stable, self.purged, self.floor, self.spilled, self.kept,
        )  # fmt: skip

    @classmethod
    def decode(cls, data: bytes) -> Self:
        """Inverse of `encode`; ValueError when it is none."""
        summary = cls()
        if len(data) != SUMMARY_BYTES:
            raise ValueError(f"a summary has {SUMMARY_BYTES} bytes, not {len(data)}")
        summary.sequence, summary.count, summary.live, root, *stamps = _SUMMARY.unpack(data)
        summary.root = int.from_bytes(root)
        summary.closed, summary.stable, summary.purged, summary.floor, summary.spilled, summary.kept = stamps
        # It was read from the disk, so it is durable.
        summary.shown = summary.stable
        return summary

    @property
    def complete(self) -> int:
        """Up to which stamp what a store in doubt lacks was purged, and not lost."""
        return min(self.kept, self.stable)

    @property
    def sound(self) -> bool:
        """Whether root and leaves fit each other, and nothing is counted that cannot be."""
        return sum(self.leaves.values()) & MASK == self.root and self.countable

    @property
    def countable(self) -> bool:
        """Whether the counts can be."""
        return 0 <= self.live <= self.count


def nodes_of(leaves: Mapping[int, int]) -> list[int]:
    """The sums of the 64 nodes above the leaves."""
    nodes = [0] * NODES
    for leaf, total in leaves.items():
        nodes[leaf // FANOUT] += total
    return [node & MASK for node in nodes]


def leaves_under(leaves: Mapping[int, int], nodes: Iterable[int]) -> list[int]:
    """The sums of the leaves below these nodes, in order."""
    return [leaves.get(leaf, 0) for node in nodes for leaf in range(node * FANOUT, (node + 1) * FANOUT)]


def encode_node(leaves: Mapping[int, int], node: int) -> bytes:
    """The sums of the leaves below a node."""
    get = leaves.get
    below = range(node * FANOUT, (node + 1) * FANOUT)
    return b"".join([get(leaf, 0).to_bytes(SUM_BYTES, "big") for leaf in below])


def decode_node(node: int, data: bytes) -> dict[int, int]:
    """Inverse of `encode_node`, without leaves that are 0; ValueError when it is none."""
    if len(data) != NODE_BYTES or node >= NODES:
        raise ValueError(f"a node has {NODE_BYTES} bytes, not {len(data)}")
    totals = (int.from_bytes(data[at : at + SUM_BYTES]) for at in range(0, NODE_BYTES, SUM_BYTES))
    return {leaf: total for leaf, total in enumerate(totals, node * FANOUT) if total}


def record_digest(head: bytes) -> bytes:
    """What names a record in a list of digests: the first half of its digest."""
    return head[VERSION_BYTES : VERSION_BYTES + SUM_BYTES // 2]


def shorten(sums: Iterable[int]) -> list[int]:
    """What of each sum is told to another replica."""
    return [total & ((1 << 8 * SHORT_SUM_BYTES) - 1) for total in sums]


def encode_sums(sums: Iterable[int]) -> bytes:
    """Sums, shortened, one after the other."""
    return b"".join(total.to_bytes(SHORT_SUM_BYTES) for total in shorten(sums))


def decode_sums(data: bytes) -> list[int]:
    """Inverse of `encode_sums`."""
    return [int.from_bytes(data[at : at + SHORT_SUM_BYTES]) for at in range(0, len(data), SHORT_SUM_BYTES)]


def encode_leaves(leaves: Iterable[int]) -> bytes:
    """Leaves, one after the other."""
    return b"".join(leaf.to_bytes(LEAF_BYTES) for leaf in leaves)


def decode_leaves(data: bytes) -> frozenset[int]:
    """Inverse of `encode_leaves`; ALL_LEAVES stands for all."""
    if data == ALL_LEAVES:
        return frozenset(range(LEAVES))
    return frozenset(int.from_bytes(data[at : at + LEAF_BYTES]) for at in range(0, len(data), LEAF_BYTES))
