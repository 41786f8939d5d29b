"""Damage: what RocksDB passes over in silence when it opens a store, looked for before it does.

    a recycled kind    a record says that it belongs to a log that was used before, as ours never are:
                       the rest of the file would be skipped, or read in circles for ever
    a short manifest   it ends inside a record: the files that it would name are forgotten
    a gap              a log does not begin where the one before it ends: batches are missing between
    no CURRENT         an empty store would be created beside the files of the old one

The records' checksums RocksDB checks itself. The format is that of its write-ahead log: blocks of
32 KiB, each record with checksum, length and kind, long ones in fragments. Reads files, and changes none.
"""

import fcntl
import os
import re
import struct
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

from basestore.errors import StorageError

ADVICE = (
    ". Start the node once with `basestore serve --config FILE --salvage`: what can be read is kept; the "
    "rest is recovered from other replicas, or said to be lost where there are too few"
)
ELSEWHERE = (
    ". See `basestore status`: if the other nodes are up and hold what it held, move the directory away and "
    "start again: the node will recover from them"
)
MARK = "LOST"
SALVAGING = "SALVAGING"

BLOCK_BYTES = 32 << 10
HEADER = struct.Struct("<IHB")  # checksum, length, kind
_BATCH = struct.Struct("<QI")  # what a record of a log begins with: sequence, count
_FIRST_KINDS = (1, 2)  # a whole record, and the first fragment of one
_LAST_KINDS = (1, 4)
_ZERO = 0  # room that was never written
_KINDS = (_ZERO, 1, 2, 3, 4)
_REFUSED_KIND = b"\xff"


class Loss(NamedTuple):
    """What is lost, in words; in which file, and where the strange record stands (-1: there is none)."""

    text: str
    file: Path
    strange: int


class _Frames(NamedTuple):
    """A file of records: where the first of a kind that we never write stands (-1: nowhere), whether
    the file ends with a record, and which sequences its first batch begins and its last one ends with."""

    strange: int
    complete: bool
    begin: int | None
    end: int | None
    gap: bool = False


def find_losses(directory: Path) -> list[Loss]:
    """What would be lost in silence; StorageError, which names the file, where the store must not be
    opened at all."""
    if (directory / SALVAGING).exists():
        raise StorageError(f"the store {directory} is being salvaged, or that was broken off{ADVICE}")
    return [*_look_at_manifest(directory), *_look_at_logs(directory)]


def make_visible(losses: Iterable[Loss]) -> None:
    """Turn each strange record into one that RocksDB stops at."""
    for _, log, strange in losses:
        if strange >= 0:
            with log.open("r+b") as file:
                file.seek(strange + HEADER.size - 1)
                file.write(_REFUSED_KIND)
                file.flush()
                os.fsync(file.fileno())


def in_use(directory: Path) -> bool:
    """Whether a process holds the store; RocksDB will then refuse it."""
    if _held_by(directory):
        return True
    with (directory / "LOCK").open("ab") as lock:
        try:
            fcntl.lockf(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            return True
    return False


def _held_by(directory: Path) -> str:
    """Which process holds the store, where the system tells (Linux); it may be this one. The file is not
    opened: to close it again would end this process's own lock on it, and let others in."""
    try:
        status = (directory / "LOCK").stat()
        locks = Path("/proc/locks").read_text()
    except OSError:
        return ""
    device = f"{os.major(status.st_dev):02x}:{os.minor(status.st_dev):02x}"
    # 1: POSIX  ADVISORY  WRITE 4711 fd:01:131 0 EOF
    held = re.search(rf"POSIX .* (\d+) {device}:{status.st_ino} ", locks)
    return held[1] if held else ""


def holder(directory: Path) -> str:
    """What to do about a store that is held, by whom the system says, or how to find that out."""
    found = _held_by(directory)
    if not found:
        return f"Perhaps another process uses it: `fuser {directory / 'LOCK'}` names it. Stop that one first"
    if found == str(os.getpid()):
        return "This process itself uses it already: close that node first"
    return f"Process {found} uses it: see which that is (`ps -fp {found}`), and stop it first"


def _look_at_manifest(directory: Path) -> Iterator[Loss]:
    current = directory / "CURRENT"
    if not current.exists():
        if any(file.stat().st_size for pattern in ("*.sst", "*.log") for file in directory.glob(pattern)):
            raise StorageError(f"the store {directory} is damaged: {current} is missing{ADVICE}")
        return  # a new store
    manifest = directory / current.read_text("latin-1").strip()
    if not manifest.is_file():
        return  # RocksDB refuses it
    frames = _look_at_frames(manifest)
    if frames.strange >= 0:
        what = f"is damaged: {manifest}, byte {frames.strange}"
        raise StorageError(f"the store {directory} {what}{ADVICE}")
    if not frames.complete:
        yield Loss(f"{manifest} is damaged: it ends inside a record", manifest, -1)


def _look_at_logs(directory: Path) -> Iterator[Loss]:
    end: int | None = None
    for log in sorted(directory.glob("[0-9]*.log"), key=lambda log: int(log.stem)):
        frames = _look_at_frames(log)
        if frames.strange >= 0:
            yield Loss(f"the log {log} is damaged and was cut before the damage", log, frames.strange)
        if frames.gap:
            yield Loss(f"batches are missing in the middle of the log {log}", log, -1)
        if end is not None and frames.begin is not None and frames.begin != end:
            yield Loss(f"before {log} batches are missing from the log", log, -1)
        # A log without a batch proves nothing: the gap is looked for from the one before it.
        end = frames.end if frames.begin is not None else end


def _look_at_frames(file: Path) -> _Frames:
    """Walk over the records."""
    data = file.read_bytes()
    at, complete, begin, end, opened, gap = 0, True, None, None, -1, False
    while len(data) - at >= HEADER.size:
        left = BLOCK_BYTES - at % BLOCK_BYTES
        # Too little room in the block for another header: it is padding.
        if left < HEADER.size:
            at += left
            continue
        _, length, kind = HEADER.unpack_from(data, at)
        if kind not in _KINDS:
            return _Frames(at, False, begin, end, gap)
        if kind == _ZERO and length == 0:
            at += left
            continue
        body = at + HEADER.size
        # A torn record. In a log RocksDB finds it by its checksum; in a manifest `complete` says so.
        if HEADER.size + length > left or body + length > len(data):
            return _Frames(-1, False, begin, end, gap)
        if kind in _FIRST_KINDS:
            opened = body if length >= _BATCH.size else -1  # its head is in two fragments
            if opened >= 0:
                first = _BATCH.unpack_from(data, body)[0]
                begin = first if begin is None else begin
                gap |= end is not None and first != end
        complete = kind in _LAST_KINDS
        if complete:
            # A batch's sequence and its count add up to the sequence that the next one must begin with.
            end = sum(_BATCH.unpack_from(data, opened)) if opened >= 0 else None
        at = body + length
    return _Frames(-1, complete and at >= len(data), begin, end, gap)
