"""An engine without a disk: for durability `memory`, caches, tests, and the simulated disks of tests.

Owns rows that are gone with the process, and draws no conclusions from them.
"""

from collections.abc import Iterator, Mapping
from typing import cast

from sortedcontainers import SortedList

from basestore.storage.engine import Batch


class MemoryEngine:
    """Rows in a dictionary, and the order of their keys.

    Order is only needed by scans, so new keys are put in order when the next scan begins.
    """

    loss = ""
    persistent = False  # but for simulated disks

    def __init__(self) -> None:
        self._rows: dict[bytes, bytes] = {}
        self._order: SortedList[bytes] = SortedList()
        self._unordered: set[bytes] = set()
        self._dead = 0  # keys in `_order` that are stored no more

    def get(self, key: bytes) -> bytes | None:
        return self._rows.get(key)

    def get_many(self, keys: list[bytes]) -> list[bytes | None]:
        return list(map(self._rows.get, keys))

    def apply(self, batch: Batch) -> None:
        rows = self._rows
        deleted = [key for key, value in batch.items() if value is None]
        puts = {key: value for key, value in batch.items() if value is not None} if deleted else batch
        self._unordered.update(set(puts).difference(rows))
        rows.update(cast("Mapping[bytes, bytes]", puts))
        for key in deleted:
            if rows.pop(key, None) is not None:
                if key in self._unordered:
                    self._unordered.discard(key)
                else:
                    self._dead += 1

    def sync(self) -> None:
        """Nothing is ever durable."""

    def scan(self, start: bytes, end: bytes) -> Iterator[tuple[bytes, bytes]]:
        rows, order = self._rows, self._order
        # Deleted keys keep their place until they are the more numerous: so a deletion costs no search, and
        # a scan of everything looks at no more than twice what it shows.
        if self._dead > len(rows):
            self._order = order = SortedList(rows)
            self._unordered, self._dead = set(), 0
        elif self._unordered:
            order.update(key for key in self._unordered if key not in order)
            self._unordered = set()
        for key in order.irange(start, end, inclusive=(True, False)):
            if key in rows:  # deleted keys keep their place
                yield key, rows[key]

    def accept_loss(self) -> None:
        """Nothing is ever lost that was synced."""

    def close(self) -> None:
        """Nothing to release."""
