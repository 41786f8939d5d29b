"""Disk: a memory engine whose syncs the world carries out, and whose losses the world chooses.

A power cut keeps what was synced and any prefix of the batches after it, each whole. A disk can be
full (batches are refused), and be replaced by an older copy of itself or by nothing.
"""

from collections.abc import Callable

from basestore.errors import StorageFull
from basestore.replica.identity import Place
from basestore.storage.engine import Batch
from basestore.storage.keyspace import SEQUENCE_BYTES
from basestore.storage.memory import MemoryEngine


class Disk(MemoryEngine):
    """`pending` holds, for each batch that is not durable, what to put back to undo it; `watch` is
    told of each what it replaces, `settled` of those that are durable now; `places`: the files of openings
    in the store's directory; `make_room` refuses a batch that finds no room (StorageFull)."""

    def __init__(self) -> None:
        super().__init__()
        self.places: frozenset[Place] = frozenset()
        self.pending: list[dict[bytes, bytes | None]] = []
        self._before: dict[bytes, bytes | None] = {}  # of each key in `pending`: what is durable
        self.full = False
        self.make_room: Callable[[Batch], None] | None = None
        self.loss = ""
        self.watch: Callable[[dict[bytes, bytes | None], Batch], None] | None = None
        self.settled: Callable[[list[dict[bytes, bytes | None]]], None] | None = None

    def apply(self, batch: Batch) -> None:
        if self.full:
            raise StorageFull("the disk is full: No space left on device")
        if self.make_room is not None:
            self.make_room(batch)
        rows = self._rows
        undo = {key: rows.get(key) for key in batch}
        if self.watch is not None:
            self.watch(undo, batch)
        self.pending.append(undo)
        for key, held in undo.items():  # of two values the older one is durable
            self._before.setdefault(key, held)
        super().apply(batch)

    def sync(self) -> None:
        """Everything is durable, at once: for opening."""
        self.settle(len(self.pending))

    def settle(self, count: int) -> None:
        """A sync that began when `count` batches were pending has ended."""
        if self.settled is not None:
            self.settled(self.pending[:count])
        del self.pending[:count]
        self._before = {}
        for undo in reversed(self.pending):  # of two values the older one is durable
            self._before |= undo

    def cut(self, kept: int) -> None:
        """A power cut: of the pending batches the first `kept` survive."""
        while len(self.pending) > kept:
            super().apply(self.pending.pop())
        self.sync()

    def crash(self) -> None:
        """A power cut that only what was synced survives."""
        self.cut(0)

    def accept_loss(self) -> None:
        self.loss = ""

    def durable(self, key: bytes) -> bytes | None:
        """What a power cut now would certainly leave under a key."""
        before = self._before
        return before[key] if key in before else self._rows.get(key)

    def copy(self) -> dict[bytes, bytes]:
        """A backup of what is durable."""
        rows = self._rows | self._before
        return {key: value for key, value in rows.items() if value is not None}

    @classmethod
    def restored(cls, copy: dict[bytes, bytes], places: frozenset[Place] = frozenset()) -> "Disk":
        """A disk that holds a backup of files, which are others now; or, with the `places` of the moment of
        the copy, one of the blocks beneath the file system."""
        disk = cls()
        disk.places = places
        disk.apply(copy)
        disk.sync()
        return disk

    def spoil(self, key: bytes, where: int) -> None:
        """Change one bit of a durable record."""
        value = bytearray(self._rows[key])
        size = len(value) - SEQUENCE_BYTES
        value[where % size] ^= 1 << (where // size) % 8
        self._rows[key] = bytes(value)

    def spoil_at(self, key: bytes, at: int) -> None:
        """Change one bit of this byte of what is durable."""
        value = bytearray(self._rows[key])
        value[at] ^= 1
        self._rows[key] = bytes(value)
