"""Sync thread: syncs the engine while the node's loop goes on.

A sync (fdatasync of the engine's log) blocks for milliseconds, so a thread of its own calls it, one at a
time. All writes that were stored while one sync ran are made durable together by the next: group commit
(DeWitt et al. 1984).

    loop      store 1, 2   order 2                store 3, 4          order 4
    thread                 sync ............. done 2                  sync ...

The order carries a barrier, the newest write that was stored before it was given, and `done` hands the same
barrier back: 3 and 4 may be on the disk after the first sync, but nobody knows, so they wait for the second.

Beside that the thread writes down, once a second, how much is durable (`note`): nobody waits for it.

After a failed sync nothing more is synced: the kernel may have dropped the pages that it could not write and
report success the next time (Rebello et al., "Can applications recover from fsync failures?", 2020).
"""

import queue
import threading
import time
from collections.abc import Callable
from contextlib import suppress

from basestore.errors import StorageError
from basestore.storage.engine import Engine

NOTE_S = 1.0  # how often it is written down how much the store holds


class SyncThread:
    """`done(barrier, error)` is called in the thread; it should only hand the news over. So is
    `note(barrier)`, at most once a second, which may take as long as a sync."""

    def __init__(
        self, engine: Engine, done: Callable[[int, StorageError | None], None], note: Callable[[int], None]
    ) -> None:
        self._engine = engine
        self._done = done
        self._note = note
        self._noted_s = 0.0
        self._unnoted: int | None = None
        self._orders: queue.SimpleQueue[int | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._run, name="basestore sync thread", daemon=True)
        self._thread.start()
        self.busy = False

    def start(self, barrier: int) -> None:
        """Begin a sync that makes everything up to `barrier` durable. Only when not `busy`."""
        self.busy = True
        self._orders.put(barrier)

    def stop(self) -> None:
        """End the thread; waits for a sync under way."""
        self._orders.put(None)
        self._thread.join()

    def _run(self) -> None:
        while (barrier := self._next()) is not None:
            try:
                self._engine.sync()
            except StorageError as error:
                self._done(barrier, error)
                return
            self._done(barrier, None)
            self._unnoted = barrier

    def _next(self) -> int | None:
        """The next order; meanwhile what is durable is written down."""
        while True:
            if self._unnoted is None:
                return self._orders.get()
            left_s = self._noted_s + NOTE_S - time.monotonic()
            if left_s > 0:
                with suppress(queue.Empty):
                    return self._orders.get(timeout=left_s)
            barrier, self._unnoted = self._unnoted, None
            self._note(barrier)
            self._noted_s = time.monotonic()
