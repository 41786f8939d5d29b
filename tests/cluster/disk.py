"""A node's disk that can fail, lie, hang, or lose power: `failing_fsync.c` under a real process.

A killed process loses nothing that it has written, synced or not, so kill -9 alone cannot show a
missing sync. `cut_power` does: after the kill, it cuts every log of the store to the size that
the last sync covered.
"""

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.cluster.processes import NodeProcess

SOURCE = Path(__file__).with_name("failing_fsync.c")


def compile_shim(directory: Path) -> Path:
    """The shared object for LD_PRELOAD; skips the test where there is no compiler."""
    compiler = shutil.which("cc")
    if compiler is None:
        pytest.skip("there is no C compiler (cc) to build failing_fsync.c with")
    shim = directory / "failing_fsync.so"
    subprocess.run(
        [compiler, "-shared", "-fPIC", "-O1", "-Wall", "-Werror", "-o", str(shim), str(SOURCE), "-ldl"],
        check=True,
    )
    return shim


class Disk:
    """What lies under one node's store."""

    def __init__(self, node: NodeProcess, shim: Path) -> None:
        self._node = node
        self._shim = shim
        self._log = node.path.with_suffix(".syncs")
        self._hang = node.path.with_suffix(".hang")

    def start_node(
        self, *, fail_after: int | None = None, fail_grown: int | None = None, lie_after: int | None = None
    ) -> None:
        """Start the node on this disk; its syncs fail, or lie, after that many. Or they fail from the first
        that is to cover `fail_grown` bytes at once."""
        environment = {
            "LD_PRELOAD": str(self._shim),
            "SHIM_DIRECTORY": f"{self._node.directory.resolve()}/",
            "SHIM_LOG": str(self._log),
            "SHIM_HANG": str(self._hang),
        }
        if fail_after is not None:
            environment["SHIM_FAIL_AFTER"] = str(fail_after)
        if fail_grown is not None:
            environment["SHIM_FAIL_GROWN"] = str(fail_grown)
        if lie_after is not None:
            environment["SHIM_LIE_AFTER"] = str(lie_after)
        self._node.start(environment)

    def hang(self) -> None:
        """From now on no sync ends, until `recover`."""
        self._hang.touch()

    def recover(self) -> None:
        self._hang.unlink()

    @property
    def syncs(self) -> int:
        """How many syncs have worked so far."""
        return len(self._log.read_text().splitlines())

    def synced(self) -> dict[Path, int]:
        """By file, how much of it is certainly on the disk."""
        sizes: dict[Path, int] = {}
        for line in self._log.read_text().splitlines():
            size, path = line.split(" ", 1)
            sizes[Path(path)] = int(size)
        return sizes

    def cut_power(self) -> int:
        """Take from a dead node's logs what was never synced. Returns how many bytes that were."""
        assert not self._node.running
        sizes = self.synced()
        lost = 0
        for log in self._node.directory.glob("*.log"):
            whole, kept = log.stat().st_size, sizes.get(log, 0)
            if kept < whole:
                os.truncate(log, kept)
                lost += whole - kept
        return lost
