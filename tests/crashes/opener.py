"""Opens stores, as a node that starts does, and says what it found in them.

    python -m tests.crashes.opener      a line with a directory in, a line of JSON (`Found`) out

A process of its own: an engine that crashes or never returns is then a finding like any other.
"""

import json
import select
import subprocess
import sys
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import NamedTuple, Self

from basestore.cluster.outbox import Outbox
from basestore.cluster.placement import Placement
from basestore.errors import ConfigurationError, StorageError
from basestore.instant import Instant
from basestore.node import Node
from basestore.protocol.limits import PAGE_ROWS_MAX
from basestore.protocol.replication import Held, Range, Read, ReadRange, Rejected
from basestore.repair.digest_tree import Summary, leaf_of
from basestore.repair.version import HEAD_BYTES, VERSION_BYTES, Record
from basestore.replica.identity import Fresh
from basestore.replica.many_rows import ManyRows
from basestore.rows import row_key
from basestore.storage.engine import Engine
from basestore.storage.keyspace import DATA, SEQUENCE_BYTES
from basestore.storage.rocks import RocksEngine
from tests.crashes.history import brief, contents
from tests.crashes.load import KEYS, WALL_MS, single

OPEN_S_MAX = 120.0  # only a hung process takes so long
NOW = Instant(WALL_MS + 10_000_000, 5000.0)


class Found(NamedTuple):
    """What one opening came to. `refused`: why the store cannot be opened, or not be read to its end;
    `ended`: how the process was lost over it. `number` is that of its contents (`history.py`),
    `sequence` how far it says it has come, `state` and `reason` are the node's, `loss` the engine's.
    `served` is what the door shows of each key (`brief`), `listed` the same out of ranges; `damaged`
    the refusals to show one; `unfit` the summaries that are not those of the records."""

    refused: str = ""
    ended: str = ""
    loss: str = ""
    number: str = ""
    sequence: int = 0
    state: str = ""
    reason: str = ""
    served: dict[str, str] = {}  # noqa: RUF012
    listed: dict[str, str] = {}  # noqa: RUF012
    damaged: list[str] = []  # noqa: RUF012
    unfit: list[str] = []  # noqa: RUF012


def look(directory: Path) -> Found:
    """Open the store, read all of it, close it."""
    try:
        engine = RocksEngine(directory)
    except StorageError as error:
        return Found(refused=str(error))
    found = Found(loss=engine.loss)
    try:
        found = found._replace(number=str(contents(engine.scan(b"", b"\xff"))))
    except StorageError as error:
        found = found._replace(refused=str(error))
    try:
        return _ask_node(directory, engine, found)
    except (StorageError, ConfigurationError) as error:
        return found._replace(refused=found.refused or str(error))
    finally:
        _close(engine)


def _close(engine: Engine) -> None:
    with suppress(StorageError):  # it complains again of what was found
        engine.close()


def _ask_node(directory: Path, engine: Engine, found: Found) -> Found:
    """Start the node, in the order that `Node` asks for, and read through its door."""
    node = Node(single(directory), engine, Fresh(b"s" * 16, b"g" * 8, 77), NOW, {})
    found = found._replace(sequence=node.group_commit.sequence, state=node.state, reason=node.reason)
    barrier = node.step(NOW)
    engine.sync()
    engine.accept_loss()
    if barrier is not None:
        node.durable(barrier, NOW)
    served, damaged = _read_keys(node)
    listed = _read_ranges(node)
    return found._replace(served=served, listed=listed, damaged=damaged, unfit=_unfit(node))


def _unfit(node: Node) -> list[str]:
    """Partitions whose sums, counts or log do not fit what is stored."""
    unfit = []
    for partition, summary in node.summaries.of.items():
        start, end = DATA + partition.to_bytes(2), DATA + (partition + 1).to_bytes(2)
        true, lines = Summary(), dict[int, bytes]()
        for key, stored in node.engine.scan(start, end):
            row = key[len(DATA) :]
            true.replace(leaf_of(row), stored[:HEAD_BYTES], b"")
            lines[int.from_bytes(stored[-SEQUENCE_BYTES:])] = stored[:VERSION_BYTES] + row
        if not (
            summary.sound
            and (summary.root, summary.count, summary.live) == (true.root, true.count, true.live)
        ):
            unfit.append(f"the sums of partition {partition} are not those of its records")
        log = dict(node.summaries.summary_log.log(partition, 0, summary.sequence))
        above = {sequence for sequence in lines if sequence > summary.floor}
        if not (log.items() <= lines.items() and above <= log.keys()):
            unfit.append(f"the log of partition {partition} is not that of its records")
    return unfit


def _read_keys(node: Node) -> tuple[dict[str, str], list[str]]:
    outbox = Outbox(set())
    placement = Placement.of(node.config.cluster)
    served: dict[str, str] = {}
    damaged = []
    for number in range(KEYS):
        key = b"key %d" % number
        try:
            node.replica.read(outbox, Read(number, placement.row(b"default", key), 0, True, False, False))
        except StorageError as error:
            damaged.append(str(error))
            continue
        (answer,) = outbox.take()
        if isinstance(answer, Held):
            served[key.decode()] = brief(_value(answer.record))
        elif isinstance(answer, Rejected):
            damaged.append(answer.reason)
    return served, damaged


def _value(record: bytes) -> bytes | None:
    if not record or Record(record).tombstone:
        return None
    return Record(record).value


def _read_ranges(node: Node) -> dict[str, str]:
    """By key, all that ranges show; none of a partition of which a part cannot be shown."""
    outbox = Outbox(set())
    listed: dict[str, str] = {}
    for partition in range(node.config.cluster.partitions):
        after, more = b"", True
        while more:
            try:
                message = ReadRange(0, [partition], b"default", b"", after, PAGE_ROWS_MAX, 0, 0)
                ManyRows(node.replica, node.group_commit).read_range(outbox, message)
            except StorageError:
                break
            (answer,) = outbox.take()
            if not isinstance(answer, Range):
                break
            for row, blob in zip(answer.rows[::2], answer.rows[1::2], strict=True):
                listed[row_key(row).decode()] = brief(_value(blob))
            more, after = answer.more, row_key(answer.rows[-2]) if answer.rows else b""
    return listed


class Opener:
    """A process that opens stores, started anew when one has ended it."""

    def __enter__(self) -> Self:
        self._start()
        return self

    def _start(self) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.crashes.opener"], stdin=subprocess.PIPE, stdout=subprocess.PIPE
        )

    def look(self, directory: Path) -> Found:
        """What opening the store comes to; a crash or a hang is told, not raised."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(f"{directory}\n".encode())
        self._process.stdin.flush()
        ready, _, _ = select.select([self._process.stdout], [], [], OPEN_S_MAX)
        line = self._process.stdout.readline() if ready else b""
        if line:
            return Found(**json.loads(line))
        if not ready:
            self._process.kill()
        code = self._process.wait()
        self._end()
        self._start()
        return Found(ended=f"it ended with code {code}" if ready else f"it hung for {OPEN_S_MAX} s")

    def _end(self) -> None:
        self._process.kill()
        self._process.wait()
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe is not None:
                pipe.close()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._end()


if __name__ == "__main__":
    for line in sys.stdin:
        print(json.dumps(look(Path(line.rstrip("\n")))._asdict()), flush=True)
