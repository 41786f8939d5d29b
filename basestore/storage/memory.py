"""An engine without a disk: for durability `memory`, caches, tests and simulated disks.

`crash` is a power cut: it loses exactly what was applied since the last sync.
"""

from collections.abc import Iterator

from sortedcontainers import SortedDict

from basestore.storage.engine import Batch


class MemoryEngine:
    """Rows in a sorted dictionary, and how to undo what is not synced."""

    loss = ""

    def __init__(self) -> None:
        self._rows: SortedDict[bytes, bytes] = SortedDict()
        self._undo: dict[bytes, bytes | None] = {}

    def get(self, key: bytes) -> bytes | None:
        value: bytes | None = self._rows.get(key)
        return value

    def apply(self, batch: Batch) -> None:
        rows, undo = self._rows, self._undo
        for key, value in batch.items():
            if key not in undo:
                undo[key] = rows.get(key)
            if value is None:
                rows.pop(key, None)
            else:
                rows[key] = value

    def sync(self) -> None:
        self._undo = {}

    def scan(self, start: bytes, end: bytes) -> Iterator[tuple[bytes, bytes]]:
        rows = self._rows
        for key in rows.irange(start, end, inclusive=(True, False)):
            yield key, rows[key]

    def close(self) -> None:
        """Nothing to release."""

    def crash(self) -> None:
        """Forget every batch since the last `sync`."""
        for key, value in self._undo.items():
            if value is None:
                self._rows.pop(key, None)
            else:
                self._rows[key] = value
        self._undo = {}
