"""A model of a file system in a power cut: what may be left of recorded operations.

It promises what POSIX does, and less than ext4 (after ALICE: Pillai et al., "All File Systems Are Not
Created Equal", OSDI 2014, which shows that file systems differ exactly in what they keep of
operations that nobody synced, and in which order):

- What was written to a file before a sync of that file began is kept once the sync has ended, its
  size included. Of later writes to it anything may be left: nothing, all, the first ones, or any
  sectors of 512 bytes, each whole or not at all. A missing sector shows what stood there before:
  older bytes, or zeros where the file has grown.
- Names (create, rename, link, unlink) are kept once the directory is synced; a sync of the file
  keeps none. Of later ones the first so many are done, in order. A rename is done or not.
- Files do not wait for each other, nor names for contents: a later write to one file may be kept
  without an earlier one to another, and a name without anything in its file.

Not in the model: sectors that are torn themselves, names out of order, garbage from other files.
"""

import enum
import random
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

from tests.crashes.recording import Kind, Operation

SECTOR_BYTES = 512


class Fate(enum.Enum):
    """What becomes of that which was not synced."""

    DROPPED = "dropped"
    KEPT = "kept"
    PREFIX = "prefix"
    TORN = "torn"
    MIXED = "mixed"  # drawn for each file, and for the names


SINGLE_FATES = [Fate.DROPPED, Fate.KEPT, Fate.PREFIX, Fate.TORN]


class _Change(NamedTuple):
    """An unsynced change of a file: bytes written at an offset, or (no bytes) a new size."""

    moment: int
    offset: int
    data: bytes | None


class _Name(NamedTuple):
    """An unsynced change of names: set to a file, or removed; `source` is removed along with it."""

    moment: int
    name: str
    file: "File | None"
    source: str = ""


class File:
    """One file, whatever its names: what is durable of it, and what came after."""

    def __init__(self) -> None:
        self.durable = bytearray()
        self.pending: list[_Change] = []
        self.syncs: dict[int, int] = {}  # by thread, when it began to sync

    def settle(self, begun: int) -> None:
        """A sync that began then has ended."""
        for change in self.pending:
            if change.moment < begun:
                _write(self.durable, change)
        self.pending = [change for change in self.pending if change.moment >= begun]

    def left(self, fate: Fate, chance: random.Random) -> bytes:
        """What the power cut leaves of the contents."""
        content = bytearray(self.durable)
        if fate is Fate.KEPT:
            chosen = self.pending
        elif fate is Fate.PREFIX:
            chosen = self._first(chance)
        else:
            chosen = []
        for change in chosen:
            _write(content, change)
        return bytes(content) if fate is not Fate.TORN else self._torn(chance)

    def _first(self, chance: random.Random) -> list[_Change]:
        """The first changes, the last of these cut at a sector or anywhere."""
        count = chance.randint(0, len(self.pending))
        chosen = self.pending[:count]
        if chosen and chosen[-1].data:
            last = chosen[-1]
            end = last.offset + chance.randint(0, len(last.data or b""))
            if chance.random() < 0.5:
                end = max(last.offset, end // SECTOR_BYTES * SECTOR_BYTES)
            chosen[-1] = last._replace(data=(last.data or b"")[: end - last.offset])
        return chosen

    def _torn(self, chance: random.Random) -> bytes:
        """The size of all changes, and of each sector what it held at some time since the sync."""
        versions = [bytes(self.durable)]
        content = bytearray(self.durable)
        for change in self.pending:
            _write(content, change)
        versions.append(bytes(content))
        size = len(content)
        if size > len(self.durable) and chance.random() < 0.5:
            size = chance.randint(len(self.durable), size)
        result = bytearray()
        for at in range(0, size, SECTOR_BYTES):
            sector = chance.choice(versions)[at : at + SECTOR_BYTES]
            result += sector.ljust(SECTOR_BYTES, b"\0")
        return bytes(result[:size])


def _write(content: bytearray, change: _Change) -> None:
    size = change.offset if change.data is None else max(len(content), change.offset + len(change.data))
    content.extend(bytes(max(0, size - len(content))))
    if change.data is None:
        del content[size:]
    else:
        content[change.offset : change.offset + len(change.data)] = change.data


class FileSystem:
    """The directory as the operations make it. `base` is what was there, durably, before."""

    def __init__(self, base: dict[str, bytes] | None = None, inodes: dict[str, int] | None = None) -> None:
        self._durable_names: dict[str, File] = {}
        self._pending_names: list[_Name] = []
        self._names: dict[str, File] = {}
        self._files: dict[int, File] = {}
        self._index = 0
        self._directory_syncs: dict[int, int] = {}
        for name, content in (base or {}).items():
            file = File()
            file.durable = bytearray(content)
            self._durable_names[name] = self._names[name] = file
            self._files[(inodes or {})[name]] = file

    def play(self, operations: Iterable[Operation], *, syncs: bool = True) -> None:
        """Let these happen. Without `syncs` the disk lies: what it says it has synced it has not."""
        for operation in operations:
            self._index += 1
            if operation.kind in (Kind.SYNC_BEGIN, Kind.SYNC_END):
                if syncs:
                    self._sync(operation)
            elif operation.kind in (Kind.WRITE, Kind.TRUNCATE):
                data = operation.data if operation.kind is Kind.WRITE else None
                change = _Change(self._index, operation.offset, data)
                self._files[operation.inode].pending.append(change)
            elif operation.kind is not Kind.NOTE and operation.path:
                self._rename(operation)

    def _sync(self, operation: Operation) -> None:
        thread = operation.offset
        syncs = self._directory_syncs if operation.directory else self._files[operation.inode].syncs
        if operation.kind is Kind.SYNC_BEGIN:
            syncs[thread] = self._index
            return
        begun = syncs.pop(thread, 0)  # one that began when the disk lied has done nothing
        if not operation.directory:
            self._files[operation.inode].settle(begun)
            return
        for change in self._pending_names:
            if change.moment < begun:
                _name(self._durable_names, change)
        self._pending_names = [change for change in self._pending_names if change.moment >= begun]

    def _rename(self, operation: Operation) -> None:
        path, index = operation.path, self._index
        if operation.kind is Kind.CREATE:
            file = self._files[operation.inode] = File()
            change = _Name(index, path, file)
        elif operation.kind is Kind.RENAME:
            change = _Name(index, operation.target, self._names[path], path)
        elif operation.kind is Kind.LINK:
            change = _Name(index, operation.target, self._names[path])
        elif operation.kind is Kind.UNLINK:
            change = _Name(index, path, None)
        else:
            raise AssertionError(f"the model knows no directories inside the directory: {path}")
        _name(self._names, change)
        self._pending_names.append(change)

    def files(self) -> dict[str, bytes]:
        """All files as a reader sees them while the power is on."""
        chance = random.Random(0)
        return {name: file.left(Fate.KEPT, chance) for name, file in self._names.items()}

    def cut(self, fate: Fate, chance: random.Random) -> dict[str, bytes]:
        """A directory that a power cut could leave now."""

        def draw() -> Fate:
            return chance.choice(SINGLE_FATES) if fate is Fate.MIXED else fate

        names = dict(self._durable_names)
        pending = self._pending_names
        names_fate = draw()
        if names_fate is Fate.DROPPED:
            pending = []
        elif names_fate is not Fate.KEPT:
            pending = pending[: chance.randint(0, len(pending))]
        for change in pending:
            _name(names, change)
        return {name: file.left(draw(), chance) for name, file in sorted(names.items())}


def _name(names: dict[str, File], change: _Name) -> None:
    if change.file is None:
        names.pop(change.name, None)
    else:
        names.pop(change.source, None)
        names[change.name] = change.file


def lay_out(files: dict[str, bytes], directory: Path) -> None:
    """Make a directory with these files; it must not be there yet."""
    directory.mkdir(parents=True)
    for name, content in files.items():
        (directory / name).write_bytes(content)
