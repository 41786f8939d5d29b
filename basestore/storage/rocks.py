"""The engine on RocksDB (through rocksdict): the default, durable one.

A batch is written to the log unsynced, inside the caller's loop; `sync` flushes the log from a
thread, which does not hold the interpreter lock (a synced write would).

Opening recovers the log in the mode that refuses any damage. If it refuses, the store is opened
at the last whole point before the damage, and `loss` names what happened: its node then starts as
forgetful. Damage anywhere else (a table, the manifest) is an error that names the store. What a
damaged log loses without a trace (a file cut at a record's end) is found by peers, who remember
how far the store had come.
What RocksDB itself passes over is looked for before (`rocks_damage.py`). A disk that is full ends nothing:
the store is busy, and reads go on (`rocks_full.py`). Owns the directory of the store, and repairs nothing in
it beyond that.
"""

import fcntl
import re
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any, cast

from rocksdict import (
    AccessType,
    BlockBasedOptions,
    DBRecoveryMode,
    Options,
    Rdict,
    ReadOptions,
    WriteBatch,
    WriteOptions,
)

from basestore.errors import StorageBusy, StorageError, StorageFull
from basestore.storage.durable_files import replace_file
from basestore.storage.engine import Batch
from basestore.storage.rocks_damage import ADVICE, MARK, find_losses, holder, in_use, make_visible
from basestore.storage.rocks_full import (
    BROKEN_LOG,
    MARGIN_BYTES,
    broke_log,
    is_full,
    log_bytes,
    room_at,
    shown,
    sync_logs,
)

MEMTABLE_BYTES = 64 << 20
# On a small disk they are smaller, as are tables and levels: opening needs room for what one holds, and what
# RocksDB writes by itself must fit into the reserve (`replica/disk_space.py`).
MEMTABLES_A_DISK = 320
MEMTABLE_BYTES_MIN = 1 << 20
MEMTABLES_AT_ONCE = 14  # one becomes a table; a table and a dozen of the next level, or eight, are merged
LEVEL_MEMTABLES = 4  # in the first level; each one below takes ten times as much
REOPEN_S = 1.0
# How a store whose log found no room is opened again by the process that wrote it: its last record may be
# cut off, and is of the batch that was refused. The next process believes no such log.
_AGAIN = DBRecoveryMode.tolerate_corrupted_tail_records()
_BUSY = re.compile(r"Write stall|Incomplete", re.IGNORECASE)


def memtable_bytes(disk_bytes: int) -> int:
    """How much is kept in memory before it becomes a table, on a disk of this size."""
    return min(MEMTABLE_BYTES, max(MEMTABLE_BYTES_MIN, disk_bytes // MEMTABLES_A_DISK))


def own_bytes(disk_bytes: int) -> int:
    """About how much RocksDB writes by itself, of what it has taken already, before it gives up as much."""
    return MEMTABLES_AT_ONCE * memtable_bytes(disk_bytes)


def options(mode: DBRecoveryMode, disk_bytes: int) -> Options:
    """How a store on a disk of this size is opened."""
    options = Options(raw_mode=True)
    options.create_if_missing(True)
    options.set_wal_recovery_mode(mode)
    memtable = memtable_bytes(disk_bytes)
    options.set_write_buffer_size(memtable)
    options.set_target_file_size_base(memtable)
    options.set_max_bytes_for_level_base(LEVEL_MEMTABLES * memtable)
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

    def __init__(self, directory: Path, *, salvaging: bool = False) -> None:
        """Open or create; StorageError when the directory is in use or damaged beyond its log. `salvaging`:
        what is there of a store that is being made out of a damaged one, too."""
        self._directory = directory
        self._salvaging = salvaging
        self._mark = directory / MARK
        self.loss = ""
        with self._errors("cannot be created"):
            directory.mkdir(mode=0o700, parents=True, exist_ok=True)  # what is stored is its owner's alone
            self._disk_bytes = room_at(directory).size
        self._syncing = threading.Lock()  # held by a sync, and while the store is closed and opened again
        self._full = ""  # why batches are refused although RocksDB is not asked: its log is broken
        self._reopen_due_s = 0.0
        self._lock: IO[bytes] | None = None  # of a store that is open for reading only
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
            losses = [] if self._salvaging else find_losses(self._directory)
            if losses and not in_use(self._directory):  # files that are being written look damaged
                # Before the log is touched: a crash between the two must not leave a store that has lost
                # something and looks whole.
                self._note_loss("; ".join(loss.text for loss in losses))
                make_visible(losses)
        try:
            return Rdict(path, self.options(DBRecoveryMode.absolute_consistency()))
        except Exception as error:  # rocksdict raises nothing narrower
            if "orruption" not in str(error):
                text = f"the store {path} cannot be opened: {error}{self._advice(str(error))}"
                raise StorageError(text) from error
            damage = str(error)
        self._note_loss(f"the log in {path} is damaged and was cut before the damage: {damage}")
        with self._errors(f"is damaged ({damage}) and cannot be opened"):
            return Rdict(path, self.options(DBRecoveryMode.point_in_time()))

    def options(self, mode: DBRecoveryMode) -> Options:
        return options(mode, self._disk_bytes)

    def _advice(self, error: str) -> str:
        """What to do about a store that cannot be opened."""
        if is_full(error):
            needed = shown(log_bytes(self._directory) + MARGIN_BYTES)
            return (
                f". Its disk is full: {room_at(self._directory)}, and opening needs up to {needed}. Nothing "
                f"is lost. Free some space there, or make the disk larger, and start again"
            )
        if "Read-only file system" in error:
            return ". Its disk is mounted read-only: see why (`dmesg`), mount it writable, and start again"
        if "lock file" in error or "lock hold" in error:
            return f". {holder(self._directory)}"
        return ""

    def _note_loss(self, loss: str) -> None:
        """Write down, durably, that something will be lost, before it is: whoever opens the store
        next must hear of it, even if this opening ends at once."""
        with self._errors("cannot be written"):
            replace_file(self._mark, loss)

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

    def get_many(self, keys: list[bytes]) -> list[bytes | None]:
        with self._errors("cannot be read"):
            return cast("list[bytes | None]", self._db.get(cast("Any", keys)))

    def apply(self, batch: Batch) -> None:
        if self._full and not self._opened_again():
            raise StorageFull(self._full)
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
            text = str(error)
            if is_full(text):
                full = f"the disk of the store {self._directory} is full: {text}"
                if broke_log(text):
                    self._full = full
                raise StorageFull(full) from error
            if _BUSY.search(text):
                raise StorageBusy(f"the store {self._directory} is busy: {text}") from error
            raise self._error("cannot be written", error) from error

    def _opened_again(self) -> bool:
        """Open the store whose log is broken for reading, and once there is room for writing again."""
        now_s = time.monotonic()
        if now_s < self._reopen_due_s or not self._syncing.acquire(blocking=False):
            return False
        self._reopen_due_s = now_s + REOPEN_S
        try:
            with self._errors("cannot be opened again"):
                lock = self._lock or self._open_for_reading()
                needed = log_bytes(self._directory) + MARGIN_BYTES
                return room_at(self._directory).free >= needed and self._open_for_writing(lock)
        finally:
            self._syncing.release()

    def _open_for_reading(self) -> IO[bytes]:
        with self._but_for_room():  # it says so again, and cuts its log back
            self._db.close()
        sync_logs(self._directory)
        # RocksDB itself does not keep others away from what it only reads.
        self._lock = lock = (self._directory / "LOCK").open("ab")
        fcntl.lockf(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        options = self.options(_AGAIN)
        self._db = Rdict(str(self._directory), options, access_type=AccessType.read_only())
        return lock

    def _open_for_writing(self, lock: IO[bytes]) -> bool:
        self._db.close()
        lock.close()
        self._lock = None
        with self._but_for_room():
            self._db = Rdict(str(self._directory), self.options(_AGAIN))
            self._db.flush_wal(True)
            self._full = ""
        if self._full:
            self._open_for_reading()
        return not self._full

    @contextmanager
    def _but_for_room(self) -> Iterator[None]:
        """What fails for lack of room alone is no news: it has been told."""
        try:
            yield
        except Exception as error:  # rocksdict raises nothing narrower
            if BROKEN_LOG not in str(error) and not is_full(str(error)):
                raise

    def sync(self) -> None:
        with self._syncing, self._errors("cannot be synced"):
            try:
                if not self._full:
                    self._db.flush_wal(True)
                    return
            except Exception as error:  # rocksdict raises nothing narrower
                # A batch found no room just now: what came before it is whole in its log.
                if BROKEN_LOG not in str(error):
                    raise
            sync_logs(self._directory)

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
        with self._errors("cannot be closed"), self._but_for_room():
            self._db.close()
        if self._lock is not None:
            self._lock.close()
