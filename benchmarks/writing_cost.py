"""Writing cost: what the summaries add to each write that a replica applies.

Two replicas take the same writes, one with its summaries, one with summaries that keep nothing. In turns,
slice by slice, and whoever begins changes, so that the drift of the machine hits both. Counted is the
processor time of the thread that applies and commits, 64 writes in a batch, without syncs; and without
RocksDB's own threads, which write its tables later. First every key is new; then each is written again.

The cost of checkpoints of the summary log is in it. That depends on the peers: where they are *here*, proven
to hold all but what is new, lines of the log are dropped; where one is *away*, each becomes a row.
"""

import random
import statistics
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

from basestore.cluster.outbox import Outbox
from basestore.cluster.placement import Placement
from basestore.config import BUILT_IN, PARTITIONS_DEFAULT
from basestore.protocol.replication import DIRECT, Apply
from basestore.repair.clock import HybridClock
from basestore.repair.version import COUNTER_BITS, Digester, Record, Version
from basestore.replica.group_commit import GroupCommit
from basestore.replica.replica import Replica
from basestore.replica.summaries import Summaries
from basestore.storage.engine import Engine
from basestore.storage.keyspace import SEQUENCE_BYTES
from basestore.storage.memory import MemoryEngine
from basestore.storage.rocks import RocksEngine
from basestore.topology.buckets import Buckets
from benchmarks.load import VALUE_BYTES, key
from benchmarks.pair import CLUSTER_KEY, WALL_MS, two_members

BATCH_WRITES = 64
SLICE_BATCHES = 32
AIM_US = 6.0
SEED = 1979
HERE, AWAY = "here", "away"
_NO_SEQUENCE = bytes(SEQUENCE_BYTES)

Say = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Cost:
    """Processor time a write, medians over slices; `added_us` is the mean of the differences, for most
    slices are between two flushes. `peers`: here or away."""

    engine: str
    partitions: int
    peers: str
    writes: str
    without_us: float
    with_us: float
    added_us: float


class Unkept(Summaries):
    """Summaries that keep nothing."""

    def enter(self, rows: Sequence[bytes], heads: Sequence[bytes], helds: Sequence[bytes]) -> list[bytes]:
        return [_NO_SEQUENCE] * len(rows)


class Side:
    """A replica, and its times."""

    def __init__(self, engine: Engine, kind: type[Summaries], partitions: int, peers: str) -> None:
        buckets = Buckets(BUILT_IN)
        self._engine = engine
        self._group_commit = GroupCommit(engine, b"", waits=True)
        self._summaries = kind(self._group_commit, range(partitions))
        clock = HybridClock((WALL_MS + 1000) << COUNTER_BITS, 2000)
        self._replica = Replica(self._group_commit, self._summaries, buckets, Digester(CLUSTER_KEY), clock)
        self.peers = peers
        self._passed = self._sequence if peers == HERE else _nothing
        self._nobody = Outbox(set())
        self._nobody.close()
        self.times_us: list[float] = []

    def _sequence(self, partition: int) -> int:
        return self._summaries.of[partition].sequence

    def write(self, messages: Sequence[Apply]) -> None:
        """Apply and commit in batches."""
        apply, summaries, group_commit = self._replica.apply, self._summaries, self._group_commit
        begun_ns = time.thread_time_ns()
        for at in range(0, len(messages), BATCH_WRITES):
            for message in messages[at : at + BATCH_WRITES]:
                apply(self._nobody, message, WALL_MS)
            summaries.summary_log.checkpoint(self._passed)
            summaries.summary_log.write()
            group_commit.commit()
        self.times_us.append((time.thread_time_ns() - begun_ns) / 1e3 / len(messages))
        self._engine.sync()
        group_commit.durable(group_commit.sequence)

    def close(self) -> None:
        self._engine.close()


def _nothing(partition: int) -> int:
    return 0


def measure_cost(pairs: int, parent: Path | None, say: Say) -> list[Cost]:
    """Both engines, with one partition and with as many as usual; so many pairs of slices each."""
    costs = []
    for engine in ("rocksdb", "memory"):
        for partitions in (1, PARTITIONS_DEFAULT):
            say(f"{engine}, {partitions} partitions")
            costs += _measure(engine, partitions, pairs, parent)
    return costs


def _measure(engine: str, partitions: int, pairs: int, parent: Path | None) -> list[Cost]:
    slices = _slices(pairs, partitions)
    costs = []
    with TemporaryDirectory(prefix="basestore-cost-", dir=parent) as directory:
        sides = [
            Side(_open(engine, Path(directory) / f"{number}"), kind, partitions, peers)
            for number, (kind, peers) in enumerate(((Unkept, HERE), (Summaries, HERE), (Summaries, AWAY)))
        ]
        for round_number, writes in enumerate(("new", "again")):
            for turn, rows in enumerate(slices):
                messages = _messages(rows, round_number)
                for side in sides if turn % 2 else sides[::-1]:
                    side.write(messages)
            costs += [_cost(engine, partitions, writes, sides[0], side) for side in sides[1:]]
            for side in sides:
                side.times_us = []
        for side in sides:
            side.close()
    return costs


def _open(engine: str, directory: Path) -> Engine:
    return RocksEngine(directory) if engine == "rocksdb" else MemoryEngine()


def _slices(pairs: int, partitions: int) -> list[list[bytes]]:
    """Rows in no order, as many at a time as are written at a time."""
    placement = Placement.of(two_members(partitions))
    size = SLICE_BATCHES * BATCH_WRITES
    rows = [placement.row(b"default", key(number)) for number in range(pairs * size)]
    random.Random(SEED).shuffle(rows)
    return [rows[at : at + size] for at in range(0, len(rows), size)]


def _messages(rows: Iterable[bytes], round_number: int) -> list[Apply]:
    """A write to each row; those of a later round are newer."""
    digester = Digester(CLUSTER_KEY)
    source = random.Random(SEED)
    messages = []
    for number, row in enumerate(rows, 1):
        version = Version((WALL_MS + round_number) << COUNTER_BITS, 1, number)
        record = Record.seal(digester, row, version, source.randbytes(VALUE_BYTES))
        messages.append(Apply(number, row, record.blob, DIRECT, 0))
    return messages


def _cost(engine: str, partitions: int, writes: str, unkept: Side, kept: Side) -> Cost:
    pairs = zip(unkept.times_us, kept.times_us, strict=True)
    without_us, with_us = (round(statistics.median(side.times_us), 2) for side in (unkept, kept))
    added_us = round(statistics.fmean(b - a for a, b in pairs), 2)
    return Cost(engine, partitions, kept.peers, writes, without_us, with_us, added_us)


def cost_text(costs: Sequence[Cost]) -> str:
    """A table, and the aim."""
    lines = ["engine   partitions  keys   peers     CPU a write, µs: without   with summaries   added"]
    lines += [
        f"{cost.engine:<8} {cost.partitions:>10}  {cost.writes:<6} {cost.peers:<4} {cost.without_us:>29.2f} "
        f"{cost.with_us:>14.2f} {cost.added_us:>7.2f}"
        for cost in costs
    ]
    return "\n".join([*lines, f"to reach: at most {AIM_US:g} µs more; {BATCH_WRITES} writes in a batch"])
