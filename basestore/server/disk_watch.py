"""Disk watch: a thread that looks how much room there is on a store's disk, and writes down what it holds.

In a thread of its own, for a file system may hang, and nobody should wait for it; and it wakes nobody:
whoever wants to know reads `room`.
"""

import threading
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from basestore.storage.rocks_full import Room, room_at

LOOK_S = 0.2
RESTING_LOOK_S = 1.0  # while the node is at rest
NOTE_S = 1.0  # how often it is written down how much the store holds
STOP_S_MAX = 2.0


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
