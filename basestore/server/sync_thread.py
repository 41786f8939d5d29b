"""Sync thread: syncs the engine while the node's loop goes on.

A sync (fdatasync of the engine's log) blocks for milliseconds, so a thread of its own calls it, one at a
time. All writes that were stored while one sync ran are made durable together by the next: group commit
(DeWitt et al. 1984).

    loop      store 1, 2   order 2                store 3, 4          order 4
    thread                 sync ............. done 2                  sync ...

The order carries a barrier, the newest write that was stored before it was given, and `done` hands the same
barrier back: 3 and 4 may be on the disk after the first sync, but nobody knows, so they wait for the second.

After a failed sync nothing more is synced: the kernel may have dropped the pages that it could not write and
report success the next time (Rebello et al., "Can applications recover from fsync failures?", 2020).
"""

import queue
import threading
from collections.abc import Callable

from basestore.errors import StorageError
from basestore.storage.engine import Engine


class SyncThread:
    """`done(barrier, error)` is called in the thread; it should only hand the news over."""

    def __init__(self, engine: Engine, done: Callable[[int, StorageError | None], None]) -> None:
        self._engine = engine
        self._done = done
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
        while (barrier := self._orders.get()) is not None:
            try:
                self._engine.sync()
            except StorageError as error:
                self._done(barrier, error)
                return
            self._done(barrier, None)
