"""A full disk, as RocksDB meets it: what it says then, and what is left to do beside it.

A table or manifest that finds no room is written again by RocksDB itself as soon as there is some; until then
it refuses every batch, and goes on to read and to sync. A log that finds no room is another matter: it ends
inside a batch, RocksDB writes and syncs nothing any more, and a process that is killed now leaves a log that
looks damaged. Closed, it cuts the log back to its last whole batch. So the store is closed, opened for
reading alone, which needs no room, and opened for writing once there is room for what its logs hold: that is
what opening writes. Reads the file system's figures, and writes nothing.
"""

import os
import re
from pathlib import Path
from typing import NamedTuple

from basestore.storage.durable_files import sync_path

MARGIN_BYTES = 1 << 20  # of what opening writes besides: a manifest, its own log
_FULL = re.compile(r"No space left|[Qq]uota exceeded|NoSpace|Errno 28")
_LOG = re.compile(r"\d+\.log\b")
BROKEN_LOG = "Writer has previous error"


class Room(NamedTuple):
    """Of the file system that a directory lies on, in bytes: what may still be written, and its size."""

    free: int
    size: int

    def __str__(self) -> str:
        return f"{shown(self.free)} of {shown(self.size)} are free"


def room_at(directory: Path) -> Room:
    """What statvfs says; OSError."""
    found = os.statvfs(directory)
    return Room(found.f_bavail * found.f_frsize, found.f_blocks * found.f_frsize)


def shown(size: int) -> str:
    """A number of bytes, for people."""
    for unit in ("bytes", "KiB", "MiB"):
        if size < 10_000:
            return f"{size} {unit}"
        size >>= 10
    return f"{size} GiB"


def is_full(text: str) -> bool:
    """Whether an error says that there is no room."""
    return bool(_FULL.search(text))


def broke_log(text: str) -> bool:
    """Whether it is a log that found no room."""
    return BROKEN_LOG in text or (is_full(text) and bool(_LOG.search(text)))


def log_bytes(directory: Path) -> int:
    """What the logs hold; OSError."""
    return sum(log.stat().st_size for log in directory.glob("[0-9]*.log"))


def sync_logs(directory: Path) -> None:
    """Make durable what the logs hold, for RocksDB does not once one of them is broken; OSError."""
    for path in (*directory.glob("[0-9]*.log"), directory):
        sync_path(path)
