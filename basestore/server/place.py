"""Place: the files by which a store knows that it lies where it was written, no copy and nothing less.

Each opening leaves an empty file of its own in the store's directory, PLACE-<generation>, and the store keeps
which that is: its inode, time of birth and file system. However a directory is copied or restored, the files
in it are others; a directory that is renamed keeps them. An example:

    opening A     the store keeps: the file of A is inode 70
    backup        cp -a: in the copy the file of A is inode 81
    opening B     the file of A is inode 70, as kept; the file of B is inode 72, and kept from now on
    restored      cp -a: the file of A is inode 90; the store, as of A, keeps 70: it is a copy

A crash in the middle of an opening leaves the files of both, and one of them fits. The one of an earlier
opening is written into before it is removed: a backup that consists of hard links has the same inode.

A file HELD says how many batches the store held when it was opened or closed last, or about a second ago. A
log that is cut between two of its records, or is gone, looks whole, and a directory with no more than such
files like one in which never a store was; the file tells them apart: it is written once all that it counts is
durable:

    opened       sequence 3     HELD says 3
    killed       sequence 90    HELD says 80    a log that is cut between 80 and 90 is found by peers only, so
                                                far as they have heard of it, and on one node by nobody
    closed       sequence 120   HELD says 120   a log that is cut anywhere is found by the store itself

So of a node that is alone the last second's writes can go without a word, and no more. No write waits for it.

What this does not see, an operator has to say (`serve --forgetful`): blocks that were copied beneath the file
system, as snapshots of a disk are; a directory that was moved aside and comes back. It draws no conclusion:
`replica/identity.py` does.
"""

import ctypes
import errno
import os
import struct
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from basestore.errors import StorageError
from basestore.replica.identity import Place
from basestore.storage.durable_files import overwrite_file, sync_path

NOWHERE: tuple[frozenset[Place], Place | None] = frozenset(), None  # of a store without a directory
_PREFIX = "PLACE-"
_HELD = "HELD"
_DIGITS = 20  # of what it says: no sequence has more, and each is written over the one before
_LEFT = b"a later opening has left this"
_AT_FDCWD = -100
_STATX_BTIME = 0x800
_STATX_BYTES = 256
_BORN = struct.Struct("=qI")  # seconds and nanoseconds, of `stx_btime`
_BORN_AT = 80
_NO_ROOM = (errno.ENOSPC, errno.EDQUOT)


@contextmanager
def taken(directory: Path, generation: bytes) -> Iterator[tuple[frozenset[Place], Place | None]]:
    """The files of earlier openings, and that of this one (None where the disk has no room for it), while
    the store in `directory` is opened; what is kept of them must be durable when the block ends. If it ends
    with an error, this opening leaves nothing. StorageError."""
    own = directory / f"{_PREFIX}{generation.hex()}"
    try:
        earlier = [path for path in directory.glob(f"{_PREFIX}*") if path != own]
        found = frozenset(place_of(path) for path in earlier if path.stat().st_size == 0)
        place = _make(own)
    except OSError as error:
        raise StorageError(f"the store in {directory} cannot be given a place: {error}") from error
    try:
        yield found, place
    except BaseException:
        with suppress(OSError):
            own.unlink()
        raise
    if place is not None:
        for path in earlier:
            _leave(path)


def held_in(directory: Path) -> int:
    """How many batches it was at least; 0 of a store that is new. More than any store has where the file is
    damaged: that is no new store, and nobody knows. StorageError."""
    try:
        return int((directory / _HELD).read_bytes())
    except FileNotFoundError:
        return 0
    except ValueError:
        return sys.maxsize
    except OSError as error:
        raise StorageError(f"the store in {directory} cannot be read: {error}") from error


def note_held(directory: Path, sequence: int) -> None:
    """All batches up to this one are durable."""
    # A disk without room takes no file; what the old one says is true all the same.
    with suppress(OSError):
        overwrite_file(directory / _HELD, f"{sequence:0{_DIGITS}}")


def place_of(path: Path) -> Place:
    """Which file this is; OSError. Where no time of birth is told, it is 0."""
    status = path.stat()
    return Place(status.st_ino, _born_ns(path), os.statvfs(path).f_fsid)


def _born_ns(path: Path) -> int:
    # The standard library does not tell it on Linux.
    statx = getattr(ctypes.CDLL(None), "statx", None)
    if statx is None:
        return int(getattr(path.stat(), "st_birthtime", 0) * 1e9)
    told = ctypes.create_string_buffer(_STATX_BYTES)
    if statx(_AT_FDCWD, os.fsencode(path), 0, _STATX_BTIME, told) or not told.raw[1] << 8 & _STATX_BTIME:
        return 0
    seconds, nanoseconds = _BORN.unpack_from(told, _BORN_AT)
    return int(seconds * 10**9 + nanoseconds)


def _make(path: Path) -> Place | None:
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except OSError as error:
        if error.errno in _NO_ROOM:
            return None
        raise
    os.close(descriptor)
    sync_path(path)
    sync_path(path.parent)
    return place_of(path)


def _leave(path: Path) -> None:
    # A disk without room takes no mark: then only a backup made of hard links can be taken for the store.
    with suppress(OSError):
        path.write_bytes(_LEFT)
    with suppress(OSError):
        path.unlink()
