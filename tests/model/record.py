"""Record: what one write left of a key, and which of two stays.

A stamp is `time * STAMPS + origin`; so is an expiry, and so are the closed and the stable stamp.
"""

import functools
import hashlib
from typing import NamedTuple

from basestore.repair.rule import Rule

STAMPS = 16  # a tick of the clock
KEYS = range(40)


class Record(NamedTuple):
    """A value, or a tombstone where it is None; `expiry` 0 is never."""

    stamp: int
    value: int | None
    expiry: int = 0

    @property
    def mortal(self) -> bool:
        """Whether it may ever be purged."""
        return self.value is None or self.expiry > 0

    @property
    def due(self) -> int:
        """The stable stamp from which it may go, if it is mortal."""
        return max(self.stamp, self.expiry)


def covers(rule: Rule, held: Record | None, record: Record | None) -> bool:
    """Whether a replica with `held` has no need of `record`."""
    if record is None or held == record:
        return True
    return held is not None and not rule.beats(record.stamp.to_bytes(8), held.stamp.to_bytes(8))


@functools.lru_cache(1 << 16)
def digest(key: int, record: Record | None) -> int:
    """Nothing is 0. Not keyed: nobody attacks a model."""
    if record is None:
        return 0
    return int.from_bytes(hashlib.blake2b(repr((key, record)).encode(), digest_size=8).digest())
