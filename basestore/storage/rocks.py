"""The engine on RocksDB (through rocksdict): the default, durable one.

A batch is written to the log unsynced, inside the caller's loop; `sync` flushes the log from a
thread, which does not hold the interpreter lock (a synced write would).

Opening recovers the log in the mode that refuses any damage. If it refuses, the store is opened
at the last whole point before the damage, and `loss` names what happened: its node then starts as
forgetful. Damage anywhere else (a table, the manifest) is an error that names the store. What a
damaged log loses without a trace (a file cut at a record's end) is found by peers, who remember
how far the store had come.
What RocksDB itself passes over is looked for before (`rocks_damage.py`). Owns the directory of the store, and
repairs nothing in it beyond that.
"""

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from rocksdict import BlockBasedOptions, DBRecoveryMode, Options, Rdict, ReadOptions, WriteBatch, WriteOptions

from basestore.errors import StorageBusy, StorageError
from basestore.storage.engine import Batch
from basestore.storage.rocks_damage import ADVICE, find_losses, in_use, make_visible

MEMTABLE_BYTES = 64 << 20
_BUSY = re.compile(r"Write stall|Incomplete", re.IGNORECASE)


def _options(mode: DBRecoveryMode) -> Options:
    options = Options(raw_mode=True)
    options.create_if_missing(True)
    options.set_wal_recovery_mode(mode)
    options.set_write_buffer_size(MEMTABLE_BYTES)
    options.set_max_background_jobs(2)
    options.set_keep_log_file_num(3)
    options.set_paranoid_checks(True)
    table = BlockBasedOptions()
    table.set_bloom_filter(10, False)
    options.set_block_based_table_factory(table)
    return options


class RocksEngine:
    """One directory, one database, held by one process."""

    persistent = True

    def __init__(self, directory: Path) -> None:
        """Open or create; StorageError when the directory is in use or damaged beyond its log."""
        self._directory = directory
        self._mark = directory / "LOST"
        self.loss = ""
        with self._errors("cannot be created"):
            directory.mkdir(parents=True, exist_ok=True)
        self._db = self._open()
        with self._errors("cannot be read"):
            self.loss = self._mark.read_text() if self._mark.exists() else ""
        self._write_options = WriteOptions()
        # Rather refused (StorageBusy) than stalled: a write runs inside the node's loop.
        self._write_options.no_slowdown = True
        # What the process before this one wrote and did not sync is recovered too, perhaps from the page
        # cache alone: it must be durable before anybody is shown it.
        with self._errors("cannot be synced"):
            self._db.flush_wal(True)

    def _open(self) -> Rdict:
        path = str(self._directory)
        with self._errors("cannot be read"):
            losses = find_losses(self._directory)
            if losses and not in_use(self._directory):  # files that are being written look damaged
                # Before the log is touched: a crash between the two must not leave a store that has lost
                # something and looks whole.
                self._note_loss("; ".join(loss.text for loss in losses))
                make_visible(losses)
        try:
            return Rdict(path, _options(DBRecoveryMode.absolute_consistency()))
        except Exception as error:  # rocksdict raises nothing narrower
            if "orruption" not in str(error):
                raise StorageError(
                    f"the store {path} cannot be opened: {error}. "
                    f"If another process uses it, stop that one first"
                ) from error
            damage = str(error)
        self._note_loss(f"the log in {path} is damaged and was cut before the damage: {damage}")
        with self._errors(f"is damaged ({damage}) and cannot be opened"):
            return Rdict(path, _options(DBRecoveryMode.point_in_time()))

    def _note_loss(self, loss: str) -> None:
        """Write down, durably, that something will be lost, before it is: whoever opens the store
        next must hear of it, even if this opening ends at once."""
        with self._errors("cannot be written"), self._mark.open("w") as mark:
            mark.write(loss)
            mark.flush()
            os.fsync(mark.fileno())
            parent = os.open(self._directory, os.O_RDONLY)
            os.fsync(parent)
            os.close(parent)

    def accept_loss(self) -> None:
        with self._errors("cannot be written"):
            self._mark.unlink(missing_ok=True)

    @contextmanager
    def _errors(self, what: str) -> Iterator[None]:
        """The one place where RocksDB's errors, which are bare Exceptions, become ours."""
        try:
            yield
        except StorageError:
            raise
        except Exception as error:  # rocksdict raises nothing narrower
            raise self._error(what, error) from error

    def _error(self, what: str, error: Exception) -> StorageError:
        """Damage is told as such, whatever was being done when it was met: RocksDB finds it in its own
        time, and then fails the next call, a close as well as a read."""
        if "orruption" in str(error):
            return StorageError(f"the store {self._directory} is damaged: {error}{ADVICE}")
        return StorageError(f"the store {self._directory} {what}: {error}")

    def get(self, key: bytes) -> bytes | None:
        try:
            value: bytes | None = self._db.get(key)
        except Exception as error:  # rocksdict raises nothing narrower
            raise self._error("cannot be read", error) from error
        return value

    def apply(self, batch: Batch) -> None:
        writes = WriteBatch(raw_mode=True)
        put, delete = writes.put, writes.delete
        for key, value in batch.items():
            if value is None:
                delete(key)
            else:
                put(key, value)
        try:
            self._db.write(writes, self._write_options)
        except Exception as error:  # rocksdict raises nothing narrower
            if _BUSY.search(str(error)):
                raise StorageBusy(f"the store {self._directory} is busy: {error}") from error
            raise self._error("cannot be written", error) from error

    def sync(self) -> None:
        with self._errors("cannot be synced"):
            self._db.flush_wal(True)

    def scan(self, start: bytes, end: bytes) -> Iterator[tuple[bytes, bytes]]:
        bounds = ReadOptions()
        bounds.set_iterate_upper_bound(end)
        with self._errors("cannot be scanned"):
            cursor = self._db.iter(bounds)
            cursor.seek(start)
            while cursor.valid():
                yield cursor.key(), cursor.value()
                cursor.next()
            cursor.status()

    def close(self) -> None:
        with self._errors("cannot be closed"):
            self._db.close()
