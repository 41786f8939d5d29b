"""Salvage of a RocksDB store: read what can be read of one that is damaged, and put it aside.

One flipped bit spoils a block of a table, some 4 KiB of rows; RocksDB then refuses all of a scan that comes
to it. Where such a block ends is found by seeking: a key inside of it cannot be sought, the first behind it
can, and halving the way between a key of each sort comes to the border. If the table cannot be opened at all,
RocksDB's own repair leaves it out, whole.

How a store is put aside, so that an end at any moment loses nothing: a file SALVAGING says that it is under
way, and how far; while it is there the store does not open (`rocks_damage.py`), and doing it again goes on.
What is made of the rows is `server/salvage.py`'s affair.
"""

from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from rocksdict import DBRecoveryMode, Rdict, RdictIter

from basestore.errors import StorageError
from basestore.storage.durable_files import replace_file, sync_path
from basestore.storage.keyspace import after
from basestore.storage.rocks import options
from basestore.storage.rocks_damage import MARK, SALVAGING, holder, in_use

_END = b"\xff" * 9  # behind all keys


def set_aside(directory: Path) -> Path:
    """Move the files of a store into a folder of its own inside the directory; returns the folder. An opening
    of the store is told of the loss from now on."""
    if in_use(directory):
        raise StorageError(f"the store {directory} is in use. {holder(directory)}")
    mark = directory / SALVAGING
    words = mark.read_text().split() if mark.exists() else []
    name = words[1] if len(words) > 1 else _unused(directory)
    aside = directory / name
    if words[:1] != ["building"]:
        replace_file(mark, f"moving {name}")
        replace_file(
            directory / MARK, "a damaged store was salvaged: what could not be read of it is missing"
        )
        aside.mkdir(mode=0o700, exist_ok=True)
        for file in _files(directory):
            file.rename(aside / file.name)
        replace_file(mark, f"building {name}")
    for file in _files(directory):  # of an attempt that was broken off
        file.unlink()
    return aside


def end(directory: Path) -> None:
    """The new store is there, durably: it may be opened."""
    (directory / SALVAGING).unlink()
    sync_path(directory)


def _unused(directory: Path) -> str:
    return next(name for at in range(1, 1 << 16) if not (directory / (name := f"damaged-{at}")).exists())


def _files(directory: Path) -> list[Path]:
    kept = (SALVAGING, MARK, "LOCK")
    # Without CURRENT the rest is not taken for a store.
    return sorted(
        (file for file in directory.iterdir() if file.is_file() and file.name not in kept),
        key=lambda file: file.name != "CURRENT",
    )


class Wreck:
    """A damaged store, for reading. `gaps`: ranges that could not be read so far."""

    def __init__(self, directory: Path) -> None:
        """StorageError when nothing of it can be read."""
        self.gaps = 0
        path, settings = str(directory), options(DBRecoveryMode.point_in_time(), 0)
        try:
            try:
                self._db = Rdict(path, settings)
            except Exception:  # noqa: BLE001 - rocksdict raises nothing narrower
                self.gaps += 1  # tables that are left out
                Rdict.repair(path, settings)
                self._db = Rdict(path, options(DBRecoveryMode.point_in_time(), 0))
        except Exception as error:  # rocksdict raises nothing narrower
            raise StorageError(f"nothing of the store {path} can be read: {error}") from error

    def rows(self, start: bytes = b"", end: bytes = _END) -> Iterator[tuple[bytes, bytes]]:
        """The pairs that can be read with start <= key < end, in order."""
        while start < end:
            cursor = self._db.iter()
            cursor.seek(start)
            while cursor.valid() and (key := cursor.key()) < end:
                yield key, cursor.value()
                start = after(key)
                cursor.next()
            if _sound(cursor):
                return
            self.gaps += 1
            start = self._behind(start, end)

    def _behind(self, bad: bytes, end: bytes) -> bytes:
        """The first key that can be sought, of those between one that cannot and the end."""
        size = max(len(bad), len(end)) + 1
        low, high = (int.from_bytes(key.ljust(size, b"\0")) for key in (bad, end))
        while high - low > 1:
            middle = (low + high) // 2
            low, high = (low, middle) if self._seeks(middle.to_bytes(size)) else (middle, high)
        return high.to_bytes(size)

    def _seeks(self, key: bytes) -> bool:
        cursor = self._db.iter()
        cursor.seek(key)
        return _sound(cursor)

    def close(self) -> None:
        """Release it."""
        with suppress(Exception):  # a broken store complains once more
            self._db.close()


def _sound(cursor: RdictIter) -> bool:
    """Whether it has met no damage."""
    try:
        cursor.status()
    except Exception:  # noqa: BLE001 - rocksdict raises nothing narrower
        return False
    return True
