"""Systems: what is measured beside each other: three nodes of ours, Redis with two replicas, Dynomite.

Each is told to write all keys once, and then asked for one window at a time. A cell is an operation at a
level of ours; the others have those cells in which they promise the same.
"""

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, NamedTuple, Protocol

from basestore import __version__
from basestore.config import Durability
from benchmarks.cluster import Cluster, start_cluster
from benchmarks.load import TIMEOUT_S, LoadProcess, Preload, Run
from benchmarks.machine import load_average
from benchmarks.neighbours import Neighbour, start_dynomite, start_redis, version_of
from benchmarks.report import percentile_ms
from benchmarks.resp import CannotMeasure, RespRun, run

WARM_UP_S = 0.5
FILL_CONNECTIONS = 64
REDIS = "redis"


class Cell(NamedTuple):
    """An operation at a level of ours, and of others what promises the same."""

    operation: Literal["write", "read"]
    level: str


WRITE = Cell("write", "quorum")
READ = Cell("read", "quorum")
READ_ONE = Cell("read", "one")
CELLS = (WRITE, READ, READ_ONE)


@dataclass(frozen=True, slots=True)
class Plan:
    """What to measure. `parent` is where the systems' directories are made, or None; programs that
    are None are left out."""

    durabilities: Sequence[Durability]
    window_s: float
    rounds: int
    connections: int
    keys: int
    parent: Path | None
    redis: str | None
    dynomite: str | None


@dataclass(frozen=True, slots=True)
class Sample:
    """One window. What cannot be said, because no operation ended well, is None. Processor times are
    per operation; `load` is the machine's load average when it began."""

    ops_per_s: float
    server_cpu_us: float | None
    client_cpu_us: float | None
    p50_ms: float | None
    p99_ms: float | None
    errors: int
    load: float


class System(Protocol):
    """What is measured: cells with what is asked in each, and how."""

    @property
    def name(self) -> str: ...
    @property
    def version(self) -> str: ...
    @property
    def asked(self) -> dict[Cell, str]: ...
    @property
    def pids(self) -> list[int]: ...

    def fill(self) -> None:
        """Write each key once."""

    def sample(self, cell: Cell, seed: int) -> tuple[Sample, list[str]]:
        """One window, and what its errors said."""


# --- the systems ---------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Ours:
    """Three nodes of basestore, each connection to one in turn."""

    plan: Plan
    cluster: Cluster
    load: LoadProcess
    name: str = "basestore"
    version: str = __version__

    @property
    def asked(self) -> dict[Cell, str]:
        return {WRITE: "set, QUORUM", READ: "get, QUORUM", READ_ONE: "get, ONE"}

    @property
    def pids(self) -> list[int]:
        return self.cluster.pids

    def fill(self) -> None:
        self.load.preload(Preload(self.cluster.endpoints, self.plan.keys))

    def sample(self, cell: Cell, seed: int) -> tuple[Sample, list[str]]:
        plan, load = self.plan, load_average()
        measured = self.load.run(
            Run(
                self.cluster.endpoints, self.cluster.pids, cell.operation, cell.level, plan.connections,
                plan.connections, 1, plan.keys, seed, WARM_UP_S, plan.window_s,
            )
        )  # fmt: skip
        self.cluster.check()
        latencies_ns = sorted(measured.latencies_ns)
        sample = Sample(
            measured.operations * 1e9 / measured.window_ns,
            _us_each(measured.server_cpu_ns, measured.operations),
            _us_each(measured.client_cpu_ns, measured.operations),
            percentile_ms(latencies_ns, 0.5),
            percentile_ms(latencies_ns, 0.99),
            sum(measured.errors.values()),
            load,
        )
        return sample, list(measured.errors)


@dataclass(frozen=True, slots=True)
class Theirs:
    """Servers that speak RESP. `wait_ms` is how long a write waits for a replica, if it says so at all."""

    plan: Plan
    name: str
    version: str
    asked: dict[Cell, str]
    servers: Neighbour
    generator: Path
    wait_ms: int | None = None

    @property
    def pids(self) -> list[int]:
        return self.servers.pids

    def fill(self) -> None:
        order = RespRun("fill", self.servers.ports, (), FILL_CONNECTIONS, self.plan.keys)
        filled = run(self.generator, order)
        if filled.errors:
            raise CannotMeasure(
                f"{self.name} refused {filled.errors} of its first writes: {filled.first_error}"
            )

    def sample(self, cell: Cell, seed: int) -> tuple[Sample, list[str]]:
        plan, load = self.plan, load_average()
        writes = cell.operation == "write"
        order = RespRun(
            "set" if writes else "get", self.servers.ports,
            self.pids, plan.connections, plan.keys, seed, WARM_UP_S, plan.window_s,
            self.wait_ms if writes else None,
        )  # fmt: skip
        measured = run(self.generator, order)
        self.servers.check()
        done = measured.operations
        sample = Sample(
            done * 1e9 / measured.window_ns,
            _us_each(measured.server_cpu_ns, done),
            _us_each(measured.client_cpu_ns, done),
            measured.p50_us / 1e3 if done else None,
            measured.p99_us / 1e3 if done else None,
            measured.errors,
            load,
        )
        return sample, [measured.first_error] if measured.errors else []


def _us_each(nanoseconds: int, operations: int) -> float | None:
    return nanoseconds / 1e3 / operations if operations else None


@contextmanager
def started(
    plan: Plan, durability: Durability, load: LoadProcess, generator: Path | None
) -> Iterator[list[System]]:
    """The systems that there are, side by side; ClusterFailed, CannotMeasure."""
    durable = durability == "sync"
    with ExitStack() as stack:
        cluster = stack.enter_context(start_cluster(plan.parent, durability))
        systems: list[System] = [Ours(plan, cluster, load)]
        if plan.redis is not None and generator is not None:
            redis = version_of(plan.redis)
            servers = stack.enter_context(start_redis(plan.parent, plan.redis, durable))
            asked = {WRITE: "SET + WAIT 1", READ_ONE: "GET, of the primary"}
            wait_ms = int(TIMEOUT_S * 1e3)
            systems.append(Theirs(plan, REDIS, redis, asked, servers, generator, wait_ms))
            if plan.dynomite is not None:
                version = f"{version_of(plan.dynomite)} on Redis {redis}"
                nodes = stack.enter_context(start_dynomite(plan.parent, plan.dynomite, plan.redis, durable))
                asked = {WRITE: "SET, DC_QUORUM", READ: "GET, DC_QUORUM"}
                systems.append(Theirs(plan, "dynomite", version, asked, nodes, generator))
        yield systems
