"""Disk watch: a thread that looks how much room there is on a store's disk.

In a thread of its own, for a file system may hang; and it wakes nobody: whoever wants to know reads `room`.
"""

import threading
from contextlib import suppress
from pathlib import Path

from basestore.storage.rocks_full import Room, room_at

LOOK_S = 0.2
RESTING_LOOK_S = 1.0  # while the node is at rest


class DiskWatch:
    """Of one directory. `room`: what was found last; `look_s`: how long after that to look again."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._stopped = threading.Event()
        self.room: Room | None = None
        self.look_s = LOOK_S
        threading.Thread(target=self._run, name="basestore disk watch", daemon=True).start()

    def stop(self) -> None:
        """End the thread; without waiting, for it may hang."""
        self._stopped.set()

    def _run(self) -> None:
        while not self._stopped.wait(self.look_s):
            with suppress(OSError):  # then what was found before stands
                self.room = room_at(self._directory)
