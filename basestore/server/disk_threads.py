"""Disk threads: one syncs the engine while the node's loop goes on, one looks how the disk is.

A sync (fdatasync of the engine's log) blocks for milliseconds, so a thread of its own calls it, one at a
time. All writes that were stored while one sync ran are made durable together by the next: group commit
(DeWitt et al. 1984).

    loop      store 1, 2   order 2                store 3, 4          order 4
    thread                 sync ............. done 2                  sync ...

The order carries a barrier, the newest write that was stored before it was given, and `done` hands the same
barrier back: 3 and 4 may be on the disk after the first sync, but nobody knows, so they wait for the second.

After a failed sync nothing more is synced: the kernel may have dropped the pages that it could not write and
report success the next time (Rebello et al., "Can applications recover from fsync failures?", 2020).

The disk watch looks how much room there is, and writes down what the store holds. Its thread is another one,
for a file system may hang, and nobody should wait for it; and it wakes nobody: whoever wants to know reads
`room`.
"""

import queue
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from basestore.errors import StorageError
from basestore.storage.engine import Engine
from basestore.storage.rocks_full import Room, room_at

LOOK_S = 0.2
RESTING_LOOK_S = 1.0  # while the node is at rest
NOTE_S = 1.0  # how often it is written down how much the store holds
STOP_S_MAX = 2.0


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


class DiskWatch:
    """Of one directory. `room`: what was found last; `durable`: the newest barrier that is durable, which is
    written down by `note`."""

    def __init__(self, directory: Path, durable: int, note: Callable[[int], None]) -> None:
        self._directory = directory
        self._note = note
        self._look_s = LOOK_S
        self._stirred = threading.Event()
        self._stopped = False
        self.room: Room | None = None
        self.durable = self._noted = durable
        self._noted_s = 0.0
        self._thread = threading.Thread(target=self._run, name="basestore disk watch", daemon=True)
        self._thread.start()

    def look_every(self, seconds: float) -> None:
        """How long after a look to look again; at once if that is sooner than before."""
        sooner, self._look_s = seconds < self._look_s, seconds
        if sooner:
            self._stirred.set()

    def stop(self) -> None:
        """End the thread; without waiting for long, for it may hang."""
        self._stopped = True
        self._stirred.set()
        self._thread.join(STOP_S_MAX)

    def _run(self) -> None:
        while True:
            self._stirred.wait(self._look_s)
            self._stirred.clear()
            if self._stopped:
                return
            with suppress(OSError):  # then what was found before stands
                self.room = room_at(self._directory)
            if self.durable != self._noted and time.monotonic() >= self._noted_s + NOTE_S:
                self._noted = self.durable
                self._note(self._noted)
                self._noted_s = time.monotonic()
