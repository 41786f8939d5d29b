"""An engine without a disk: for durability `memory`, caches, tests and simulated disks.

Owns rows that are gone with the process, and draws no conclusions from them. `crash` is a power cut: it loses
exactly what was applied since the last sync.
"""

from collections.abc import Iterator

from sortedcontainers import SortedList

from basestore.storage.engine import Batch


class MemoryEngine:
    """Rows in a dictionary, the order of their keys, and how to undo what is not synced.

    Order is only needed by scans, so new keys are put in order when the next scan begins.
    """

    loss = ""
    persistent = False  # but for simulated disks

    def __init__(self) -> None:
        self._rows: dict[bytes, bytes] = {}
        self._order: SortedList[bytes] = SortedList()
        self._unordered: set[bytes] = set()
        self._dead = 0  # keys in `_order` that are stored no more
        self._undo: dict[bytes, bytes | None] = {}

    def get(self, key: bytes) -> bytes | None:
        return self._rows.get(key)

    def get_many(self, keys: list[bytes]) -> list[bytes | None]:
        return [self.get(key) for key in keys]

    def apply(self, batch: Batch) -> None:
        rows, undo = self._rows, self._undo
        for key, value in batch.items():
            held = rows.get(key)
            # Only the first value since the last sync: what came after it is lost with it.
            if key not in undo:
                undo[key] = held
            self._put(key, held, value)

    def _put(self, key: bytes, held: bytes | None, value: bytes | None) -> None:
        if value is not None:
            self._rows[key] = value
            if held is None:
                self._unordered.add(key)
        elif held is not None:
            del self._rows[key]
            if key in self._unordered:
                self._unordered.discard(key)
            else:
                self._dead += 1

    def sync(self) -> None:
        self._undo = {}

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

    def crash(self) -> None:
        """Forget every batch since the last `sync`."""
        for key, value in self._undo.items():
            self._put(key, self._rows.get(key), value)
        self._undo = {}
