"""A recording: every operation on the files of one directory, and the marks of who made them.

`Recorder` runs a program under `recorder.c` and reads back what that wrote down, in order.
"""

import enum
import os
import shutil
import struct
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import pytest

SOURCE = Path(__file__).with_name("recorder.c")
ROOT = Path(__file__).parent.parent.parent
RUN_S_MAX = 300.0
_ENTRY = struct.Struct("<BBHIQQ")


class Kind(enum.IntEnum):
    """What happened; the numbers are those of `recorder.c`."""

    CREATE = 1
    WRITE = 2
    TRUNCATE = 3
    RENAME = 4
    LINK = 5
    UNLINK = 6
    MKDIR = 7
    SYNC_BEGIN = 8
    SYNC_END = 9
    NOTE = 10


class Operation(NamedTuple):
    """One entry. `inode` says which file, where there is no `path`; `offset` is where a write went,
    how large a truncation left the file, or which thread syncs; `data` is what was written, a note,
    or the second path."""

    kind: Kind
    directory: bool
    inode: int
    path: str
    offset: int
    data: bytes

    @property
    def target(self) -> str:
        """The second path of a rename or a link."""
        return self.data.decode()


def parse(log: bytes) -> Iterator[Operation]:
    """The operations in a log; AssertionError when it ends inside one."""
    at = 0
    while at < len(log):
        kind, directory, path_bytes, data_bytes, inode, offset = _ENTRY.unpack_from(log, at)
        at += _ENTRY.size
        path = log[at : at + path_bytes].decode()
        data = log[at + path_bytes : at + path_bytes + data_bytes]
        at += path_bytes + data_bytes
        assert at <= len(log), "the log of the recorder ends inside an entry"
        yield Operation(Kind(kind), bool(directory), inode, path, offset, data)


class Recorder:
    """Runs programs whose file operations are to be seen. Skips the test where there is no compiler."""

    def __init__(self, workplace: Path) -> None:
        self._workplace = workplace
        self._shim = workplace / "recorder.so"
        compiler = shutil.which("cc")
        if compiler is None:
            pytest.skip("there is no C compiler (cc) to build recorder.c with")
        command = [compiler, "-shared", "-fPIC", "-O1", "-Wall", "-Werror", "-o", str(self._shim)]
        subprocess.run([*command, str(SOURCE), "-ldl", "-lpthread"], check=True)

    def record(self, directory: Path, module: str, *arguments: object) -> list[Operation]:
        """Run `python -m module directory arguments...` and return what it did below the directory."""
        log = self._workplace / f"{directory.name}.log"
        environment = {
            **os.environ,
            "LD_PRELOAD": str(self._shim),
            "RECORDER_DIRECTORY": f"{directory.resolve()}/",
            "RECORDER_LOG": str(log),
        }
        command = [sys.executable, "-m", module, str(directory.resolve()), *map(str, arguments)]
        subprocess.run(command, cwd=ROOT, env=environment, check=True, timeout=RUN_S_MAX)
        return list(parse(log.read_bytes()))


def paths_of(operations: Sequence[Operation]) -> Iterator[tuple[str, Operation]]:
    """Each operation that touches a file, with the name the file has at that moment."""
    names: dict[int, str] = {}
    for operation in operations:
        if operation.kind is Kind.CREATE:
            names[operation.inode] = operation.path
        elif operation.kind is Kind.RENAME:
            inode = next((i for i, name in names.items() if name == operation.path), None)
            if inode is not None:
                names = {i: name for i, name in names.items() if name != operation.target}
                names[inode] = operation.target
        if operation.kind is not Kind.NOTE:
            yield operation.path or names.get(operation.inode, ""), operation
