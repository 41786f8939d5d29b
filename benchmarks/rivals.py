"""Rivals: what other ways of reconciliation would have cost for the same difference. Pure.

A digest tree of fanout 16 has 2^16 leaves; a row falls into one by its hash. The roots are compared, then
the 16 children of each node that differs, level by level; of each leaf that differs one side lists its
records, and the other names those to be sent. With sums of h bytes, and hashes of 8 for records, that is

    h + 16 h (inner nodes that differ) + 8 (records in leaves that differ) + 8 d

and nothing is counted for framing. The whole set, a hash of 8 bytes a record, of which the other side
names those to be sent: 8 n + 8 d. The limit: with hashes of 8 bytes nobody can name d records in less than
8 d.
"""

from array import array
from collections import Counter
from collections.abc import Iterable
from hashlib import blake2b

HASH_BYTES = 8
FANOUT = 16
LEVELS = 4
LEAVES = FANOUT**LEVELS


class DigestTree:
    """The leaves that rows fall into."""

    def __init__(self) -> None:
        self._counts = array("L", bytes(array("L").itemsize * LEAVES))

    def add(self, row: bytes) -> None:
        self._counts[leaf_of(row)] += 1

    def metadata_bytes(self, lacking: Iterable[bytes], sum_bytes: int) -> int:
        """To find rows that one of two sides lacks."""
        missing = Counter(map(leaf_of, lacking))
        if not missing:
            return sum_bytes
        inner = sum(len({leaf // FANOUT**level for leaf in missing}) for level in range(1, LEVELS + 1))
        listed = sum(self._counts[leaf] for leaf in missing)
        return sum_bytes + FANOUT * sum_bytes * inner + HASH_BYTES * (listed + missing.total())


def leaf_of(row: bytes) -> int:
    return int.from_bytes(blake2b(row, digest_size=2).digest())


def whole_set_bytes(keys: int, differences: int) -> int:
    return HASH_BYTES * (keys + differences)


def limit_bytes(differences: int) -> int:
    return HASH_BYTES * differences
