"""The load: a real node on a real engine, whose disk is recorded and which tells what it promises.

    python -m tests.crashes.load DIRECTORY SEED BURSTS

A cluster of one, driven as `Service` drives a node: bursts of requests, one batch a step, a real
sync thread, the barrier fixed before its sync begins, further batches while it runs. Marks go
into the recording, among the operations of the disk, in the form of CBOR:

    ["asked", request, key, value]         a client writes (value None: deletes)
    ["handed", sequence, rows]             this batch goes to `apply` next
    ["busy", sequence]                     the engine did not take it
    ["carried", request, sequence]         this request is in that batch
    ["acked", [request, ...]]              the clients were told that these are stored
    ["opened", number], ["closed", number] the store, the so manyth time

The store is opened several times, for a table of contents is only replaced then, and ends without
being closed. Its memtables are small, so that logs roll, tables are written and merged.
"""

import ctypes
import queue
import random
import sys
from dataclasses import dataclass
from pathlib import Path

import cbor2

from basestore.config import BUILT_IN, ClusterConfig, Member, NodeConfig
from basestore.errors import StorageBusy, StorageError
from basestore.instant import Instant
from basestore.node import Node
from basestore.protocol.client import Delete, Set, Written
from basestore.protocol.codec import Message
from basestore.protocol.groups import singly
from basestore.replica.identity import Fresh
from basestore.server.disk_threads import SyncThread
from basestore.storage import rocks
from basestore.storage.engine import Batch
from basestore.storage.rocks import RocksEngine

OPENINGS = 4
KEYS = 160
FLUSH = (11_000, 700, 5)  # the summary log, after so many bytes, in slices of so many bytes and nodes
MEMTABLE_BYTES = 64 << 10
WALL_MS = 1_760_000_000_000


def single(directory: Path) -> NodeConfig:
    """A cluster of one node, whose store lies there."""
    members = (Member(0, "n1", "127.0.0.1:7400"),)
    cluster = ClusterConfig(bytes(16), bytes(range(32)), members, 1, 4, BUILT_IN, 2000, 1000)
    return NodeConfig(cluster, "n1", directory)


def note(*words: object) -> None:
    """Put a mark into the recording; nothing happens where nobody records."""
    put = getattr(ctypes.CDLL(None), "recorder_note", None)
    if put is not None:
        mark = cbor2.dumps(words)
        put(mark, ctypes.c_size_t(len(mark)))


class ToldEngine(RocksEngine):
    """The real engine; what is handed to it is told before it can reach the disk."""

    def apply(self, batch: Batch) -> None:
        sequence = int.from_bytes(batch[b"mprogress"][:8])  # type: ignore[index]
        note("handed", sequence, dict(batch))
        try:
            super().apply(batch)
        except StorageBusy:
            note("busy", sequence)
            raise


@dataclass
class Clock:
    """Time passes a little with every look."""

    ms: int = 0

    def now(self) -> Instant:
        self.ms += 3
        return Instant(WALL_MS + self.ms, 1000.0 + self.ms / 1000)


class Opening:
    """One opening of the store, and the work of its node."""

    def __init__(self, directory: Path, number: int, chance: random.Random, clock: Clock) -> None:
        self._chance = chance
        self._clock = clock
        self._landed: queue.SimpleQueue[tuple[int, StorageError | None]] = queue.SimpleQueue()
        self._uncarried: list[int] = []
        self._next = number * 1_000_000
        self.engine = ToldEngine(directory)
        fresh = Fresh(chance.randbytes(16), chance.randbytes(8), chance.getrandbits(48))
        self.node = Node(single(directory), self.engine, fresh, clock.now(), {})
        summary_log = self.node.summaries.summary_log
        summary_log.checkpoint_at_bytes, summary_log.slice_bytes, summary_log.slice_nodes = FLUSH
        self.node.certificates.passed = self._half  # type: ignore[method-assign]
        barrier = self.node.step(clock.now())
        self.engine.sync()
        self.engine.accept_loss()
        assert barrier is not None
        self.node.durable(barrier, clock.now())
        self.client = self.node.open_client()
        self._sync_thread = SyncThread(self.engine, lambda barrier, error: self._landed.put((barrier, error)))
        note("opened", number)

    def _half(self, partition: int) -> int:
        """As if others held the older half: of what is flushed some lines are dropped, some stored."""
        return self.node.summaries.of[partition].sequence // 2

    def burst(self) -> None:
        """Some requests, a step, and perhaps the wait for a sync."""
        requests = [self._request() for _ in range(self._chance.choice((1, 1, 2, 5, 12)))]
        assert self.node.receive_client(self.client, requests, self._clock.now()) is None
        self.node.tick(self._clock.now())
        self._step()
        while self._sync_thread.busy and (self._chance.random() < 0.7 or not self._landed.empty()):
            self._land()
            self._step()

    def _request(self) -> Message:
        chance = self._chance
        self._next += 1
        self._uncarried.append(self._next)
        key = b"key %d" % chance.randrange(KEYS)
        if chance.random() < 0.1:
            note("asked", self._next, key, None)
            return Delete(self._next, "default", key, 1, 1000, b"")
        size = chance.choice((10, 100, 300, 1000, 3000, 3000, 40_000 if chance.random() < 0.1 else 500))
        value = chance.randbytes(size)
        note("asked", self._next, key, value)
        return Set(self._next, "default", key, value, 1, 1000, 0, b"")

    def _step(self) -> None:
        barrier = self.node.step(self._clock.now())
        for request in self._uncarried:
            note("carried", request, self.node.group_commit.sequence)
        self._uncarried.clear()
        self._tell_acknowledged()
        if barrier is not None and not self._sync_thread.busy:
            self._sync_thread.start(barrier)

    def _land(self) -> None:
        """Wait for the sync under way; what it covered is acknowledged."""
        barrier, error = self._landed.get()
        if error is not None:
            raise error
        self._sync_thread.busy = False
        self.node.durable(barrier, self._clock.now())

    def _tell_acknowledged(self) -> None:
        answers = singly(self.client.take())
        told = [answer.id for answer in answers if isinstance(answer, Written) and answer.outcome == 0]
        if told:
            note("acked", told)

    def settle(self) -> None:
        """Wait until everything asked for is durable."""
        while self._sync_thread.busy:
            self._land()
            self._step()

    def conclude(self) -> None:
        """Go on until the last batch is one that somebody waits for, and not a part of a flush."""
        summary_log, checkpoints = self.node.summaries.summary_log, -1
        self.settle()
        while summary_log.checkpoints != checkpoints:
            checkpoints = summary_log.checkpoints
            self.burst()
            self.settle()

    def close(self, *, clean: bool) -> None:
        """As a node that stops does; not `clean`: as one that was stopped by an error."""
        self._sync_thread.stop()
        if clean:
            self.node.close(self._clock.now())
            self.engine.sync()
        self.engine.close()


def main(directory: Path, seed: int, bursts: int) -> None:
    """Run the load."""
    rocks.MEMTABLE_BYTES = MEMTABLE_BYTES
    chance = random.Random(seed)
    clock = Clock()
    for number in range(OPENINGS):
        opening = Opening(directory, number, chance, clock)
        for _ in range(bursts):
            opening.burst()
        if number < OPENINGS - 1:
            opening.settle()
            opening.close(clean=number % 2 == 0)
            note("closed", number)
    opening.conclude()
    end = getattr(ctypes.CDLL(None), "recorder_end", None)
    if end is not None:
        end()


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]))
