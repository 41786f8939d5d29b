"""Durable files: small ones that must be there, whole, after a power cut.

What a file holds is durable once the file is synced; that it is there, or is no more, or has another name,
once its directory is (Pillai et al., "All file systems are not created equal", 2014). Knows nothing of what
the files say.
"""

import os
from contextlib import suppress
from pathlib import Path
from typing import Final

SECTOR_BYTES: Final = 512
_sync_data: Final = getattr(os, "fdatasync", os.fsync)  # not every system has it


def sync_path(path: Path) -> None:
    """Make durable what a file holds, or which files a directory has; OSError."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def replace_file(path: Path, text: str, mode: int = 0o600) -> None:
    """Write a file, or replace it, in one step: whoever opens it finds the old text or the new one; OSError.
    What is written on the way stands in a file beside it, whose name ends with .new."""
    # By plain system calls: a node does this once a second, and objects for files cost as much again.
    draft, rest = f"{path}.new", text.encode()
    descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC, mode)
    try:
        while rest:
            rest = rest[os.write(descriptor, rest) :]
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
    os.replace(draft, path)
    sync_path(path.parent)


def overwrite_file(path: Path, text: str) -> None:
    """As `replace_file`, of a text that is as long as the one before it: written over it, which takes a fifth
    of the time. Of at most a sector, for these a disk writes whole: the old one is found or the new one."""
    data = text.encode()
    assert len(data) <= SECTOR_BYTES
    with suppress(FileNotFoundError):
        descriptor = os.open(path, os.O_WRONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
        try:
            if os.fstat(descriptor).st_size == len(data) == os.pwrite(descriptor, data, 0):
                _sync_data(descriptor)
                return
        finally:
            os.close(descriptor)
    replace_file(path, text)
