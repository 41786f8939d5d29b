"""Cluster: three node processes on loopback, for the length of a block.

Owns a new directory with their configurations, stores and logs, and the processes themselves. Both
are gone when the block ends, however it ends: the nodes are killed, each by its pid, for their data
is of no further use. They run in sessions of their own, so that Ctrl-C reaches only the program
that then ends them; should it die without doing so, they stop when their stdin does.
"""

import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from basestore import sync
from basestore.config import Durability
from basestore.errors import RequestFailed, Unreachable
from basestore.local import prepare_cluster
from benchmarks.accounting import cpu_ns_of

SERVE = (sys.executable, "-m", "basestore", "serve", "--stop-at-eof", "--log-level", "warning", "--config")
NODES = 3
LINK_S_MAX = 30.0
POLL_S = 0.05
QUIET_POLL_S = 0.1
QUIET_SHARE = 0.2
QUIET_S_MAX = 5.0
LOG_TAIL_CHARACTERS = 2000


class ClusterFailed(Exception):
    """A node has ended, or the nodes did not find each other. The text holds the end of its log."""


@dataclass(frozen=True, slots=True)
class Cluster:
    """Three nodes that run and are linked."""

    directory: Path
    durability: Durability
    endpoints: list[str]
    processes: list["subprocess.Popen[bytes]"]

    @property
    def pids(self) -> list[int]:
        return [process.pid for process in self.processes]

    def check(self) -> None:
        """ClusterFailed if a node has ended."""
        for number, process in enumerate(self.processes, 1):
            if process.poll() is not None:
                log = (self.directory / f"n{number}.log").read_text(errors="replace")
                raise ClusterFailed(
                    f"n{number} has ended with {process.returncode}:\n{log[-LOG_TAIL_CHARACTERS:]}"
                )

    def wait_quiet(self) -> None:
        """Until the nodes have finished what earlier operations left behind (writes to the last
        replicas, compactions): until they use less than a fifth of a processor, or 5 s."""
        deadline = time.monotonic() + QUIET_S_MAX
        while time.monotonic() < deadline:
            began, before = time.monotonic(), cpu_ns_of(self.pids)
            time.sleep(QUIET_POLL_S)
            if cpu_ns_of(self.pids) - before < QUIET_SHARE * 1e9 * (time.monotonic() - began):
                return

    def _wait_linked(self) -> None:
        deadline = time.monotonic() + LINK_S_MAX
        while not all(map(_sees_all, self.endpoints)):
            self.check()
            if time.monotonic() > deadline:
                raise ClusterFailed(f"the nodes in {self.directory} were not linked within {LINK_S_MAX} s")
            time.sleep(POLL_S)


def _sees_all(endpoint: str) -> bool:
    """Whether the node there counts every member for levels."""
    try:
        with sync.connect(endpoint, timeout=2.0) as store:
            return len(store.node_status().facts["alive"].split()) == NODES
    except (Unreachable, RequestFailed):
        return False


@contextmanager
def start_cluster(parent: Path | None, durability: Durability) -> Iterator[Cluster]:
    """Start a new cluster in a directory inside `parent` (None: where temporary files go), and wait
    until its nodes are linked; ClusterFailed."""
    directory = Path(tempfile.mkdtemp(prefix="basestore-benchmark-", dir=parent))
    processes: list[subprocess.Popen[bytes]] = []
    try:
        configs = prepare_cluster(directory, NODES, None, durability)
        for config in configs:
            with (directory / f"{config.name}.log").open("wb") as log:
                command = [*SERVE, str(directory / f"{config.name}.toml")]
                processes.append(
                    subprocess.Popen(
                        command, stdin=subprocess.PIPE, stdout=log, stderr=log, start_new_session=True
                    )
                )
        cluster = Cluster(directory, durability, [config.member.address for config in configs], processes)
        cluster._wait_linked()
        yield cluster
    finally:
        for process in processes:
            process.kill()
        for process in processes:
            process.communicate()
        shutil.rmtree(directory, ignore_errors=True)
