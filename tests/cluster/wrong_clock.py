"""`python -m tests.cluster.wrong_clock serve ...`: basestore on a machine whose wall clock is off, or with a
disk that is slow.

    WRONG_CLOCK    a file with the ms by which the wall clock is ahead; it may change while the node runs
    SLOW_SYNC_MS   how much longer every sync of the store takes
"""

import os
import sys
import time
from pathlib import Path
from types import SimpleNamespace
from unittest.mock import patch

from basestore.cli import main as command
from basestore.server import clock
from basestore.storage import rocks
from tests.cluster.processes import SERVE, NodeProcess

_sync = rocks.RocksEngine.sync


def _time_ns() -> int:
    return time.time_ns() + int(Path(os.environ["WRONG_CLOCK"]).read_text()) * 1_000_000


def _slow_sync(engine: rocks.RocksEngine) -> None:
    time.sleep(int(os.environ["SLOW_SYNC_MS"]) / 1e3)
    _sync(engine)


class WrongClock:
    """The wall clock of one node."""

    def __init__(self, node: NodeProcess, ahead_ms: int = 0, *, slow_sync_ms: int = 0) -> None:
        self._file = node.path.with_suffix(".clock")
        self.set(ahead_ms)
        node.command = (sys.executable, "-m", "tests.cluster.wrong_clock", *SERVE)
        node.environment = {"WRONG_CLOCK": str(self._file), "SLOW_SYNC_MS": str(slow_sync_ms)}

    def set(self, ahead_ms: int) -> None:
        """At once."""
        fresh = self._file.with_suffix(".fresh")
        fresh.write_text(str(ahead_ms))
        fresh.rename(self._file)


def main() -> None:
    """The command, with the wrong clock and the slow disk in their places."""
    wrong = SimpleNamespace(time_ns=_time_ns, monotonic=time.monotonic)
    with patch.object(clock, "time", wrong), patch.object(rocks.RocksEngine, "sync", _slow_sync):
        command()


if __name__ == "__main__":
    main()
