"""Cluster: node processes on loopback, for the length of a block.

Owns a new directory with their configurations, stores and logs, and the processes themselves. Both
are gone when the block ends, however it ends: the nodes are killed, each by its pid, for their data
is of no further use. They run in sessions of their own, so that Ctrl-C reaches only the program
that then ends them; should it die without doing so, they stop when their stdin does. Within the
block a node may be killed and started again, and nodes may join, and be stopped.
"""

import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from basestore import sync
from basestore.config import Durability, NodeConfig
from basestore.errors import RequestFailed, Unreachable
from basestore.server.local_cluster import HOST, config_path, free_ports, plan_cluster, write_cluster
from benchmarks.accounting import cpu_ns_of

NODE = (sys.executable, "-m", "basestore")
SERVE = ("serve", "--stop-at-eof", "--log-level", "warning", "--config")
NODES = 3
LINK_S_MAX = 120.0
JOIN_S_MAX = 60.0
STOP_S_MAX = 60.0
POLL_S = 0.05
QUIET_POLL_S = 0.1
QUIET_SHARE = 0.2
QUIET_S_MAX = 5.0
LOG_TAIL_CHARACTERS = 2000


Adapt = Callable[[NodeConfig], NodeConfig]
Program = Callable[[NodeConfig], Sequence[str]]


class ClusterFailed(Exception):
    """A node has ended, or the nodes did not find each other. The text holds the end of its log."""


@dataclass(frozen=True, slots=True)
class Cluster:
    """Nodes that run and are linked, unless one was killed. Nodes are named by their place: n1 is at 0."""

    directory: Path
    durability: Durability
    endpoints: list[str]
    processes: list["subprocess.Popen[bytes] | None"]
    commands: list[list[str]]

    @property
    def pids(self) -> list[int]:
        return [process.pid for process in self.processes if process is not None]

    def start(self, place: int) -> None:
        """Start a node that does not run; it may take a while until it serves."""
        with (self.directory / f"n{place + 1}.log").open("ab") as log:
            self.processes[place] = subprocess.Popen(
                self.commands[place], stdin=subprocess.PIPE, stdout=log, stderr=log, start_new_session=True
            )

    def kill(self, place: int) -> None:
        """kill -9 of a node, and wait until it is gone."""
        process = self.processes[place]
        if process is not None:
            self.processes[place] = None
            process.kill()
            process.communicate()

    def join(self, contact: int) -> int:
        """Make a node more a member, by way of one that runs, as an operator does; it is to be started yet.
        Its place; ClusterFailed."""
        place = len(self.processes)
        name, address = f"n{place + 1}", f"{HOST}:{free_ports(1)[0]}"
        words = ["join", self.endpoints[contact], "--name", name, "--address", address, "--no-serve"]
        words += ["--dir", str(self.directory), "--from", str(config_path(self.directory, "n1"))]
        words += ["--durability", self.durability]
        done = subprocess.run([*NODE, *words], capture_output=True, text=True, timeout=JOIN_S_MAX)
        if done.returncode:
            raise ClusterFailed(f"{name} could not join: {done.stderr}")
        self.endpoints.append(address)
        self.processes.append(None)
        self.commands.append([*NODE, *SERVE, str(config_path(self.directory, name))])
        return place

    def stop(self, place: int) -> None:
        """SIGTERM of a node, and wait until it has ended well; ClusterFailed."""
        process = self.processes[place]
        assert process is not None
        process.terminate()
        process.wait(STOP_S_MAX)
        if process.returncode:
            self.check()
        self.kill(place)

    def freeze(self, place: int, *, thaw: bool = False) -> None:
        """SIGSTOP of a node that runs, or SIGCONT."""
        process = self.processes[place]
        assert process is not None
        process.send_signal(signal.SIGCONT if thaw else signal.SIGSTOP)

    def log(self, place: int) -> str:
        """All that a node has said, in every one of its starts."""
        path = self.directory / f"n{place + 1}.log"
        return path.read_text(errors="replace") if path.exists() else ""

    def check(self) -> None:
        """ClusterFailed if a node has ended by itself."""
        for place, process in enumerate(self.processes):
            if process is not None and process.poll() is not None:
                tail = self.log(place)[-LOG_TAIL_CHARACTERS:]
                raise ClusterFailed(f"n{place + 1} has ended with {process.returncode}:\n{tail}")

    def wait_quiet(self) -> None:
        wait_quiet(self.pids)

    def wait_linked(self) -> None:
        """Until every node that was not killed counts just those for levels; ClusterFailed."""
        deadline = time.monotonic() + LINK_S_MAX
        running = [place for place, process in enumerate(self.processes) if process is not None]
        names = {f"n{place + 1}" for place in running}
        while not all(_counted(self.endpoints[place]) == names for place in running):
            self.check()
            if time.monotonic() > deadline:
                raise ClusterFailed(f"the nodes in {self.directory} were not linked within {LINK_S_MAX} s")
            time.sleep(POLL_S)


def wait_quiet(pids: Sequence[int]) -> None:
    """Until these processes have finished what earlier operations left behind (writes to the last
    replicas, compactions): until they use less than a fifth of a processor, or 5 s."""
    deadline = time.monotonic() + QUIET_S_MAX
    while time.monotonic() < deadline:
        began, before = time.monotonic(), cpu_ns_of(pids)
        time.sleep(QUIET_POLL_S)
        if cpu_ns_of(pids) - before < QUIET_SHARE * 1e9 * (time.monotonic() - began):
            return


def _counted(endpoint: str) -> set[str]:
    """The members that the node there counts for levels."""
    try:
        with sync.connect(endpoint, timeout=2.0) as store:
            return set(store.node_status().alive)
    except (Unreachable, RequestFailed):
        return set()


def _as_it_is(config: NodeConfig) -> NodeConfig:
    return config


def _as_usual(_config: NodeConfig) -> Sequence[str]:
    return NODE


@contextmanager
def start_cluster(
    parent: Path | None,
    durability: Durability,
    adapt: Adapt = _as_it_is,
    program: Program = _as_usual,
    nodes: int = NODES,
) -> Iterator[Cluster]:
    """Start a new cluster in a directory inside `parent` (None: where temporary files go), and wait
    until its nodes are linked; ClusterFailed. `adapt` changes a node's configuration before it is
    written; `program` is what runs it, and takes what `python -m basestore` takes."""
    directory = Path(tempfile.mkdtemp(prefix="basestore-benchmark-", dir=parent))
    configs = [adapt(config) for config in plan_cluster(directory, nodes, None, durability)]
    commands = [[*program(c), *SERVE, str(config_path(directory, c.name))] for c in configs]
    endpoints = [config.member.address for config in configs]
    cluster = Cluster(directory, durability, endpoints, [None] * nodes, commands)
    try:
        write_cluster(directory, configs)
        for place in range(nodes):
            cluster.start(place)
        cluster.wait_linked()
        yield cluster
    finally:
        for process in cluster.processes:
            if process is not None:
                process.kill()
        for place in range(len(cluster.processes)):
            cluster.kill(place)
        shutil.rmtree(directory, ignore_errors=True)
