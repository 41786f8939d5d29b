"""Real nodes as child processes on loopback: started, killed, paused, looked at.

A `Cluster` is a directory with a configuration, a store and a log for each node. Leaving its block
ends every process it started, by its pid, whatever happened inside; a failure carries the ends of
the logs with it.
"""

import os
import signal
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Self

from basestore import sync
from basestore.client.arguments import Consistency
from basestore.cluster.placement import Placement
from basestore.config import ClusterConfig, Durability, Member, NodeConfig
from basestore.config_file import dump
from basestore.consistency import Level
from basestore.errors import RequestFailed, Unreachable
from basestore.results.nodes import NodeState
from tests.worlds import forks
from tests.worlds.patience import PATIENCE_S, eventually
from tests.worlds.ports import free_ports

SERVE = ("serve", "--stop-at-eof", "--config")
PARTITIONS = 16
TIMEOUT_S = 2.5  # also how long a node that lost data waits before it recovers
LOG_TAIL_CHARACTERS = 3000


class NodeProcess:
    """One node: its configuration file, its store, its log, and its process while there is one."""

    def __init__(self, root: Path, config: NodeConfig) -> None:
        self.config = config
        self.name = config.name
        self.endpoint = config.member.address
        self.path = root / f"{config.name}.toml"
        self.log_path = root / f"{config.name}.log"
        self.directory = config.directory
        self.command: Sequence[str] = (sys.executable, "-m", "basestore", *SERVE)
        self.environment: Mapping[str, str] = {}
        self._process: forks.Process | None = None
        self._stdin: int | None = None
        root.mkdir(parents=True, exist_ok=True)
        self.configure(config)

    def configure(self, config: NodeConfig) -> None:
        """Write the configuration that the next start reads."""
        self.config = config
        self.endpoint = config.member.address
        self.directory = config.directory
        self.path.write_text(dump(config))

    @property
    def pid(self) -> int:
        assert self._process is not None, f"{self.name} was not started"
        return self._process.pid

    @property
    def running(self) -> bool:
        return self._process is not None and self._process.poll() is None

    @property
    def log(self) -> str:
        """All that the node has printed, in every one of its starts."""
        return self.log_path.read_text(errors="replace") if self.log_path.exists() else ""

    def start(self, environment: Mapping[str, str] | None = None) -> None:
        """Start the process; it may take a while until it serves."""
        assert not self.running, f"{self.name} runs already"
        told = {**os.environ, **self.environment, **(environment or {})}
        stdin, self._stdin = os.pipe()  # its end, should the tests be killed, ends the node
        with self.log_path.open("ab") as log, os.fdopen(stdin, "rb") as source:
            streams = (source.fileno(), log.fileno(), log.fileno())
            command = [*self.command, str(self.path)]
            self._process = forks.start(command, told, *streams, imported=forks.NODE)

    def signal(self, number: signal.Signals) -> None:
        """To this very process, if it still runs."""
        if self._process is not None:
            self._process.send_signal(number)

    def kill(self) -> None:
        """kill -9, and wait until it is gone."""
        self.signal(signal.SIGKILL)
        self.wait()

    def stop(self) -> None:
        """Ask it to end; it must do so cleanly."""
        self.signal(signal.SIGTERM)
        assert self.wait() == 0, f"{self.name} did not stop cleanly"

    def pause(self) -> None:
        """Freeze it: its sockets stay open, and nothing answers."""
        self.signal(signal.SIGSTOP)

    def resume(self) -> None:
        self.signal(signal.SIGCONT)

    def wait(self) -> int:
        """Until the process has ended by itself; its exit code."""
        assert self._process is not None, f"{self.name} was not started"
        code = self._process.wait(PATIENCE_S)
        if self._stdin is not None:
            os.close(self._stdin)
            self._stdin = None
        return code

    def end(self) -> None:
        """Leave no process behind."""
        if self._process is not None:
            self.kill()

    def store(self, consistency: Consistency = "quorum", timeout: float = TIMEOUT_S) -> sync.SyncStore:
        """A client of this node alone."""
        return sync.connect(self.endpoint, consistency=consistency, timeout=timeout)

    def status(self) -> NodeState | None:
        """What it says of itself, or None while it does not answer."""
        try:
            with self.store(timeout=2.0) as store:
                return store.node_status()
        except (Unreachable, RequestFailed):
            return None

    @property
    def state(self) -> str:
        """As `basestore status` would print it."""
        status = self.status()
        return "down" if status is None else status.state

    @property
    def reason(self) -> str:
        """Why it is not up, in words; empty while it does not answer."""
        status = self.status()
        return "" if status is None else status.facts["reason"]

    def says(self, state: str) -> bool:
        """Whether this is its state."""
        return self.state == state

    def logged(self, text: str) -> bool:
        """Whether its log says this somewhere."""
        return text in self.log

    def alive(self) -> set[str]:
        """The members that count for levels as this node sees it."""
        status = self.status()
        return set() if status is None else set(status.alive)

    def hints(self) -> dict[str, int]:
        """How many hints it keeps, by the node they are for."""
        found: list[dict[str, int]] = []

        def answers() -> bool:
            status = self.status()
            found.extend([] if status is None else [status.hints])
            return bool(found)

        eventually(answers, f"{self.name} answers")
        return found[0]

    def rss_bytes(self) -> int:
        """Memory that the process holds resident."""
        return self._memory("VmRSS")

    def peak_bytes(self) -> int:
        """The most that it ever was."""
        return self._memory("VmHWM")

    def _memory(self, name: str) -> int:
        for line in Path(f"/proc/{self.pid}/status").read_text().splitlines():
            if line.startswith(f"{name}:"):
                return int(line.split()[1]) << 10
        raise AssertionError(f"the kernel does not say how much memory {self.name} holds")


class Cluster:
    """Nodes n1, n2, ... in one directory. Iterating gives them in order."""

    def __init__(
        self,
        root: Path,
        nodes: int = 3,
        *,
        replication: int | None = None,
        durability: Durability = "sync",
        timeout_s_max: float = TIMEOUT_S,
        hosts: Sequence[str] = (),
    ) -> None:
        """Write the configurations. Nothing runs before `start`. `hosts`: where each node listens."""
        root.mkdir(parents=True, exist_ok=True)
        hosts = hosts or ["127.0.0.1"] * nodes
        members = tuple(Member(i, f"n{i}", f"{host}:{free_ports(1)}") for i, host in enumerate(hosts, 1))
        self.config = ClusterConfig(
            os.urandom(16),
            os.urandom(32),
            members,
            replication or min(3, nodes),
            PARTITIONS,
            timeout_ms_max=int(timeout_s_max * 1000),
        )
        self.nodes = [
            NodeProcess(root, NodeConfig(self.config, member.name, root / member.name, durability))
            for member in members
        ]

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for node in self.nodes:
            node.end()
        if error is not None:
            for node in self.nodes:
                error.add_note(f"--- the end of {node.name}'s log:\n{node.log[-LOG_TAIL_CHARACTERS:]}")

    def __iter__(self) -> Iterator[NodeProcess]:
        return iter(self.nodes)

    def start(self) -> None:
        """Start every node that does not run, and wait until all are linked."""
        for node in self.nodes:
            if not node.running:
                node.start()
        self.wait_linked()

    def wait_linked(self, nodes: Sequence[NodeProcess] = ()) -> None:
        """Until these nodes, or all, are up and count each other for levels."""
        waited = nodes or self.nodes
        names = {node.name for node in waited}
        for node in waited:
            eventually(
                partial(self._sees, node, names, waited),
                f"{node.name} counts {sorted(names)} for levels",
            )

    def wait_founded(self) -> None:
        """Until every node goes by a metadata group that is complete: by then it has said all its first
        epochs, at each of which what is asked waits for who is behind."""
        for node in self.nodes:
            eventually(partial(node.logged, "its voters are"), f"{node.name} knows of a complete group")

    def wait_forgetful(self) -> None:
        """Until every node says that it may have lost something."""
        for node in self.nodes:
            eventually(partial(node.says, "forgetful"), f"{node.name} knows that it may have lost something")

    @staticmethod
    def _sees(node: NodeProcess, names: set[str], needed: Sequence[NodeProcess]) -> bool:
        for each in needed:
            assert each.running, f"{each.name} has ended with {each.wait()}: {each.log[-1000:]}"
        return node.alive() >= names

    def kill_all(self) -> None:
        """kill -9 of every node, as near to at once as can be."""
        for node in self.nodes:
            node.signal(signal.SIGKILL)
        for node in self.nodes:
            node.wait()

    def replicas(self, key: bytes, bucket: str = "default") -> list[NodeProcess]:
        """The nodes that hold a key."""
        placement = Placement.of(self.config)
        partition = int.from_bytes(placement.row(bucket.encode(), key)[:2])
        return [self.nodes[index] for index in placement.replicas[partition]]


@contextmanager
def running(
    root: Path,
    nodes: int = 3,
    *,
    replication: int | None = None,
    durability: Durability = "sync",
    timeout_s_max: float = TIMEOUT_S,
) -> Iterator[Cluster]:
    """A cluster whose nodes all run and are linked."""
    with Cluster(
        root, nodes, replication=replication, durability=durability, timeout_s_max=timeout_s_max
    ) as cluster:
        cluster.start()
        yield cluster


def reads_at(node: NodeProcess, keys: Sequence[bytes], level: Level) -> dict[bytes, bytes | None]:
    """What one node answers for these keys; an AssertionError when a read fails."""
    with node.store(level) as store:
        results = store.get_many(keys)
    found: dict[bytes, bytes | None] = {}
    for key, result in zip(keys, results, strict=True):
        assert not isinstance(result, Exception), f"{node.name}, {key!r} at {level.name}: {result}"
        found[key] = result.value
    return found
