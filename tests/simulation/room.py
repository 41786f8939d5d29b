"""Room: a file system that fills, as RocksDB meets it.

    log      each batch is appended to it; one that finds no room breaks it: nothing is taken any more until
             the store was closed, and opened again with room for all that its log holds, which is looked at
             once a second. A machine that crashes before it was closed leaves a log that looks damaged
    table    what the log holds is written to one, and the log begins anew. While there is no room for that
             nothing is taken; it is tried again all the time
    opening  writes a table of what the log holds, and needs room for it

The store reads and syncs on meanwhile, and none of a refused batch is stored. What else lies on the file
system comes and goes. The real one is tried in tests/basestore/storage/test_full_disks.py.
"""

from collections.abc import Callable

from basestore.errors import StorageFull
from basestore.storage.engine import Batch

SIZE = 1 << 20  # a twentieth of it is kept in reserve
RESERVE = SIZE // 20
TABLE_BYTES = 4_000
MARGIN_BYTES = 2_000
ROW_BYTES = 12  # besides key and value
REOPEN_S = 1.0
TABLES = 12  # as large as what is stored, until they are put together
FULL = "the disk is full: No space left on device"


class Room:
    """Of one machine's disk. `others`: what does not belong to the store; `stored`: bytes that it holds."""

    def __init__(self, clock: Callable[[], float], stored: Callable[[], int]) -> None:
        self._clock = clock
        self._stored = stored
        self.others = 0
        self.log = 0
        self.tables = stored()
        self.broken = self.closed = False  # the log; and it was cut back since
        self._waits = False  # for a table
        self._reopen_due_s = 0.0
        self.breaks: Callable[[], None] | None = None  # is called as the log breaks
        self.seen: list[str] = []  # what was met, until it was counted

    @property
    def free(self) -> int:
        return max(0, SIZE - self.others - self.log - self.tables)

    def leave(self, free: int) -> None:
        """Others take all but this, or give it back."""
        self.others = max(0, SIZE - self.log - self.tables - free)

    def take(self, batch: Batch) -> None:
        """A batch is appended to the log; StorageFull."""
        if self.broken:
            self._open_again()
        if self._waits:
            self._write_table()
        if self._waits:
            raise StorageFull(FULL)
        size = sum(len(key) + len(value or b"") + ROW_BYTES for key, value in batch.items())
        if self.free < size:
            self.broken, self.closed = True, False
            self._reopen_due_s = 0.0
            self.seen.append("log without room")
            if self.breaks is not None:
                self.breaks()
            raise StorageFull(FULL)
        self.log += size
        if self.log > TABLE_BYTES:
            self._write_table()
            if self._waits:
                self.seen.append("table without room")

    def opens(self) -> bool:
        """Whether a process that starts finds room enough; it has written a table then."""
        if self.free < self.log + MARGIN_BYTES:
            return False
        self._waits = self.broken = self.closed = False
        self._write_table()
        return True

    def _open_again(self) -> None:
        """Close the store, and open it as soon as there is room."""
        self.closed = True
        if self._clock() < self._reopen_due_s:
            raise StorageFull(FULL)
        self._reopen_due_s = self._clock() + REOPEN_S
        if not self.opens():
            raise StorageFull(FULL)
        self.seen.append("store opened again")

    def _write_table(self) -> None:
        """What the log holds, if there is room for it; tables are put together now and then."""
        self._waits = self.free < self.log
        if not self._waits:
            self.tables, self.log = self.tables + self.log, 0
            if self.tables > TABLES * TABLE_BYTES + self._stored():
                self.tables = self._stored()
