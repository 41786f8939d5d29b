"""Plan: everything that a seed decides before the world begins.

A plan is plain data: who is there, how bad network, disks and clocks are, what the clients do, and
which faults come when. `drawing.py` makes it out of a seed; `Reduction` takes parts of it away, which is
how a failing one is made small. What is left does not change by what was taken away.
"""

from dataclasses import dataclass, replace
from functools import cached_property
from typing import NamedTuple

from basestore.config import Durability
from tests.simulation.workload import TTL_MS_MAX

JUMPS = ("clock beyond", "clock back", "clock wrong", "wrong start", "all clocks")
BEGIN_S = 0.6  # when the clients begin; the cluster is born by then


class Fault(NamedTuple):
    """One fault: when, what, to whom (and towards whom), for how long, how bad."""

    at: float
    kind: str
    machine: int
    other: int
    lasts: float
    size: float

    def digit(self, place: int) -> int:
        """A digit of its size: what it decides is the same, whatever faults are left out."""
        return int(self.size * 10**place) % 10


class NetworkPlan(NamedTuple):
    """`stream`: links keep order and lose nothing unless they break; otherwise every message may be
    lost, doubled and overtaken. `stray`: what was on a broken link may come on the next one.
    `encoded`: messages travel as bytes."""

    stream: bool
    latency_s: float
    heavy: float
    loss: float
    double: float
    stray: bool
    encoded: bool


class MachinePlan(NamedTuple):
    """Seconds of a sync and of a turn, ms that the clock is off, and how fast it runs."""

    sync_s: float
    turn_s: float
    offset_ms: int
    rate: float


class ClientPlan(NamedTuple):
    """`workload` as in `clients.py`; `loop_s`: think time of a closed loop, or time between the
    requests of an open one; `roams`: it changes nodes."""

    number: int
    workload: str
    open: bool
    loop_s: float
    roams: bool
    all_levels: bool


class RegisterClientPlan(NamedTuple):
    """Of a client that asks for registers alone, of so many rows: `loop_s` between two requests; `roams`: how
    often it changes its node; `transacts`: how often it asks for several rows at once."""

    number: int
    rows: int
    loop_s: float
    roams: float
    transacts: float = 0.0


@dataclass(frozen=True)
class Reduction:
    """What is kept of a plan. None keeps all. `machines` counts the first ones; an operation is
    named by its client and its place among the client's own."""

    faults: tuple[int, ...] | None = None
    clients: tuple[int, ...] | None = None
    seconds: float | None = None
    machines: int | None = None
    operations: tuple[tuple[int, int], ...] | None = None

    def __str__(self) -> str:
        words = []
        if self.faults is not None:
            words.append("--faults " + (",".join(map(str, self.faults)) or "none"))
        if self.clients is not None:
            words.append("--clients " + ",".join(map(str, self.clients)))
        if self.seconds is not None:
            words.append(f"--seconds {self.seconds!r}")
        if self.machines is not None:
            words.append(f"--machines {self.machines}")
        if self.operations is not None:
            words.append("--operations " + ",".join(f"{client}.{place}" for client, place in self.operations))
        return " ".join(words)


WHOLE = Reduction()


@dataclass(frozen=True)
class Plan:
    """One world."""

    seed: int
    theme: str
    replication: int
    partitions: int
    durability: Durability
    drift_ms_max: int
    timeout_ms_max: int
    hint_bytes_max: int
    seconds: float
    network: NetworkPlan
    machines: tuple[MachinePlan, ...]
    clients: tuple[ClientPlan, ...]
    faults: tuple[Fault, ...]
    rounds: bool = True  # anti-entropy runs by itself; otherwise only for forgetful stores
    hasty: bool = False  # rounds are short, and replicas close themselves to writes that linger
    operations: frozenset[tuple[int, int]] | None = None  # of clients and places; None: all
    hint_age_s_max: int = 0  # how long hints are kept; 0: drawn by the world
    wide: bool = False  # it was drawn from more than the plain worlds are; the rest is of such worlds only
    ttl_ms_max: int = TTL_MS_MAX
    rest: tuple[float, float] | None = None  # the clients ask nothing between these two moments
    library: bool = False  # sessions are the real client's, and reads ask how stale they may be
    operations_max: int = 0  # for how many operations a node has room; 0: as always
    requests_max: int = 0  # the same for requests of clients; 0: as always, and nothing floods
    operators: int = 0  # how many ask as operators do: converged, explain, replay --late
    moves: bool = False  # partitions move from member to member
    changes: bool = False  # and members come and go
    march: int = 0  # so many come, and as many leave, one after the other
    registers: tuple[RegisterClientPlan, ...] = ()  # who asks in place of clients

    @cached_property
    def clocks_jump(self) -> bool:
        return any(fault.kind in JUMPS for fault in self.faults)

    def reduced(self, kept: Reduction) -> "Plan":
        """Less of it."""
        faults, clients, registers = self.faults, self.clients, self.registers
        if kept.faults is not None:
            faults = tuple(fault for i, fault in enumerate(faults) if i in kept.faults)
        if kept.clients is not None:
            clients = tuple(client for i, client in enumerate(clients) if i in kept.clients)
            registers = tuple(client for i, client in enumerate(registers) if i in kept.clients)
        count = len(self.machines) if kept.machines is None else kept.machines
        return replace(
            self,
            faults=tuple(fault for fault in faults if max(fault.machine, fault.other) < count),
            clients=clients,
            registers=registers,
            seconds=self.seconds if kept.seconds is None else kept.seconds,
            machines=self.machines[:count],
            replication=min(self.replication, count),
            operations=None if kept.operations is None else frozenset(kept.operations),
        )
