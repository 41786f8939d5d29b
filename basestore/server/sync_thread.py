"""Sync thread: syncs the engine while the loop goes on.
(What the summary log calls a checkpoint
only stages rows; it is synced here like all others.)

One sync at a time. The barrier is fixed before the sync starts; what is committed meanwhile waits
for the next one, which is group commit. After a failed sync nothing more is synced.
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
