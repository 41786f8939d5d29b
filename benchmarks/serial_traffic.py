"""Serial traffic: what one request makes nodes say to each other and sync, counted where it happens.

Nodes dial each other through relays, one before each, which count what goes by; and one client asks, one
request after the other. Of our nodes only messages are counted that serve requests, not heartbeats nor what
anti-entropy says, and the bytes of the frames that they stand in. Of etcd all bytes are: it is asked faster
than it beats. Syncs are counted by our nodes' engines, and told by etcd's metrics page; what is synced behind
the answers is in it.

*Round trips* are measured, not counted: the relays then keep back what they carry, both ways, and a request
takes that much longer for each time that its nodes wait for each other.
"""

import itertools
import json
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from basestore.config import NodeConfig
from benchmarks.closed_loop import Log, run
from benchmarks.cluster import NODES, start_cluster, wait_quiet
from benchmarks.etcd import etcd_version, figures, start_etcd
from benchmarks.register_systems import EtcdRegisters, OurRegisters, RegisterSystem
from benchmarks.relay import NOTHING, Carried, RelayProcess

REQUESTS = 60
DELAYED_REQUESTS = 12
DELAY_S = 0.01  # one way
RECORDS = 400
_SYNCS = "etcd_disk_wal_fsync_duration_seconds_count"


@dataclass(frozen=True, slots=True)
class TrafficRow:
    """Per request, whatever it was answered: round trips between nodes before it is; messages between nodes,
    by kind and in all, where they can be told; bytes between nodes; and syncs, of all nodes together.
    `errors`: how many requests were answered with one; if all were, round trips cannot be told."""

    system: str
    asked: str
    round_trips: float | None
    messages: float | None
    kinds: dict[str, float]
    bytes: float
    syncs: float
    errors: int


@dataclass(frozen=True, slots=True)
class Relayed:
    """A system whose nodes reach each other by `relays`. `addresses`: where these lead; `syncs`: how many
    there were."""

    system: RegisterSystem
    relays: Sequence[RelayProcess]
    addresses: Sequence[str]
    syncs: Callable[[], int]

    def slow_down(self, delay_s: float) -> None:
        for relay, address in zip(self.relays, self.addresses, strict=True):
            relay.lead_to(address, delay_s, delay_s)

    def carried(self) -> Carried:
        return sum((relay.carried() for relay in self.relays), NOTHING)

    def ask(self, asked: str, count: int) -> Log:
        """So many requests of one client, and what was left to do behind them."""
        (connection, wire, operations), *_ = self.system.clients(asked, 1)
        log = run([(connection, wire, itertools.islice(operations, count))])
        wait_quiet(self.system.pids)
        self.system.check()
        return log


def measure_traffic(parent: Path | None, etcd: str | None, say: Callable[[str], None]) -> list[TrafficRow]:
    """Of ours, and of etcd where there is that program. LoopFailed, ClusterFailed, CannotMeasure."""
    rows: list[TrafficRow] = []
    with relayed_cluster(parent) as relayed:
        say("counting what our nodes say to each other")
        relayed.system.fill()
        rows += [traffic_of(relayed, asked) for asked in relayed.system.own]
    if etcd is not None:
        with relayed_etcd(parent, etcd) as relayed:
            say("counting what etcd's members say to each other")
            relayed.system.fill()
            rows += [traffic_of(relayed, asked) for asked in relayed.system.own]
    return rows


def traffic_of(relayed: Relayed, asked: str) -> TrafficRow:
    """Of one thing that is asked. LoopFailed."""
    relayed.ask(asked, DELAYED_REQUESTS)  # the first writes of a row may need more
    before, synced = relayed.carried(), relayed.syncs()
    usual = relayed.ask(asked, REQUESTS)
    carried, synced = relayed.carried().since(before), relayed.syncs() - synced
    relayed.slow_down(DELAY_S)
    slow = relayed.ask(asked, DELAYED_REQUESTS)
    relayed.slow_down(0.0)
    kinds = {kind: round(count / REQUESTS, 2) for kind, count in sorted(carried.messages.items())}
    ours = isinstance(relayed.system, OurRegisters)
    return TrafficRow(
        relayed.system.name, asked, _round_trips(usual, slow),
        round(sum(carried.messages.values()) / REQUESTS, 2) if ours else None, kinds,
        round((carried.message_bytes if ours else carried.bytes) / REQUESTS, 1),
        round(synced / REQUESTS, 2),
        sum(usual.errors.values()),
    )  # fmt: skip


def _round_trips(usual: Log, slow: Log) -> float | None:
    """As many as make slow requests take so much longer: the quickest of each, for a busy machine adds to the
    others what it likes."""
    if not usual.ended or not slow.ended:
        return None
    usual_ns, slow_ns = (
        min(at - since for since, at in zip(log.began, log.ended, strict=True)) for log in (usual, slow)
    )
    return round((slow_ns - usual_ns) / 1e9 / (2 * DELAY_S), 1)


@contextmanager
def relayed_cluster(parent: Path | None) -> Iterator[Relayed]:
    """Three nodes of ours, that dial each other by way of relays; ClusterFailed."""
    with ExitStack() as stack:
        relays = [stack.enter_context(RelayProcess(looks=True)) for _ in range(NODES)]
        counted: list[Path] = []

        def program(config: NodeConfig) -> Sequence[str]:
            members = config.cluster.members
            counted.append(config.directory.with_suffix(".syncs"))
            alterations = {
                "detours": {m.address: r.address for m, r in zip(members, relays, strict=True)},
                "speculative": True,
                "syncs": str(counted[-1]),
            }
            for member, relay in zip(members, relays, strict=True):
                relay.lead_to(member.address, 0.0)
            return (sys.executable, "-m", "benchmarks.altered", json.dumps(alterations))

        cluster = stack.enter_context(start_cluster(parent, "sync", program=program))

        def syncs() -> int:
            return sum(path.stat().st_size for path in counted)

        yield Relayed(OurRegisters(cluster, RECORDS), relays, cluster.endpoints, syncs)


@contextmanager
def relayed_etcd(parent: Path | None, program: str) -> Iterator[Relayed]:
    """Three members of etcd, that dial each other by way of relays; CannotMeasure."""
    with ExitStack() as stack:
        relays = [stack.enter_context(RelayProcess()) for _ in range(NODES)]
        addresses: list[str] = []

        def reached(own: list[str]) -> list[str]:
            addresses[:] = own
            for relay, address in zip(relays, own, strict=True):
                relay.lead_to(address, 0.0)
            return [relay.address for relay in relays]

        etcd = stack.enter_context(start_etcd(parent, program, reached))

        def syncs() -> int:
            return round(sum(figures(port)[_SYNCS] for port in etcd.servers.ports))

        yield Relayed(EtcdRegisters(etcd, RECORDS, etcd_version(program)), relays, addresses, syncs)
