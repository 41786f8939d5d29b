"""`python -m tests.cluster.busy serve ...`: basestore with more to do than it can, while there is the file
that BUSY names: what may be deferred is deferred."""

import os
import sys
from pathlib import Path
from unittest.mock import patch

from basestore.cli import main as command
from basestore.cluster.outbox import Outbox
from basestore.instant import Instant
from basestore.node import Node
from basestore.protocol.codec import Message
from tests.cluster.processes import SERVE, NodeProcess
from tests.worlds.deferring import receive

_receive = Node.receive_client


def _receive_if_busy(self: Node, outbox: Outbox, messages: list[Message], now: Instant) -> Message | None:
    busy = Path(os.environ["BUSY"]).exists()
    return (receive if busy else _receive)(self, outbox, messages, now)


class Busy:
    """That one node has too much to do."""

    def __init__(self, node: NodeProcess) -> None:
        self._file = node.path.with_suffix(".busy")
        node.command = (sys.executable, "-m", "tests.cluster.busy", *SERVE)
        node.environment = {"BUSY": str(self._file)}
        self._file.touch()

    def end(self) -> None:
        """It has time again."""
        self._file.unlink()


def main() -> None:
    """The command, with a node that asks the file."""
    with patch.object(Node, "receive_client", _receive_if_busy):
        command()


if __name__ == "__main__":
    main()
