"""Salvage of a RocksDB store: read what can be read of one that is damaged, and put it aside.

One flipped bit spoils a block of a table, some 4 KiB of rows; RocksDB then refuses all of a scan that comes
to it, whatever other tables hold there. Up to where the block ends the others are read without its table
(`rocks_manifest.py`). Seeking tells where that is: a key inside of the block cannot be sought, the first
behind it can, and halving the way between a key of each sort comes to the border. A table that cannot be
opened at all is such a block as a whole.

How a store is put aside, so that an end at any moment loses nothing: a file SALVAGING says that it is under
way, and how far; while it is there the store does not open (`rocks_damage.py`), and doing it again goes on.
What is made of the rows is `server/salvage.py`'s affair.
"""

from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from shutil import rmtree

from rocksdict import AccessType, DBRecoveryMode, Options, Rdict, RdictIter

from basestore.errors import StorageError
from basestore.storage.durable_files import replace_file, sync_path
from basestore.storage.keyspace import after
from basestore.storage.rocks import options
from basestore.storage.rocks_damage import ELSEWHERE, MARK, SALVAGING, holder, in_use
from basestore.storage.rocks_manifest import gather_tables

_END = b"\xff" * 9  # behind all keys
_PARTS = "parts"  # stores of some of the tables, while it is read
_LEFT_OUT = "lost"  # RocksDB's name
_LONGER = 64


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
        for file in _files(directory) + _left_out(directory):
            file.rename(aside / file.name)
        replace_file(mark, f"building {name}")
    for file in _files(directory):  # of an attempt that was broken off
        file.unlink()
    return aside


def put_back(directory: Path, aside: Path) -> None:
    """Nothing can be made of the store: its files go back to where they were, for all that is known of it may
    be there. An opening is still told of the loss."""
    for file in _files(directory):
        file.unlink()
    replace_file(directory / SALVAGING, f"moving {aside.name}")
    for file in _left_out(aside) + _files(aside)[::-1]:
        file.rename(directory / file.name)
    rmtree(aside)
    end(directory)


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


def _left_out(directory: Path) -> list[Path]:
    """The folder of tables that RocksDB's repair has left out, if there is one."""
    return [folder for folder in (directory / _LEFT_OUT,) if folder.exists()]


class Wreck:
    """A damaged store, for reading. `listed`: it said which tables it had; else there may have been more."""

    def __init__(self, directory: Path) -> None:
        """StorageError when nothing of it can be read."""
        self._gaps: set[tuple[Path, bytes]] = set()  # by table, and behind them
        self._parts = directory / _PARTS
        self._open: dict[frozenset[Path], Rdict] = {}
        rmtree(self._parts, ignore_errors=True)  # of an attempt that was broken off
        try:
            names, self.listed = _tables(directory)
        except Exception as error:  # rocksdict raises nothing narrower
            text = f"nothing of the store {directory.parent} can be read: {error}{ELSEWHERE}"
            raise StorageError(text) from error
        self._tables = frozenset(name for name in names if name.exists())
        self._gaps.update((name, _END) for name in names if name not in self._tables)

    @property
    def gaps(self) -> int:
        """Ranges of a table that could not be read so far."""
        return len(self._gaps)

    def rows(self, start: bytes = b"", end: bytes = _END) -> Iterator[tuple[bytes, bytes]]:
        """The pairs that can be read with start <= key < end, in order."""
        return self._rows(self._tables, start, end)

    def _rows(self, tables: frozenset[Path], start: bytes, end: bytes) -> Iterator[tuple[bytes, bytes]]:
        while start < end and tables:
            cursor = self._cursor(tables)
            cursor.seek(start)
            while cursor.valid() and (key := cursor.key()) < end:
                yield key, cursor.value()
                start = after(key)
                cursor.next()
            if _sound(cursor):
                return
            # Up to where the first of the bad tables can be read again, the others are read without them.
            bad = {table: self._behind(table, start) for table in tables if not self._seeks(table, start)}
            self._gaps.update(bad.items())
            behind = min(end, *bad.values())
            yield from self._rows(tables.difference(bad) if bad else frozenset(), start, behind)
            start = behind

    def _behind(self, table: Path, bad: bytes) -> bytes:
        """The first key that can be sought in a table, behind one that cannot."""
        size = max(len(bad), len(_END)) + 1
        low, high = (int.from_bytes(key.ljust(size, b"\0")) for key in (bad, _END))
        step = 1
        while low + step < high:  # the nearest: there may be more than one bad block before the end
            if self._seeks(table, (low + step).to_bytes(size)):
                high = low + step
            else:
                low, step = low + step, 2 * step
        while True:
            while high - low > 1:
                middle = (low + high) // 2
                low, high = (low, middle) if self._seeks(table, middle.to_bytes(size)) else (middle, high)
            # Longer keys may lie between the two.
            if not self._seeks(table, low.to_bytes(size) + b"\xff" * _LONGER):
                return high.to_bytes(size)
            low, high, size = low << 8 * _LONGER, high << 8 * _LONGER, size + _LONGER

    def _seeks(self, table: Path, key: bytes) -> bool:
        cursor = self._cursor(frozenset((table,)))
        cursor.seek(key)
        return _sound(cursor)

    def _cursor(self, tables: frozenset[Path]) -> RdictIter:
        if tables not in self._open:
            directory = self._parts / str(len(self._open))
            gather_tables(directory, tables)
            self._open[tables] = Rdict(str(directory), _options(), access_type=AccessType.read_only())
        return self._open[tables].iter()

    def close(self) -> None:
        """Release it."""
        for part in self._open.values():
            with suppress(Exception):  # a broken store complains once more
                part.close()
        rmtree(self._parts, ignore_errors=True)


def _options() -> Options:
    """As lenient as can be; and nothing is made of the tables, good or bad."""
    lenient = options(DBRecoveryMode.point_in_time(), 0)
    lenient.set_paranoid_checks(False)
    lenient.set_disable_auto_compactions(True)
    return lenient


def _tables(directory: Path) -> tuple[list[Path], bool]:
    """The tables of a store; what its log holds becomes one of them. Where it does not tell them (the second
    is false), RocksDB's repair makes a new manifest, and puts those aside in which it finds damage."""
    path, listed = str(directory), True
    try:
        db = Rdict(path, _options())
    except Exception:  # noqa: BLE001 - rocksdict raises nothing narrower
        listed = False
        Rdict.repair(path, _options())
        db = Rdict(path, _options())
    names = [directory / file["name"].lstrip("/") for file in db.live_files()]
    db.close()
    return names + sorted((directory / _LEFT_OUT).glob("*.sst")), listed


def _sound(cursor: RdictIter) -> bool:
    """Whether it has met no damage."""
    try:
        cursor.status()
    except Exception:  # noqa: BLE001 - rocksdict raises nothing narrower
        return False
    return True
